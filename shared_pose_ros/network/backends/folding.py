"""The encoder with its batch norms folded into the layers after them: what the fused forms of it have in common.

A block is y = s · relu(w ∗ pad₀(x) + b) + t with s, t of its norm. s and t go into the next layer, w' = w · s and
b' = b + Σ w · t, exactly also at the border if that is padded with −t/s instead of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_pose_ros.network.strided_encoder import EncoderBlock

LAYOUT_BATCH = 8
"""Crops that oneDNN chooses the layout of the weights for; others run with it too."""
_BLOCKS = 4


@dataclass(frozen=True)
class FoldedBlock:
    """relu(kernel ∗ pad(x) + bias), fp32.

    Attributes:
        unscaled: ``(O, I, 5, 5)``, the kernel as it was trained.
        scale: ``(I,)``, its inputs' factors.
        bias: ``(O,)``.
        border: ``(I,)``, what its input is padded with.
        mean: ``(O,)`` of its output in training.
        deviation: ``(O,)``, standard, of the same.
        side: of its input without the border, pixels.
    """

    unscaled: Tensor
    scale: Tensor
    bias: Tensor
    border: Tensor
    mean: Tensor
    deviation: Tensor
    side: int

    @property
    def kernel(self) -> Tensor:
        """``(O, I, 5, 5)``, a new one each time: they are large, and so only one need be held."""
        return self.unscaled * self.scale[:, None, None]


def fold(weights: Mapping[str, Tensor], crop_size: int) -> tuple[list[FoldedBlock], Tensor, Tensor]:
    """Blocks without norms, and the linear layer.

    Args:
        weights: ``StridedEncoder.state_dict()``.
        crop_size: side of the crops, pixels.

    Returns:
        The blocks; the linear layer's weight ``(128, O, S, S)`` of the last block's output, and its bias ``(128,)``.
    """
    exact = {name: tensor.detach().float() for name, tensor in weights.items()}
    side, channels = crop_size, exact["blocks.0.convolution.weight"].shape[1]
    scale, shift = exact["linear.weight"].new_ones(channels), exact["linear.weight"].new_zeros(channels)
    blocks = []
    for number in range(_BLOCKS):
        block = f"blocks.{number}."
        kernel, mean, variance = (
            exact[block + name] for name in ("convolution.weight", "norm.running_mean", "norm.running_var")
        )
        bias = exact[block + "convolution.bias"] + (kernel * shift[:, None, None]).sum((1, 2, 3))
        blocks.append(FoldedBlock(kernel, scale, bias, -shift / scale, mean, variance.sqrt(), side))
        scale = exact[block + "norm.weight"] / (variance + EncoderBlock.EPSILON).sqrt()
        shift = exact[block + "norm.bias"] - mean * scale
        # A channel that is switched off still passes its shift on.
        scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
        side //= 2
    linear = exact["linear.weight"].reshape(-1, len(scale), side, side)
    bias = exact["linear.bias"] + (linear * shift[:, None, None]).sum((1, 2, 3))
    return blocks, linear * scale[:, None, None], bias


def padded(x: Tensor, border: Tensor, channels_last: bool) -> Tensor:
    """A block's input with its border, ``(B, C, S + 3, S + 3)`` of the border's type. Scriptable.

    Args:
        x: ``(B, C, S, S)``.
        border: ``(C,)``.
        channels_last: the memory's order, else channels first.
    """
    count, channels, rows, columns = x.shape
    if channels_last:
        y = torch.empty(count, rows + 3, columns + 3, channels, dtype=border.dtype, device=x.device).permute(0, 3, 1, 2)
    else:
        y = torch.empty(count, channels, rows + 3, columns + 3, dtype=border.dtype, device=x.device)
    # Everywhere first: for small maps two writes take less than one for each side.
    y.copy_(border[:, None, None])
    y[:, :, 1:-2, 1:-2] = x
    return y


def patches(y: Tensor) -> Tensor:
    """What the kernels read of a padded map, ``(B · S/2 · S/2, 25 · C)``: rows, columns, channels. Scriptable.

    Args:
        y: ``(B, C, S + 3, S + 3)``, channels last in memory.
    """
    count, channels, rows, columns = y.shape
    side, row = (rows - 3) // 2, columns * channels
    # A kernel's row is contiguous: five pixels with all their channels.
    shape, strides = [count, side, side, 5, 5 * channels], [rows * row, 2 * row, 2 * channels, row, 1]
    return y.as_strided(shape, strides).reshape(count * side * side, 25 * channels)


def as_matrix(kernel: Tensor) -> Tensor:
    """A kernel ``(O, C, K, K)`` as the matrix ``(O, K · K · C)`` for patches: rows, columns, channels."""
    return kernel.permute(0, 2, 3, 1).flatten(1)
