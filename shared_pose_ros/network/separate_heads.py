"""Object-specific heads on one encoder, in place of the shared head: the networks of Bengtson et al. (IROS 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_pose_ros.network.pose_head import PoseHead


class SeparateHeads(nn.Module):
    """A head per object; has the interface of ``PoseHead``.

    Args:
        heads: of one object each, in the order of the object index, all with n hypotheses.

    Raises:
        ValueError: no head, a head of several objects, or different numbers of hypotheses.
    """

    def __init__(self, heads: Sequence[PoseHead]) -> None:
        super().__init__()
        shapes = {(head.objects, head.hypotheses) for head in heads}
        if len(shapes) != 1 or next(iter(shapes))[0] != 1:
            raise ValueError(f"(objects, hypotheses) of the heads are {sorted(shapes)}; give heads of 1 object each")
        self.heads = nn.ModuleList(heads)
        self.objects = len(heads)
        self.hypotheses = heads[0].hypotheses

    def forward(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """6D vectors ``(B, n, 6)`` and logits ``(B, n)`` of latent codes ``(B, 128)``, each of its own head."""
        vectors = code.new_zeros(code.shape[0], self.hypotheses, 6)
        logits = code.new_zeros(code.shape[0], self.hypotheses)
        for index, head in enumerate(self.heads):
            rows = torch.nonzero(object_index == index).squeeze(1)
            if rows.shape[0] > 0:
                own_vectors, own_logits = head(code[rows], torch.zeros_like(rows))
                vectors[rows] = own_vectors
                logits[rows] = own_logits
        return vectors, logits
