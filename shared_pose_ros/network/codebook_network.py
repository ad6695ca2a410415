"""Orientation by nearest neighbour among the latent codes of many views, as Sundermeyer et al. do. Scriptable.

Convention: R_m2c, as the crop shows the object.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder import Encoder


class Codebook(nn.Module):
    """The latent codes of V views of each of k objects.

    Args:
        codes: ``(k, V, 128)`` of length 1, float32 or, at half the memory, float16.
        rotations: ``(V, 3, 3)`` float32, the views.
        hypotheses: n ≤ V nearest views are answered.
    """

    def __init__(self, codes: Tensor, rotations: Tensor, hypotheses: int) -> None:
        super().__init__()
        if not 1 <= hypotheses <= len(rotations):
            raise ValueError(f"{hypotheses} hypotheses of {len(rotations)} views: give 1…{len(rotations)}")
        self.objects = int(codes.shape[0])
        self.hypotheses = hypotheses
        # Only the order of cosines means something; this spreads those of a good and a poor match over the softmax.
        self.sharpness = 50.0
        self.codes: Tensor
        self.rotations: Tensor
        self.register_buffer("codes", codes)
        self.register_buffer("rotations", rotations)

    def forward(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """The n views of each row's object with the greatest cosine, exactly, over all of them.

        Args:
            code: latent, ``(B, 128)``, of length 1.
            object_index: ``(B,)`` int64.

        Returns:
            Rotations ``(B, n, 3, 3)`` and logits ``(B, n)``, 50 · cosine.
        """
        rotations = code.new_zeros(code.shape[0], self.hypotheses, 3, 3)
        logits = code.new_zeros(code.shape[0], self.hypotheses)
        for index in range(self.objects):
            rows = torch.nonzero(object_index == index).squeeze(1)
            if rows.shape[0] > 0:
                cosines = code[rows] @ self.codes[index].to(code.dtype).T
                best, views = torch.topk(cosines, self.hypotheses, dim=1)
                rotations[rows] = self.rotations[views]
                logits[rows] = self.sharpness * best
        return rotations, logits


class CodebookNetwork(nn.Module):
    """An encoder and its codebook, with the interface of ``PoseNetwork``.

    Args:
        encoder: pre-trained.
        codebook: of its latent codes.
    """

    def __init__(self, encoder: Encoder, codebook: Codebook) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = codebook

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and logits ``(B, n)`` of normalised crops ``(B, 3, S, S)``."""
        return self.hypotheses(self._finish(self.encoder(crops)), object_index)

    def _finish(self, code: Tensor) -> Tensor:
        return F.normalize(code, dim=1)

    def hypotheses(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and logits ``(B, n)`` of latent codes ``(B, 128)`` of length 1."""
        return self.head(code, object_index)
