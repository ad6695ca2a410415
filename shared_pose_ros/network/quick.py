"""The same network, quicker: norms folded into the next layer, weights laid out once, the encoder in another precision.

The encoder's convolutions are nearly all of the work. Crop, head, rotations and merging stay as they are, in fp32.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder import CODE_SIZE, EncoderBlock
from shared_pose_ros.network.precision import has_bf16

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BLOCKS = 4
_BATCH = 8  # that oneDNN chooses the layout of the weights for; others run with it too


class QuickEncoder(nn.Module):
    """``Encoder`` in evaluation mode, in another form. Scriptable.

    A block is y = s · relu(w ∗ pad₀(x) + b) + t with s, t of its norm. s and t go into the next layer,
    w' = w · s and b' = b + Σ w · t, exactly also at the border if that is padded with −t/s instead of zero. On x86
    oneDNN adds bias and ReLU within the convolution and gets the weights in the layout that it computes in; elsewhere
    the convolutions are torch's.

    Args:
        weights: ``Encoder.state_dict()``, on the device where it is to run.
        crop_size: side of the crops, pixels.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(self, weights: Mapping[str, Tensor], crop_size: int, precision: str) -> None:
        super().__init__()
        exact = {name: tensor.detach().float() for name, tensor in weights.items()}
        self.dtype = dtype = _DTYPES[precision]
        self.packed = _can_pack(exact["linear.weight"].device, precision)
        # What oneDNN's kernels, and cuDNN's for short floats, read; cuDNN's for fp32 do not.
        self.channels_last = self.packed or precision != "fp32"
        kernels: list[Tensor] = []
        biases: list[Tensor] = []
        borders: list[Tensor] = []
        side, channels = crop_size, exact["blocks.0.convolution.weight"].shape[1]
        scale, shift = exact["linear.weight"].new_ones(channels), exact["linear.weight"].new_zeros(channels)
        for number in range(_BLOCKS):
            block = f"blocks.{number}."
            kernel = exact[block + "convolution.weight"]
            biases.append(
                (exact[block + "convolution.bias"] + (kernel * shift[:, None, None]).sum((1, 2, 3))).to(dtype)
            )
            borders.append((-shift / scale)[:, None, None].to(dtype))
            kernels.append(self._laid_out((kernel * scale[:, None, None]).to(dtype), side))
            scale = exact[block + "norm.weight"] / (exact[block + "norm.running_var"] + EncoderBlock.EPSILON).sqrt()
            shift = exact[block + "norm.bias"] - exact[block + "norm.running_mean"] * scale
            # A channel that is switched off still passes its shift on.
            scale = torch.where(scale.abs() < 1e-6, torch.full_like(scale, 1e-6), scale)
            side //= 2
        linear = exact["linear.weight"].reshape(CODE_SIZE, len(scale), side * side)
        self.linear_bias = (exact["linear.bias"] + (linear * shift[:, None]).sum((1, 2))).to(dtype)
        # In the order of the last map's memory: rows, columns, channels.
        self.linear_weight = (linear * scale[:, None]).transpose(1, 2).flatten(1).to(dtype)
        self.kernels, self.biases, self.borders = kernels, biases, borders

    def forward(self, crops: Tensor) -> Tensor:
        """Codes ``(B, 128)`` float32 of normalised crops ``(B, 3, S, S)`` float32."""
        if crops.shape[0] == 0:
            return torch.zeros(0, self.linear_bias.shape[0], device=crops.device)
        x = crops
        for number, kernel in enumerate(self.kernels):
            count, channels, rows, columns = x.shape
            y = torch.empty(count, channels, rows + 3, columns + 3, dtype=self.dtype, device=x.device)
            if self.channels_last:
                y = y.view(count, rows + 3, columns + 3, channels).permute(0, 3, 1, 2)
            y[:, :, 1:-2, 1:-2] = x
            border = self.borders[number]
            y[:, :, :1] = border
            y[:, :, -2:] = border
            y[:, :, :, :1] = border
            y[:, :, :, -2:] = border
            if self.packed:
                x = torch.ops.mkldnn._convolution_pointwise(
                    y, kernel, self.biases[number], [0, 0], [2, 2], [1, 1], 1, "relu", [], ""
                )
            else:
                x = F.relu(F.conv2d(y, kernel, self.biases[number], stride=[2, 2]))
        flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        return F.linear(flat, self.linear_weight, self.linear_bias).to(torch.float32)

    def _laid_out(self, kernel: Tensor, side: int) -> Tensor:
        """The kernel in the memory layout that the convolution reads fastest."""
        if self.packed:
            size = [_BATCH, kernel.shape[1], side + 3, side + 3]
            return torch.ops.mkldnn._reorder_convolution_weight(kernel.contiguous(), [0, 0], [2, 2], [1, 1], 1, size)
        return kernel.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def _can_pack(device: torch.device, precision: str) -> bool:
    """Whether oneDNN's own convolution can be had; it is torch's private way (of torch.compile) to ask for it."""
    has_it = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    x86 = device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    return x86 and has_it and (precision == "fp32" or has_bf16())


class QuickNetwork(nn.Module):
    """A network with a ``QuickEncoder`` in place of its own. Scriptable.

    Args:
        network: ``PoseNetwork`` or ``CodebookNetwork`` in evaluation mode, scripted or not; it stays as it is.
        crop_size: side of the crops, pixels.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(self, network: nn.Module, crop_size: int, precision: str) -> None:
        super().__init__()
        self.network = network
        self.head = network.head  # PixelsToHypotheses asks it for n
        self.encoder = QuickEncoder(network.encoder.state_dict(), crop_size, precision)

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and logits ``(B, n)`` of normalised crops ``(B, 3, S, S)``."""
        return self.network.hypotheses(self.code(crops), object_index)

    def code(self, crops: Tensor) -> Tensor:
        """Codes ``(B, 128)`` of normalised crops ``(B, 3, S, S)``, as the head takes them."""
        return self.network._finish(self.encoder(crops))

    def drop_original(self) -> None:
        """Free the weights of the encoder that is not used any more."""
        for parameter in self.network.encoder.parameters():
            parameter.data = parameter.data.new_empty(0)


def can_be_quick(network: nn.Module) -> bool:
    """Whether ``QuickNetwork`` can take the network apart: codebooks of before have other parts."""
    return all(hasattr(network, name) for name in ("encoder", "head", "hypotheses", "_finish"))
