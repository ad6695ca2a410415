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


@dataclass(frozen=True)
class Norm:
    """A batch norm in evaluation mode: scale · x + shift, both ``(C,)``; no scale is 0."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], prefix: str, epsilon: float) -> Norm:
        """Of a state dict's entries ``prefix`` + weight, bias, running_mean, running_var."""
        scale = weights[prefix + "weight"] / (weights[prefix + "running_var"] + epsilon).sqrt()
        shift = weights[prefix + "bias"] - weights[prefix + "running_mean"] * scale
        # A channel that is switched off still passes its shift on.
        return cls(torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale), shift)

    @classmethod
    def none(cls, channels: int, like: Tensor) -> Norm:
        """That changes nothing, of the type and on the device of ``like``."""
        return cls(like.new_ones(channels), like.new_zeros(channels))

    @property
    def border(self) -> Tensor:
        """What becomes 0."""
        return -self.shift / self.scale

    def taken_into(self, kernel: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Kernel ``(O, C, K, K)`` and bias ``(O,)`` that read what the norm gets in place of what it gives."""
        shifted = (kernel * self.shift[:, None, None]).sum((1, 2, 3))
        return kernel * self.scale[:, None, None], shifted if bias is None else bias + shifted


def fold(weights: Mapping[str, Tensor], crop_size: int) -> tuple[list[FoldedBlock], Tensor, Tensor]:
    """Blocks without norms, and the linear layer.

    Args:
        weights: ``StridedEncoder.state_dict()``.
        crop_size: side of the crops, pixels.

    Returns:
        The blocks; the linear layer's weight ``(128, O, S, S)`` of the last block's output, and its bias ``(128,)``.
    """
    blocks, norms = fold_blocks(weights, "blocks.", crop_size)
    side = blocks[-1].side // 2
    linear = weights["linear.weight"].detach().float().reshape(-1, len(norms[-1].scale), side, side)
    return blocks, *norms[-1].taken_into(linear, weights["linear.bias"].detach().float())


def fold_blocks(weights: Mapping[str, Tensor], prefix: str, side: int) -> tuple[list[FoldedBlock], list[Norm]]:
    """Four ``EncoderBlock`` without their norms, and the norm that each one's output has lost.

    Args:
        weights: a state dict; the blocks' names begin with ``prefix`` and their number.
        prefix: see above.
        side: of the first one's input, pixels.
    """
    exact = {name: tensor.detach().float() for name, tensor in weights.items() if name.startswith(prefix)}
    first = exact[f"{prefix}0.convolution.weight"]
    before = Norm.none(first.shape[1], first)
    blocks, norms = [], []
    for number in range(_BLOCKS):
        block = f"{prefix}{number}."
        kernel, mean, variance = (
            exact[block + name] for name in ("convolution.weight", "norm.running_mean", "norm.running_var")
        )
        bias = exact[block + "convolution.bias"] + (kernel * before.shift[:, None, None]).sum((1, 2, 3))
        blocks.append(FoldedBlock(kernel, before.scale, bias, before.border, mean, variance.sqrt(), side))
        before = Norm.of(exact, block + "norm.", EncoderBlock.EPSILON)
        norms.append(before)
        side //= 2
    return blocks, norms


def padded(x: Tensor, border: Tensor, channels_last: bool, after: int = 2, zero: bool = False) -> Tensor:
    """A layer's input with its border, ``(B, C, S + 1 + after, …)`` of the border's type. Scriptable.

    Args:
        x: ``(B, C, S, S)``.
        border: ``(C,)``.
        channels_last: the memory's order, else channels first.
        after: pixels after the last row and column; there is one before the first.
        zero: the border is 0, which is written faster.
    """
    count, channels, rows, columns = x.shape
    high, wide = rows + 1 + after, columns + 1 + after
    if channels_last:
        y = torch.empty(count, high, wide, channels, dtype=border.dtype, device=x.device).permute(0, 3, 1, 2)
    else:
        y = torch.empty(count, channels, high, wide, dtype=border.dtype, device=x.device)
    # Everywhere first: for small maps two writes take less than one for each side.
    if zero:
        y.zero_()
    else:
        y.copy_(border[:, None, None])
    y[:, :, 1 : rows + 1, 1 : columns + 1] = x
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
