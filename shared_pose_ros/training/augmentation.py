"""Augmentation of finished crops, batched on the device.

Convention: crops are ``(B, 3, S, S)`` float in [0, 1]; every change applies to a sample with its own probability.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from torch import Tensor

from shared_pose_ros.training.config import AugmentationConfig

COARSE_RESOLUTION = 0.05  # of blocks, salt and pepper: at 128 pixels a grid of 6×6
COARSE_CUTOUT = 0.2  # side of a cut-out, fraction of the crop


class Draw:
    """Uniform random numbers from one generator, one row per sample."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """``(count, *shape)`` in [low, high)."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, probability: float) -> Tensor:
        """``(count,)`` bool, true with the probability."""
        return torch.rand(self.count, generator=self.generator, device=self.device) < probability


def augment(crops: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Change finished crops in the order of the paper, add a sensor's noise, compress; the result stays in [0, 1].

    Args:
        crops: ``(B, 3, S, S)``.
        config: probabilities and ranges.
        generator: source of randomness, on the crops' device.

    Returns:
        ``(B, 3, S, S)``, rounded to 8-bit steps as a camera's image is.
    """
    draw = Draw(crops.shape[0], generator)
    crops = _zoom(crops, config, draw)
    crops = _coarse_pair(crops, config, draw)
    crops = _cut_out(crops, draw.uniform(*config.cutout_size, 2) * draw.chance(config.cutout)[:, None], draw)
    crops = _blur(crops, config, draw)
    chance, channelwise = draw.chance(config.add)[:, None, None, None], config.channelwise
    crops = crops + chance * _colour(draw, channelwise[0], -config.add_range, config.add_range)
    inverted = draw.chance(config.invert)[:, None] & (draw.uniform(0, 1, 3) < config.invert_channel)
    crops = torch.where(inverted[:, :, None, None], 1.0 - crops, crops)
    for probability, by_channel in ((config.multiply, channelwise[1]), (config.multiply_again, 0.0)):
        factor = _colour(draw, by_channel, *config.multiply_range)
        crops = crops * torch.where(draw.chance(probability)[:, None, None, None], factor, 1.0)
    chance = draw.chance(config.contrast)[:, None, None, None]
    gain = torch.where(chance, _colour(draw, channelwise[2], *config.contrast_range), 1.0)
    crops = (crops - 0.5) * gain + 0.5
    if config.noise > 0:
        sigma = draw.chance(config.noise) * draw.uniform(0, config.noise_sigma)
        noise = torch.randn(crops.shape, generator=generator, device=crops.device)
        crops = crops + noise * sigma[:, None, None, None]
    if config.jpeg > 0:  # no draws where it is off: earlier presets keep their sequence of random numbers
        crops = _compress(crops.clamp(0, 1), config, draw)
    return (crops.clamp(0, 1) * 255).round() / 255


def _colour(draw: Draw, channelwise: float, low: float, high: float) -> Tensor:
    """A value per sample, or with probability ``channelwise`` one per channel, ``(B, 3, 1, 1)``."""
    values = draw.uniform(low, high, 3)
    common = ~draw.chance(channelwise)
    return torch.where(common[:, None], values[:, :1], values)[:, :, None, None]


def _zoom(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    """Enlarge about the centre."""
    chosen = draw.chance(config.zoom).nonzero().squeeze(1)
    scale = draw.uniform(*config.zoom_range)[chosen]
    if chosen.numel() == 0:
        return crops
    affine = (torch.eye(2, 3, device=crops.device) / scale[:, None, None]).contiguous()
    grid = F.affine_grid(affine, list(crops[chosen].shape), align_corners=False)
    return crops.index_copy(0, chosen, F.grid_sample(crops[chosen], grid, align_corners=False))


def _coarse_pair(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    """Two of five: black blocks, a cut-out of any grey, a white cut-out, coarse salt and pepper, coarse salt."""
    if config.coarse_pair <= 0:
        return crops
    chosen = draw.uniform(0, 1, 5).argsort(dim=1).argsort(dim=1) < 2
    chosen &= draw.chance(config.coarse_pair)[:, None]
    size = crops.shape[-1]
    cells = max(2, round(size * COARSE_RESOLUTION))

    def blocks(probability: float, number: int) -> Tensor:
        hit = draw.uniform(0, 1, 1, cells, cells) < probability
        return F.interpolate((hit & chosen[:, number, None, None, None]).float(), (size, size)) > 0

    crops = torch.where(blocks(0.2, 0), 0.0, crops)
    side = torch.full((draw.count, 2), COARSE_CUTOUT, device=crops.device)
    crops = _cut_out(crops, side * chosen[:, 1:2], draw, grey=True)
    crops = _cut_out(crops, side * chosen[:, 2:3], draw, white=True)
    pepper = draw.uniform(0, 1, 1, cells, cells) < 0.5
    value = F.interpolate(pepper.float(), (size, size))
    crops = torch.where(blocks(0.05, 3), value, crops)
    return torch.where(blocks(0.05, 4), 1.0, crops)


def _blur(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    chosen = draw.chance(config.blur).nonzero().squeeze(1)
    sigma = draw.uniform(0.1, config.blur_sigma)[chosen]
    if chosen.numel() == 0:
        return crops
    blurred = gaussian_blur2d(crops[chosen], (5, 5), sigma[:, None].expand(-1, 2))
    return crops.index_copy(0, chosen, blurred)


def _compress(crops: Tensor, config: AugmentationConfig, draw: Draw) -> Tensor:
    """JPEG of a random quality: blocks of 8 pixels, chroma at half the resolution."""
    chosen = draw.chance(config.jpeg).nonzero().squeeze(1)
    quality = draw.uniform(*config.jpeg_quality)[chosen]
    if chosen.numel() == 0:
        return crops
    return crops.index_copy(0, chosen, jpeg_codec_differentiable(crops[chosen], quality).to(crops.dtype))


def _cut_out(crops: Tensor, sides: Tensor, draw: Draw, grey: bool = False, white: bool = False) -> Tensor:
    """A block of constant colour somewhere on the crop, ``sides`` ``(B, 2)`` in fractions of it; 0 is none."""
    size = crops.shape[-1]
    start = draw.uniform(0, 1, 2)
    colour = draw.uniform(0, 1, 1).expand(-1, 3) if grey else draw.uniform(0, 1, 3)
    if white:
        colour = torch.ones_like(colour)
    pixel = (torch.arange(size, device=crops.device) + 0.5) / size
    inside = (pixel >= start[:, :, None]) & (pixel < (start + sides)[:, :, None])
    block = (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None]
    return torch.where(block, colour[:, :, None, None], crops)
