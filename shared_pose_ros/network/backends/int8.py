"""The encoder in 8-bit integers, for x86 processors that multiply them four at a time (VNNI).

Nothing is calibrated with images: the batch norms know mean and deviation of every feature in training, and from these
come the ranges, once, when the encoder is made. So an answer never depends on the other crops of a call.

Convention: a feature x of channel c is stored as the integer q = round(x / unit[c]) + ``OFFSET``, clipped to 0…255.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared_pose_ros.network.backends.folding import LAYOUT_BATCH, FoldedBlock, as_matrix, fold, padded, patches

OFFSET = 16
"""The integer of the value 0; below it is room for the negative ones among the borders, features have none."""
_HIGHEST = 255
_TAIL = 12.0  # a feature exceeds its range once in e^12 times, by the model of feature_range
_SPARSEST = 0.1  # mean over deviation of a feature: rarer ones are taken as this, and an untrained norm has 0
_LEAST = 1e-6  # of a range: a feature that is never on has none
_LARGEST_WEIGHT = 127
# How alike neighbours in a map are (correlation), and the square of mean over deviation: from trained encoders.
_ALIKE_PIXELS, _ALIKE_FEATURES, _CONSTANT = 0.9, 0.7, 0.2


class Int8Encoder(nn.Module):
    """``StridedEncoder`` in evaluation mode, weights and features in 8 bits, sums in 32. Scriptable.

    Args:
        weights: ``StridedEncoder.state_dict()``, on the CPU.
        crop_size: side of the crops, pixels.
    """

    def __init__(self, weights: Mapping[str, Tensor], crop_size: int) -> None:
        super().__init__()
        blocks, linear, linear_bias = fold(weights, crop_size)
        kernels: list[Tensor] = []
        steps: list[Tensor] = []
        biases: list[Tensor] = []
        borders: list[Tensor] = []
        zeros: list[Tensor] = []
        unit, offset = torch.full_like(blocks[0].scale, 1.0 / _HIGHEST), 0
        borders_below = [*(block.border for block in blocks[1:]), torch.zeros_like(blocks[-1].mean)]
        for number, (block, below) in enumerate(zip(blocks, borders_below)):
            borders.append((block.border / unit + offset).round().clamp(0, _HIGHEST).to(torch.uint8))
            next_unit = feature_range(block, below) / (_HIGHEST - OFFSET)
            kernel = block.kernel.mul_(unit[:, None, None]).div_(next_unit[:, None, None, None])
            rounded, step = round_kernel(kernel, _ALIKE_FEATURES if number else _ALIKE_PIXELS)
            # The offset of the input is a constant of every sum.
            biases.append(block.bias / next_unit - offset * step * rounded.sum((1, 2, 3)))
            if number + 1 < len(blocks):
                size = [LAYOUT_BATCH, kernel.shape[1], block.side + 3, block.side + 3]
                kernels.append(torch.ops.onednn.qconv_prepack(rounded, step, 1.0, 0, [2, 2], [0, 0], [1, 1], 1, size))
            else:  # its rows are short: as a product of matrices it is quicker, copying the patches included
                kernels.append(_packed(rounded, LAYOUT_BATCH * (block.side // 2) ** 2))
            steps.append(step)
            zeros.append(torch.zeros(len(step), dtype=torch.int32))
            unit, offset = next_unit, OFFSET
        del kernel  # it is large
        rounded, step = round_kernel(linear.mul_(unit[:, None, None]), _ALIKE_FEATURES)
        self.linear_bias = linear_bias - offset * step * rounded.sum((1, 2, 3))
        self.linear_weight = _packed(rounded, LAYOUT_BATCH)
        self.linear_step, self.linear_zero = step, torch.zeros(len(step), dtype=torch.int32)
        self.kernels, self.steps, self.biases, self.borders, self.zeros = kernels, steps, biases, borders, zeros
        self.offset = OFFSET

    def forward(self, crops: Tensor) -> Tensor:
        """Latent codes ``(B, 128)`` float32 of normalised crops ``(B, 3, S, S)`` float32 in [0, 1], B > 0."""
        x = (crops * 255.0).round()
        for number, kernel in enumerate(self.kernels):
            y = padded(x, self.borders[number], True)
            step, zero, bias = self.steps[number], self.zeros[number], self.biases[number]
            if number + 1 < len(self.kernels):
                x = torch.ops.onednn.qconv2d_pointwise(
                    y, 1.0, 0, kernel, step, zero, bias, [2, 2], [0, 0], [1, 1], 1,
                    1.0, self.offset, torch.uint8, "relu", [], "",
                )  # fmt: skip
            else:
                x = torch.ops.onednn.qlinear_pointwise(
                    patches(y), 1.0, 0, kernel, step, zero, bias, 1.0, self.offset, torch.uint8, "relu", [], ""
                )
        return torch.ops.onednn.qlinear_pointwise(
            x.reshape(crops.shape[0], -1), 1.0, 0, self.linear_weight, self.linear_step, self.linear_zero,
            self.linear_bias, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip


def _packed(integers: Tensor, rows: int) -> Tensor:
    """A matrix as oneDNN multiplies it with that many rows, of a kernel's integers ``(O, C, K, K)``."""
    matrix = as_matrix(integers).contiguous()
    return torch.ops.onednn.qlinear_prepack(matrix, [rows, matrix.shape[1]])


def feature_range(block: FoldedBlock, border: Tensor) -> Tensor:
    """The largest values ``(O,)`` that a block's outputs are stored with.

    A rectified feature is taken as 0 with probability 1 − p, else exponential with mean θ. Then its mean is μ = p θ and
    its mean square σ² + μ² = 2 p θ², and it exceeds θ (a + ln p) with probability e^−a. Features with σ < μ, of which
    none is 0, are taken as exponential with deviation σ from μ − σ on, where both agree at σ = μ.

    Args:
        block: with mean and deviation.
        border: ``(O,)`` that its output will be padded with: it fits in too, also where it is negative.
    """
    deviation = block.deviation
    mean = torch.maximum(block.mean, _SPARSEST * deviation).clamp(min=1e-12)
    scale = (deviation.square() + mean.square()) / (2.0 * mean)
    dense = mean + (_TAIL - 1.0) * deviation
    largest = torch.where(mean < deviation, scale * (_TAIL + (mean / scale).clamp(max=1.0).log()), dense)
    negative = -border * (_HIGHEST - OFFSET) / OFFSET
    return torch.stack([largest, border, negative]).amax(0).clamp(min=_LEAST)


def round_kernel(kernel: Tensor, alike: float) -> tuple[Tensor, Tensor]:
    """Integers within ±127 and the step ``(O,)`` of each output, so that kernel ≈ step · integers.

    Position by position, and what one was rounded by is put on those that are left such that the expected square of the
    output's error is smallest. For this, neighbours in the input correlate by ``alike`` a pixel (GPTQ, Frantar et al.,
    ICLR 2023, with an assumed covariance instead of one from images).

    Args:
        kernel: ``(O, I, K, K)``.
        alike: correlation of neighbours.

    Returns:
        Integers ``(O, I, K, K)`` int8, and steps.
    """
    step = (kernel.abs().amax((1, 2, 3)) / _LARGEST_WEIGHT).clamp(min=torch.finfo(torch.float32).tiny)
    positions = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float64) for side in kernel.shape[2:]))
    distance = (positions[:, None] - positions).abs().sum(-1)
    spread = torch.linalg.cholesky(torch.linalg.inv(alike**distance + _CONSTANT), upper=True).float()
    left = torch.empty(len(positions), *kernel.shape[:2])
    torch.div(kernel.flatten(2).permute(2, 0, 1), step[:, None], out=left)
    for number, value in enumerate(left):
        rounded = value.round().clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
        error = (value - rounded) / spread[number, number]
        value.copy_(rounded)
        left[number + 1 :].addcmul_(spread[number, number + 1 :, None, None], error, value=-1.0)
    return left.to(torch.int8).permute(1, 2, 0).reshape(kernel.shape), step
