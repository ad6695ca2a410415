"""What an encoder is to the rest of the package, the encoders that there are by name, and the paper's own.

The paper's encoder is that of the multi-path augmented autoencoder (Sundermeyer et al., CVPR 2020) as Bengtson et al.
use it: four convolutions 5×5 with stride 2, TensorFlow's 'same' padding, ReLU *before* the batch norm, and a linear
layer.

A new encoder is a subclass of ``Encoder`` and an entry in ``ENCODERS``: docs/extending.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_SIZE = 128


class Encoder(nn.Module):
    """Normalised crops ``(B, 3, S, S)`` to latent codes ``(B, latent_size)``; made from S alone.

    Its tensors are parameters and persistent buffers, so that a bundle's weights are all of it. ``forward`` is scripted
    when a bundle is exported; the other methods serve in training.
    """

    channels: tuple[int, int, int, int]
    """Of the four feature maps."""
    latent_size: int = LATENT_SIZE

    def maps(self, crops: Tensor) -> list[Tensor]:
        """Feature maps ``(B, channels[i], S/2^(i+1), S/2^(i+1))`` for i = 0…3 of crops ``(B, 3, S, S)``."""
        raise NotImplementedError

    def code_of(self, features: Tensor) -> Tensor:
        """Latent codes ``(B, latent_size)`` of the last feature map."""
        raise NotImplementedError

    def first_layer(self) -> nn.Module:
        """The layer that reads pixels; Muon leaves it to Adam."""
        raise NotImplementedError

    def last_layer(self) -> nn.Module:
        """The layer that learns with ``tuning: last_layer``."""
        raise NotImplementedError

    @staticmethod
    def resized(weights: dict[str, Tensor], crop_size: int, new_crop_size: int) -> dict[str, Tensor]:
        """The state of an encoder of crops of side ``crop_size`` for a new one: the same if size does not matter."""
        return weights


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
        super().__init__()
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
        return self.blocks[0].convolution

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


ENCODERS: dict[str, type[Encoder]] = {"paper": PaperEncoder, "compact": CompactEncoder}
"""By the name that training settings and bundles have for it, ``width``."""


def encoder_class(width: str) -> type[Encoder]:
    """The encoder of a name, to ask for sizes or to make one for a crop size; raises ValueError for an unknown name."""
    if width not in ENCODERS:
        raise ValueError(f"encoder width {width!r} is unknown; choose one of {sorted(ENCODERS)}")
    return ENCODERS[width]
