"""From the camera's pixels to sorted hypotheses: what a bundle holds as TorchScript, and training runs as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.test_time_augmentation import merge_hypotheses, quarter_rotations, rotate_back


class PixelsToHypotheses(nn.Module):
    """The exported graph: crop, normalise, network, softmax, sort; with rotation test-time augmentation also merge.

    Args:
        network: ``PoseNetwork``, or one with its interface.
        crop_pad: side of a crop over the larger side of its box.
        crop_size: side of a crop in pixels.
        tta_rotations: 1, or 4 to see every crop in its four quarter rotations.
    """

    def __init__(self, network: PoseNetwork, crop_pad: float, crop_size: int, tta_rotations: int = 1) -> None:
        super().__init__()
        self.network = network
        self.crop_pad = crop_pad
        self.crop_size = crop_size
        self.tta_rotations = tta_rotations
        self.hypotheses = network.head.hypotheses

    def forward(self, image: Tensor, boxes: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Hypotheses of every box, most confident first.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            boxes: ``(B, 4)`` float32 (cx, cy, w, h), pixels.
            object_index: ``(B,)`` int64.

        Returns:
            Rotations ``(B, n, 3, 3)`` as each crop shows its object, and confidences ``(B, n)`` that sum to 1.
        """
        crops = normalize_crops(crop_objects(image, boxes, self.crop_pad, self.crop_size))
        if self.tta_rotations == 4:
            rotations, logits = self.network(quarter_rotations(crops), object_index.repeat(4))
            weights = (
                torch.softmax(logits, dim=1).reshape(4, crops.shape[0], self.hypotheses).transpose(0, 1).flatten(1)
            )
            return merge_hypotheses(rotate_back(rotations), weights, self.hypotheses)
        rotations, logits = self.network(crops, object_index)
        confidences, order = torch.sort(torch.softmax(logits, dim=1), dim=1, descending=True)
        return torch.gather(rotations, 1, order[:, :, None, None].expand_as(rotations)), confidences
