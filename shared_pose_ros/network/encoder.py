"""The shared feature extractor: four strided convolutions and one linear layer (METHOD 1).

The architecture is that of the multi-path augmented autoencoder (Sundermeyer et al., CVPR 2020) as Bengtson et al. use
it: 5×5, stride 2, TensorFlow's 'same' padding, ReLU *before* the batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS: dict[str, tuple[int, int, int, int]] = {"paper": (128, 256, 512, 512), "compact": (32, 64, 128, 128)}
CODE_SIZE = 128


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


class Encoder(nn.Module):
    """Normalised crops ``(B, 3, S, S)`` to codes ``(B, 128)``.

    Args:
        width: a key of ``WIDTHS``.
        crop_size: S in pixels, a multiple of 16.

    Raises:
        ValueError: unknown width or a crop size that four halvings do not divide.
    """

    def __init__(self, width: str = "paper", crop_size: int = 128) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise ValueError(f"encoder width {width!r} is unknown; choose one of {sorted(WIDTHS)}")
        if crop_size < 16 or crop_size % 16:
            raise ValueError(f"crop size {crop_size} must be a multiple of 16, at least 16")
        channels = (3, *WIDTHS[width])
        self.blocks = nn.Sequential(*(EncoderBlock(a, b) for a, b in zip(channels, channels[1:])))
        self.linear = nn.Linear(channels[-1] * (crop_size // 16) ** 2, CODE_SIZE)

    def forward(self, crops: Tensor) -> Tensor:
        """Codes ``(B, 128)`` of normalised crops ``(B, 3, S, S)``."""
        return self.code_of(self.blocks(crops))

    def maps(self, crops: Tensor) -> list[Tensor]:
        """Feature maps after each block, ``(B, C_i, S/2^i, S/2^i)`` for i = 1…4; ``code_of`` takes the last."""
        maps: list[Tensor] = []
        for block in self.blocks:
            crops = block(crops)
            maps.append(crops)
        return maps

    def code_of(self, features: Tensor) -> Tensor:
        """Codes ``(B, 128)`` of the last feature map."""
        return self.linear(torch.flatten(features, 1))
