"""From an image and boxes to the network's input: the one crop function, and the one normalisation.

Convention: boxes (cx, cy, w, h) in pixels, pixel centres at integer coordinates; crops are RGB in [0, 1], channels
first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.geometry.boxes import crop_side


def crop_objects(image: Tensor, boxes: Tensor, pad: float, size: int) -> Tensor:
    """Cut the square of side pad · max(w, h) around every box and resize it (METHOD 6). Scriptable.

    Bilinear where the crop is enlarged; where it shrinks by r, the mean of ⌈r⌉² bilinear taps (a power of two, at most
    16²) a pixel, so that large boxes do not alias. Boxes that share a tap count are one batch.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: ``(B, 4)`` float32.
        pad: side of the square over the larger side of the box.
        size: output side in pixels.

    Returns:
        ``(B, 3, size, size)`` float32 in [0, 1].
    """
    max_taps = 16
    count = boxes.shape[0]
    # Outside the image the crop stays black; the border is never stretched.
    crops = torch.zeros(count, 3, size, size, dtype=torch.float32, device=image.device)
    if count == 0:
        return crops
    side = crop_side(boxes, pad)
    # Only the part of the image that some crop touches is converted to float.
    low = torch.floor(boxes[:, :2] - side[:, None] * 0.5 - 1.0).amin(dim=0)
    high = torch.ceil(boxes[:, :2] + side[:, None] * 0.5 + 2.0).amax(dim=0)
    x0 = int(low[0].clamp(0, image.shape[1] - 1))
    y0 = int(low[1].clamp(0, image.shape[0] - 1))
    x1 = int(high[0].clamp(x0 + 1, image.shape[1]))
    y1 = int(high[1].clamp(y0 + 1, image.shape[0]))
    region = image[y0:y1, x0:x1].permute(2, 0, 1).unsqueeze(0).to(torch.float32) / 255.0
    centre = boxes[:, :2] - torch.tensor([float(x0), float(y0)], device=boxes.device)
    shrink = side / float(size)
    taps = 1
    while taps <= max_taps:
        if taps == 1:
            member = shrink <= 1.0
        elif taps == max_taps:
            member = shrink > taps / 2
        else:
            member = (shrink > taps / 2) & (shrink <= taps)
        chosen = member.nonzero().squeeze(1)
        if chosen.shape[0] > 0:
            crops[chosen] = _sample(region, centre[chosen], side[chosen], size, taps)
        taps *= 2
    return crops


def _sample(region: Tensor, centre: Tensor, side: Tensor, size: int, taps: int) -> Tensor:
    """Bilinear samples of ``region`` ``(1, 3, h, w)`` on a taps-times finer grid, averaged; ``(B, 3, size, size)``."""
    fine = size * taps
    offset = (torch.arange(fine, device=region.device, dtype=torch.float32) + 0.5) / fine - 0.5
    x = centre[:, 0:1] + side[:, None] * offset[None, :]
    y = centre[:, 1:2] + side[:, None] * offset[None, :]
    # grid_sample without align_corners puts pixel i's centre at (2i + 1)/n − 1.
    gx = (2.0 * x + 1.0) / region.shape[3] - 1.0
    gy = (2.0 * y + 1.0) / region.shape[2] - 1.0
    count = centre.shape[0]
    grid = torch.stack([gx[:, None, :].expand(count, fine, fine), gy[:, :, None].expand(count, fine, fine)], dim=-1)
    # One tall grid over one image: the image is never copied a box.
    sampled = F.grid_sample(
        region, grid.reshape(1, count * fine, fine, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    sampled = sampled.reshape(3, count, fine, fine).transpose(0, 1)
    if taps > 1:
        sampled = F.avg_pool2d(sampled, taps)
    return sampled


def normalize_crops(crops: Tensor) -> Tensor:
    """Min-max normalisation of each crop over all its channels: (x − min)/(max − min) (METHOD 1). Scriptable.

    Args:
        crops: ``(B, 3, S, S)``.

    Returns:
        The same shape, in [0, 1]; a constant crop becomes zero.
    """
    low = crops.amin(dim=(1, 2, 3), keepdim=True)
    high = crops.amax(dim=(1, 2, 3), keepdim=True)
    return (crops - low) / (high - low).clamp(min=1e-4)
