"""Encoder and head together: normalised crops to rotation hypotheses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.geometry.rotations import rotation_from_6d
from shared_pose_ros.network.encoder_registry import encoder_class
from shared_pose_ros.network.pose_head import PoseHead


class PoseNetwork(nn.Module):
    """The shared network for k objects.

    Args:
        objects: k.
        hypotheses: n.
        width: of the encoder, a key of ``ENCODERS``.
        crop_size: side of the input, pixels.
        normalize_code: L2-normalise the latent code before the head (the paper does with a frozen encoder only).
    """

    def __init__(self, objects: int, hypotheses: int, width: str, crop_size: int, normalize_code: bool = False) -> None:
        super().__init__()
        self.encoder = encoder_class(width)(crop_size)
        self.head = PoseHead(objects, hypotheses, self.encoder.latent_size)
        self.normalize_code = normalize_code

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Hypotheses as the crop shows the object (allocentric: without the correction along the viewing ray).

        Args:
            crops: ``(B, 3, S, S)`` normalised.
            object_index: ``(B,)`` int64.

        Returns:
            Rotations ``(B, n, 3, 3)`` and confidence logits ``(B, n)``; softmax over n gives confidences.
        """
        return self.hypotheses(self.code(crops), object_index)

    def code(self, crops: Tensor) -> Tensor:
        """Latent codes ``(B, 128)`` of normalised crops ``(B, 3, S, S)``."""
        return self._finish(self.encoder(crops))

    def code_and_maps(self, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same latent codes, and the encoder's feature maps that they come from."""
        maps = self.encoder.maps(crops)
        return self._finish(self.encoder.code_of(maps[-1])), maps

    def _finish(self, code: Tensor) -> Tensor:
        return F.normalize(code, dim=1) if self.normalize_code else code

    def hypotheses(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and confidence logits ``(B, n)`` of latent codes ``(B, 128)``."""
        vectors, logits = self.head(code, object_index)
        return rotation_from_6d(vectors), logits
