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
    """Cut the square of side pad · max(w, h) around every box and resize it. Scriptable.

    Bilinear where the crop is enlarged; where it shrinks by r, the mean of ⌈r⌉² bilinear taps (a power of two, at most
    16²) per pixel, so that large boxes do not alias. Boxes that share a tap count are one batch.

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
            if image.device.type == "cpu":
                crops[chosen] = _multiply(image, boxes[chosen, :2], side[chosen], size, taps)
            else:
                crops[chosen] = _sample(image, boxes[chosen, :2], side[chosen], size, taps)
        taps *= 2
    return crops


def _positions(centre: Tensor, side: Tensor, fine: int) -> Tensor:
    """Where the samples lie, ``(B, 2, fine)``: columns, then rows, in pixels of the image."""
    offset = (torch.arange(fine, device=centre.device, dtype=torch.float32) + 0.5) / fine - 0.5
    return centre[:, :, None] + side[:, None, None] * offset


def _multiply(image: Tensor, centre: Tensor, side: Tensor, size: int, taps: int) -> Tensor:
    """The crops as matrix products, ``(B, 3, size, size)``: rows · pixels · columnsᵀ.

    Bilinear weights are products of a row's and a column's, and so are their means over a square of taps. On a CPU two
    small products per box take a fifth of the time of ``_sample``'s ``(size · taps)²`` samples.
    """
    limit = torch.tensor([image.shape[1], image.shape[0]], dtype=torch.int64)
    # Far outside, integers would overflow; just outside has no weight either.
    position = torch.minimum(_positions(centre, side, size * taps).clamp(min=-2.0), limit[:, None] + 1.0)
    before = position.floor()
    low = torch.minimum(before[:, :, 0].long().clamp(min=0), limit)
    high = torch.maximum(torch.minimum(before[:, :, -1].long() + 2, limit), low)
    length = int((high - low).max())
    after = position - before
    weights = torch.zeros(centre.shape[0], 2, size, length + 1)
    for step in range(2):
        column = before.long() + step - low[:, :, None]
        weight = (after if step else 1.0 - after) / taps
        # What lies outside the image goes to a column that is then left out.
        column = torch.where((column < 0) | (column >= (high - low)[:, :, None]), length, column)
        shape = [centre.shape[0], 2, size, taps]
        weights.scatter_add_(3, column.reshape(shape), weight.reshape(shape))
    weights[:, 0] /= 255.0
    crops = torch.empty(centre.shape[0], 3 * size, size)
    for box in range(centre.shape[0]):
        x0, y0, x1, y1 = int(low[box, 0]), int(low[box, 1]), int(high[box, 0]), int(high[box, 1])
        pixels = image[y0:y1, x0:x1].to(torch.float32).reshape(y1 - y0, (x1 - x0) * 3)
        rows = torch.mm(weights[box, 1, :, : y1 - y0], pixels).reshape(size, x1 - x0, 3)
        # Two dimensions: a product with three takes ten times as long here.
        rows = rows.permute(2, 0, 1).reshape(3 * size, x1 - x0)
        torch.mm(rows, weights[box, 0, :, : x1 - x0].t(), out=crops[box])
    return crops.reshape(centre.shape[0], 3, size, size)


def _sample(image: Tensor, centre: Tensor, side: Tensor, size: int, taps: int) -> Tensor:
    """The same crops by bilinear samples on a taps-times finer grid, averaged: a few kernels whatever the boxes."""
    low = torch.floor(centre - side[:, None] * 0.5 - 1.0).amin(dim=0)
    high = torch.ceil(centre + side[:, None] * 0.5 + 2.0).amax(dim=0)
    # Only the part of the image that some crop touches is converted to float.
    x0 = int(low[0].clamp(0, image.shape[1] - 1))
    y0 = int(low[1].clamp(0, image.shape[0] - 1))
    x1 = int(high[0].clamp(x0 + 1, image.shape[1]))
    y1 = int(high[1].clamp(y0 + 1, image.shape[0]))
    region = image[y0:y1, x0:x1].permute(2, 0, 1).unsqueeze(0).to(torch.float32) / 255.0
    count, fine = centre.shape[0], size * taps
    position = _positions(centre - torch.tensor([float(x0), float(y0)], device=centre.device), side, fine)
    # grid_sample without align_corners puts pixel i's centre at (2i + 1)/n − 1.
    gx = (2.0 * position[:, 0] + 1.0) / region.shape[3] - 1.0
    gy = (2.0 * position[:, 1] + 1.0) / region.shape[2] - 1.0
    grid = torch.stack([gx[:, None, :].expand(count, fine, fine), gy[:, :, None].expand(count, fine, fine)], dim=-1)
    # One tall grid over one image: the image is never copied for a box.
    sampled = F.grid_sample(
        region, grid.reshape(1, count * fine, fine, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    sampled = sampled.reshape(3, count, fine, fine).transpose(0, 1)
    if taps > 1:
        sampled = F.avg_pool2d(sampled, taps)
    return sampled


def normalize_crops(crops: Tensor) -> Tensor:
    """Min-max normalisation of each crop over all its channels: (x − min)/(max − min). Scriptable.

    Args:
        crops: ``(B, 3, S, S)``.

    Returns:
        The same shape, in [0, 1]; a constant crop becomes zero.
    """
    low = crops.amin(dim=(1, 2, 3), keepdim=True)
    high = crops.amax(dim=(1, 2, 3), keepdim=True)
    return (crops - low) / (high - low).clamp(min=1e-4)
