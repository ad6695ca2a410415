"""The paper's encoder, in two widths: four strided convolutions and one linear layer.

The architecture is that of the multi-path augmented autoencoder (Sundermeyer et al., CVPR 2020) as Bengtson et al. use
it: 5×5, stride 2, TensorFlow's 'same' padding, ReLU *before* the batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder import Encoder


class EncoderBlock(nn.Module):
    """Convolution 5×5 with stride 2, ReLU, batch norm: halves the side of its input."""

    EPSILON = 1e-3

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel_size=5, stride=2)
        self.norm = nn.BatchNorm2d(channels_out, eps=self.EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, S, S)`` -> ``(B, C', S/2, S/2)``, S even."""
        # TensorFlow pads an even input under stride 2 by 1 before and 2 after.
        return self.norm(F.relu(self.convolution(F.pad(features, [1, 2, 1, 2]))))


class StridedEncoder(Encoder):
    """The paper's architecture; a subclass gives the channels.

    Args:
        crop_size: S in pixels, a multiple of 16.

    Raises:
        ValueError: a crop size that four halvings do not divide.
    """

    def __init__(self, crop_size: int) -> None:
        super().__init__(crop_size)
        if crop_size < 16 or crop_size % 16:
            raise ValueError(f"crop size {crop_size} must be a multiple of 16, at least 16")
        channels = (3, *self.channels)
        self.blocks = nn.Sequential(*(EncoderBlock(a, b) for a, b in zip(channels, channels[1:])))
        self.linear = nn.Linear(channels[-1] * (crop_size // 16) ** 2, self.latent_size)

    def forward(self, crops: Tensor) -> Tensor:
        """Latent codes ``(B, 128)`` of normalised crops ``(B, 3, S, S)``."""
        return self.code_of(self.blocks(crops))

    def maps(self, crops: Tensor) -> list[Tensor]:
        """See ``Encoder.maps``."""
        maps: list[Tensor] = []
        for block in self.blocks:
            crops = block(crops)
            maps.append(crops)
        return maps

    def code_of(self, features: Tensor) -> Tensor:
        """See ``Encoder.code_of``."""
        return self.linear(torch.flatten(features, 1))

    def first_layer(self) -> nn.Module:
        """See ``Encoder.first_layer``."""
        return self.blocks[0].get_submodule("convolution")

    def last_layer(self) -> nn.Module:
        """See ``Encoder.last_layer``."""
        return self.linear

    @staticmethod
    def resized(weights: dict[str, Tensor], crop_size: int, new_crop_size: int) -> dict[str, Tensor]:
        """As if the new feature map were first averaged to the old size: a constant map gives the same latent code."""
        if "linear.weight" not in weights:
            return weights  # another encoder's: loading them says so
        weight, side, new_side = weights["linear.weight"], crop_size // 16, new_crop_size // 16
        cells = torch.eye(new_side**2, dtype=weight.dtype).reshape(-1, 1, new_side, new_side)
        averaging = F.interpolate(cells, (side, side), mode="area").flatten(1)
        return {**weights, "linear.weight": (weight.reshape(len(weight), -1, side**2) @ averaging.T).flatten(1)}


class PaperEncoder(StridedEncoder):
    """As wide as in the paper."""

    channels = (128, 256, 512, 512)


class CompactEncoder(StridedEncoder):
    """A quarter as wide, for a CPU."""

    channels = (32, 64, 128, 128)
