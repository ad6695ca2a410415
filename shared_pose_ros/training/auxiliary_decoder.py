"""The auxiliary task that starts the encoder: from its feature maps, what surface of the object lies where."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder_registry import encoder_class

SURFACE_CHANNELS = 7  # mean normal (camera frame), mean model point (half the largest extent is 1), coverage
SURFACE_STRIDE = 4  # pixels of a crop a cell
_HIDDEN = 128


class SurfaceDecoder(nn.Module):
    """The last two feature maps of the encoder and the object's identity to a coarse map of its surface.

    Every cell is read off from its own features, so the gradient tells the convolutions what they see and where. It
    serves in training only.

    Args:
        objects: k.
        width: of the encoder, a key of ``ENCODERS``.
    """

    def __init__(self, objects: int, width: str) -> None:
        super().__init__()
        *_, third, fourth = encoder_class(width).channels
        self.third = nn.Conv2d(third, _HIDDEN, 1)
        self.fourth = nn.Conv2d(fourth, _HIDDEN, 1)
        self.identity = nn.Embedding(objects, _HIDDEN)
        self.output = nn.Conv2d(_HIDDEN, 4 * SURFACE_CHANNELS, 1)

    def forward(self, maps: list[Tensor], object_index: Tensor) -> Tensor:
        """``(B, 7, S/4, S/4)`` from the encoder's maps of crops of side S, and ``object_index`` ``(B,)``."""
        coarse = F.interpolate(self.fourth(maps[3]), scale_factor=2.0)
        hidden = F.relu(coarse + self.third(maps[2]) + self.identity(object_index)[:, :, None, None])
        return F.pixel_shuffle(self.output(hidden), 2)


def surface_target(layers: Tensor) -> Tensor:
    """Means over cells, ``(B, 7, S/4, S/4)``, of ``(B, 7, S, S)`` layers that are zero beside the object."""
    return F.avg_pool2d(layers, SURFACE_STRIDE)
