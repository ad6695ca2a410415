"""The refiner as a CPU runs it fastest: norms folded away, and what comes from the crop computed once per crop.

A join convolves the maps of crop, render and the join before it together. As a convolution is linear, the crop's part
is a map of its own: all hypotheses and steps of an object share it, and oneDNN adds it within the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.network.backends.folding import (
    LAYOUT_BATCH,
    FoldedBlock,
    Norm,
    fold_blocks,
    padded,
)
from shared_pose_ros.network.backends.fused import can_pack
from shared_pose_ros.network.refiner import REFINER_SIZE, PoseRefiner

_JOINS = ("join_second", "join_third", "join_fourth")


class FusedRefiner:
    """``PoseRefiner`` in evaluation mode, in another form; needs ``can_pack``.

    Args:
        refiner: on the CPU; it stays as it is.
        precision: "fp32" or "bf16".

    Raises:
        ValueError: oneDNN's own convolutions are not to be had here.
    """

    def __init__(self, refiner: PoseRefiner, precision: str) -> None:
        if not can_pack(torch.device("cpu"), precision):
            raise ValueError(f"a refiner of precision {precision} cannot be fused on this processor")
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        weights = {name: tensor.detach().float() for name, tensor in refiner.state_dict().items()}
        crop_blocks, crop_norms = fold_blocks(weights, "crop_blocks.", REFINER_SIZE)
        render_blocks, render_norms = fold_blocks(weights, "render_blocks.", REFINER_SIZE)
        self._crop_trunk = [_Convolution.of_block(block, self._dtype) for block in crop_blocks]
        self._render_trunk = [_Convolution.of_block(block, self._dtype) for block in render_blocks]
        self._crop_joins, self._joins = [], []
        side, joined = REFINER_SIZE // 4, 0
        for name, crop_norm, render_norm in zip(_JOINS, crop_norms[1:], render_norms[1:]):
            layer = getattr(refiner, name)
            own = Norm.of(weights, f"{name}.1.", layer[1].eps)
            kernel, stride = weights[f"{name}.0.weight"] * own.scale[:, None, None, None], layer[0].stride[0]
            of_crop = slice(joined, joined + len(crop_norm.scale))
            drawn = slice(of_crop.stop, None)
            plain = Norm.none(joined, kernel)
            rest = Norm(torch.cat([plain.scale, render_norm.scale]), torch.cat([plain.shift, render_norm.shift]))
            seen, bias = crop_norm.taken_into(kernel[:, of_crop], own.shift)
            self._crop_joins.append(_Convolution(seen, bias, crop_norm.border, side, stride, self._dtype))
            others, bias = rest.taken_into(torch.cat([kernel[:, :joined], kernel[:, drawn]], dim=1))
            self._joins.append(_Convolution(others, bias, rest.border, side, stride, self._dtype))
            side, joined = side // 2, len(kernel)
        cells = (REFINER_SIZE // 16) ** 2
        # From channels first, as it was trained, to channels last, as the maps lie in memory.
        hidden = weights["hidden.weight"].reshape(-1, joined, cells).transpose(1, 2).flatten(1)
        self._hidden = torch.ops.mkldnn._reorder_linear_weight(hidden.to(self._dtype).contiguous(), LAYOUT_BATCH)
        self._hidden_bias = weights["hidden.bias"].to(self._dtype)
        self._output, self._output_bias = weights["output.weight"], weights["output.bias"]

    def seen(self, crops: Tensor) -> list[Tensor]:
        """What ``compare`` needs of crops ``(B, 3, S, S)``, normalised."""
        maps = self._maps(self._crop_trunk, crops)
        return [join(found, "none") for join, found in zip(self._crop_joins, maps)]

    def compare(self, seen: list[Tensor], renders: Tensor, crop_of: Tensor) -> tuple[Tensor, Tensor]:
        """As ``PoseRefiner.compare``, with what ``seen`` gave."""
        drawn = self._maps(self._render_trunk, renders)
        joined = self._joins[0](drawn[0], "relu", seen[0][crop_of])
        joined = self._joins[1](torch.cat([joined, drawn[1]], dim=1), "relu", seen[1][crop_of])
        joined = self._joins[2](torch.cat([joined, drawn[2]], dim=1), "relu", seen[2][crop_of])
        flat = joined.permute(0, 2, 3, 1).flatten(1)
        hidden = torch.ops.mkldnn._linear_pointwise(flat, self._hidden, self._hidden_bias, "relu", [], "")
        return PoseRefiner.answer(torch.nn.functional.linear(hidden.float(), self._output, self._output_bias))

    @staticmethod
    def _maps(trunk: list[_Convolution], images: Tensor) -> list[Tensor]:
        maps = []
        for block in trunk:
            images = block(images, "relu")
            maps.append(images)
        return maps[1:]


class _Convolution:
    """A convolution whose input is padded with a border, in oneDNN's layout.

    Args:
        kernel: ``(O, I, K, K)``, K 5 or 3.
        bias: ``(O,)``.
        border: ``(I,)``.
        side: of the input without border, pixels.
        stride: 1 or 2.
        dtype: that it computes in.
    """

    def __init__(
        self, kernel: Tensor, bias: Tensor, border: Tensor, side: int, stride: int, dtype: torch.dtype
    ) -> None:
        self._wide = kernel.shape[-1] == 5  # padded by 1 before and 2 after; 3×3 by 1 each
        size = [LAYOUT_BATCH, kernel.shape[1], side + (3 if self._wide else 2), side + (3 if self._wide else 2)]
        self._stride = [stride, stride]
        self._kernel = torch.ops.mkldnn._reorder_convolution_weight(
            kernel.to(dtype).contiguous(), [0, 0], self._stride, [1, 1], 1, size
        )
        self._bias, self._border, self._zero = bias.to(dtype), border.to(dtype), not bool(border.any())

    @classmethod
    def of_block(cls, block: FoldedBlock, dtype: torch.dtype) -> _Convolution:
        return cls(block.kernel, block.bias, block.border, block.side, 2, dtype)

    def __call__(self, x: Tensor, activation: str, added: Tensor | None = None) -> Tensor:
        """Activation of the convolution and of what is added to it."""
        y = padded(x, self._border, channels_last=True, after=2 if self._wide else 1, zero=self._zero)
        convolve, arguments = torch.ops.mkldnn._convolution_pointwise, ([0, 0], self._stride, [1, 1], 1)
        if added is None:
            return convolve(y, self._kernel, self._bias, *arguments, activation, [], "")
        return convolve(y, added, self._kernel, self._bias, *arguments, "add", 1.0, activation, [], "")
