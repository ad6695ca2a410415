"""Augmentation of finished crops, batched on the device (METHOD 5a).

Convention: crops are ``(B, 3, S, S)`` float in [0, 1]; every change applies to a sample with its own probability.
"""

from __future__ import annotations

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from shared_pose_ros.training.config import AugmentationConfig


class Draw:
    """Uniform random numbers from one generator, one row a sample."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """``(count, *shape)`` in [low, high)."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, probability: float) -> Tensor:
        """``(count,)`` bool, true with the probability."""
        return torch.rand(self.count, generator=self.generator, device=self.device) < probability


def augment(crops: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Cut-out, blur, brightness, contrast, inversion and noise; the result stays in [0, 1].

    Args:
        crops: ``(B, 3, S, S)``.
        config: probabilities and ranges.
        generator: source of randomness, on the crops' device.

    Returns:
        ``(B, 3, S, S)``, rounded to 8-bit steps as a camera's image is.
    """
    draw = Draw(crops.shape[0], generator)
    crops = _cut_out(crops, config, draw)
    crops = _blur(crops, config, draw)
    chosen = draw.chance(config.add)[:, None, None, None]
    crops = crops + chosen * _colour(draw, config, -config.add_range, config.add_range)
    chosen = draw.chance(config.multiply)[:, None, None, None]
    crops = crops * torch.where(chosen, _colour(draw, config, *config.multiply_range), 1.0)
    chosen = draw.chance(config.contrast)[:, None, None, None]
    gain = torch.where(chosen, _colour(draw, config, *config.contrast_range), 1.0)
    crops = (crops - 0.5) * gain + 0.5
    inverted = draw.chance(config.invert)[:, None, None, None]
    crops = torch.where(inverted, 1.0 - crops, crops)
    sigma = draw.chance(config.noise) * draw.uniform(0, config.noise_sigma)
    noise = torch.randn(crops.shape, generator=generator, device=crops.device)
    crops = crops + noise * sigma[:, None, None, None]
    return (crops.clamp(0, 1) * 255).round() / 255


def _colour(draw: Draw, config: AugmentationConfig, low: float, high: float) -> Tensor:
    """A value a sample, or now and then one a channel, ``(B, 3, 1, 1)``."""
    values = draw.uniform(low, high, 3)
    common = ~draw.chance(config.channelwise)
    return torch.where(common[:, None], values[:, :1], values)[:, :, None, None]


def _blur(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    chosen = draw.chance(config.blur).nonzero().squeeze(1)
    sigma = draw.uniform(0.1, config.blur_sigma)[chosen]
    if chosen.numel() == 0:
        return crops
    blurred = gaussian_blur2d(crops[chosen], (5, 5), sigma[:, None].expand(-1, 2))
    return crops.index_copy(0, chosen, blurred)


def _cut_out(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    """A block of constant colour somewhere on the crop."""
    size = crops.shape[-1]
    sides = draw.uniform(*config.cutout_size, 2) * draw.chance(config.cutout)[:, None]
    start = draw.uniform(0, 1, 2)
    colour = draw.uniform(0, 1, 3)
    pixel = (torch.arange(size, device=crops.device) + 0.5) / size
    inside = (pixel >= start[:, :, None]) & (pixel < (start + sides)[:, :, None])
    block = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]
    return torch.where(block, colour[:, :, None, None], crops)
