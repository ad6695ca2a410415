"""Fused inference: norms folded into the next layer, weights laid out once, the encoder in another precision.

The encoder's convolutions are nearly all of the work. Crop, head, rotations and merging stay as they are, in fp32.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.backends.folding import LAYOUT_BATCH, as_matrix, fold, padded, patches
from shared_pose_ros.network.backends.int8 import Int8Encoder
from shared_pose_ros.network.backends.precision import CODE_TOLERANCES, has_bf16
from shared_pose_ros.network.strided_encoder import StridedEncoder

if TYPE_CHECKING:
    from shared_pose_ros.network.pose_network import PoseNetwork

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.uint8}
# A call's largest maps, bytes, beyond which its crops are computed in parts: in a processor's cache, and memory that is
# used again instead of asked for anew.
_CACHE = 8 << 20
_NO_LIMIT = 1 << 30


class FusedEncoder(nn.Module):
    """``StridedEncoder`` in evaluation mode, in another form. Scriptable.

    The norms are folded away (folding.py). On x86 oneDNN adds bias and ReLU within the convolution and gets the
    weights in the layout that it computes in; elsewhere the convolutions are torch's.

    Args:
        weights: ``StridedEncoder.state_dict()``, on the device where it is to run.
        crop_size: side of the crops, pixels.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(self, weights: Mapping[str, Tensor], crop_size: int, precision: str) -> None:
        super().__init__()
        blocks, linear, linear_bias = fold(weights, crop_size)
        dtype = _DTYPES[precision]
        self.packed = can_pack(linear.device, precision)
        # What oneDNN's kernels, and cuDNN's for short floats, read; cuDNN's for fp32 do not.
        self.channels_last = self.packed or precision != "fp32"
        self.kernels = [self._laid_out(block.kernel.to(dtype), block.side) for block in blocks[:-1]]
        self.biases = [block.bias.to(dtype) for block in blocks]
        self.borders = [block.border.to(dtype) for block in blocks]
        kernel, side = blocks[-1].kernel.to(dtype), blocks[-1].side
        if self.packed:  # its rows are short: as a product of matrices it is faster, copying the patches included
            kernel = torch.ops.mkldnn._reorder_linear_weight(as_matrix(kernel), LAYOUT_BATCH * (side // 2) ** 2)
        self.kernels.append(kernel if self.packed else self._laid_out(kernel, side))
        weight = as_matrix(linear).to(dtype)
        self.linear_weight = torch.ops.mkldnn._reorder_linear_weight(weight, LAYOUT_BATCH) if self.packed else weight
        self.linear_bias = linear_bias.to(dtype)

    def forward(self, crops: Tensor) -> Tensor:
        """Latent codes ``(B, 128)`` float32 of normalised crops ``(B, 3, S, S)`` float32, B > 0."""
        x = crops
        for number, kernel in enumerate(self.kernels):
            y, bias = padded(x, self.borders[number], self.channels_last), self.biases[number]
            if not self.packed:
                x = F.relu(F.conv2d(y, kernel, bias, stride=[2, 2]))
            elif number + 1 < len(self.kernels):
                x = torch.ops.mkldnn._convolution_pointwise(y, kernel, bias, [0, 0], [2, 2], [1, 1], 1, "relu", [], "")
            else:
                x = torch.ops.mkldnn._linear_pointwise(patches(y), kernel, bias, "relu", [], "")
        if self.packed:
            flat = x.reshape(crops.shape[0], -1)
            code = torch.ops.mkldnn._linear_pointwise(flat, self.linear_weight, self.linear_bias, "none", [], "")
        else:
            code = F.linear(x.permute(0, 2, 3, 1).flatten(1), self.linear_weight, self.linear_bias)
        return code.to(torch.float32)

    def _laid_out(self, kernel: Tensor, side: int) -> Tensor:
        """The kernel in the memory layout that the convolution reads fastest."""
        if self.packed:
            size = [LAYOUT_BATCH, kernel.shape[1], side + 3, side + 3]
            return torch.ops.mkldnn._reorder_convolution_weight(kernel.contiguous(), [0, 0], [2, 2], [1, 1], 1, size)
        return kernel.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def can_pack(device: torch.device, precision: str) -> bool:
    """Whether oneDNN's own convolution can be had; it is torch's private way (of torch.compile) to ask for it."""
    has_it = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    x86 = device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    return x86 and has_it and (precision == "fp32" or has_bf16())


class FusedNetwork(nn.Module):
    """A network with a ``FusedEncoder`` in place of its own. Scriptable.

    Args:
        network: ``PoseNetwork`` or ``CodebookNetwork`` in evaluation mode, scripted or not, that ``why_not_fused``
            has nothing against; it stays as it is.
        crop_size: side of the crops, pixels.
        precision: "fp32", "bf16", "fp16" or "int8".
    """

    def __init__(self, network: PoseNetwork, crop_size: int, precision: str) -> None:
        super().__init__()
        self.network = network
        self.head = network.head  # PixelsToHypotheses asks it for n
        weights = network.encoder.state_dict()
        self.code_size, first = weights["linear.bias"].shape[0], weights["blocks.0.convolution.bias"]
        map_bytes = _DTYPES[precision].itemsize * first.shape[0] * (crop_size // 2) ** 2
        self.at_once = max(LAYOUT_BATCH, _CACHE // map_bytes) if first.device.type == "cpu" else _NO_LIMIT
        self.encoder = (
            Int8Encoder(weights, crop_size) if precision == "int8" else FusedEncoder(weights, crop_size, precision)
        )

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and logits ``(B, n)`` of normalised crops ``(B, 3, S, S)``."""
        return self.network.hypotheses(self.code(crops), object_index)

    def code(self, crops: Tensor) -> Tensor:
        """Latent codes ``(B, 128)`` of normalised crops ``(B, 3, S, S)``, as the head takes them."""
        if crops.shape[0] == 0:
            return torch.zeros(0, self.code_size, device=crops.device)
        parts = (crops.shape[0] + self.at_once - 1) // self.at_once
        if parts == 1:
            return self.network._finish(self.encoder(crops))
        return self.network._finish(torch.cat([self.encoder(part) for part in crops.tensor_split(parts)]))

    def drop_original(self) -> None:
        """Free the weights of the encoder that is not used any more."""
        for parameter in self.network.encoder.parameters():
            parameter.data = parameter.data.new_empty(0)


def why_not_fused(network: nn.Module, crops: Tensor) -> str:
    """Why ``FusedNetwork`` cannot take a network; empty if it can.

    The names and shapes of the encoder's weights have to be those of a ``StridedEncoder``, and the latent codes too:
    strides, padding and activations are not among the weights.

    Args:
        network: any, in evaluation mode, scripted or not.
        crops: ``(B, 3, S, S)`` normalised, to compare with; a few.
    """
    missing = [name for name in ("encoder", "head", "hypotheses", "_finish") if not hasattr(network, name)]
    if missing or not isinstance(network.encoder, nn.Module):
        return f"its network has no {missing[0] if missing else 'encoder'}"
    trained = cast("PoseNetwork", network)
    weights = trained.encoder.state_dict()
    plain = _strided_like(weights, crops.shape[-1])
    expected = {} if plain is None else {name: tensor.shape for name, tensor in plain.state_dict().items()}
    if plain is None or expected != {name: tensor.shape for name, tensor in weights.items()}:
        return "its encoder is no StridedEncoder"
    plain.load_state_dict(weights, assign=True)
    with torch.no_grad():
        codes, same = trained.encoder(crops), plain.eval()(crops)
    difference = float((same - codes).abs().max() / codes.abs().max())
    if not difference <= CODE_TOLERANCES["fp32"]:  # a NaN is not
        return f"its encoder has a StridedEncoder's weights but other latent codes (difference {difference:.2g})"
    return ""


def _strided_like(weights: Mapping[str, Tensor], crop_size: int) -> StridedEncoder | None:
    """A ``StridedEncoder`` of those widths without memory; None where there are none."""
    names = [f"blocks.{number}.convolution.bias" for number in range(4)]
    if not {*names, "linear.bias"} <= weights.keys():
        return None
    biases = [weights[name] for name in names]
    sizes = {"channels": tuple(bias.numel() for bias in biases), "latent_size": weights["linear.bias"].numel()}
    with torch.device("meta"):
        return type("Like", (StridedEncoder,), sizes)(crop_size)
