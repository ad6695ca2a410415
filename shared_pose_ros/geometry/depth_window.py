"""The middle of a box in a depth image: distances on a grid, and their quantiles.

Convention: OpenCV optical frame, metres; pixel centres at integer coordinates; boxes (cx, cy, w, h) in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared_pose_ros.geometry.cameras import viewing_ray

WINDOW = 0.6
"""Share of the box's sides that is looked at, in the middle."""


def read_window(
    depth: Tensor, boxes: Tensor, camera: Tensor, image_size: tuple[int, int], samples: int
) -> tuple[Tensor, Tensor]:
    """Distances in the middle of each box, on a grid of the nearest pixels, so that boxes of all sizes are one batch.

    A depth image of another size shows the same view: pixel u of the image lies at (u + ½) w_depth/w_image − ½.

    Args:
        depth: ``(h, w)`` metres along z, 0 where nothing was measured.
        boxes: ``(B, 4)`` in pixels of the image.
        camera: its K ``(3, 3)``.
        image_size: its (height, width).
        samples: the grid has so many times so many points.

    Returns:
        Distances from the camera along each point's own ray, and whether there was one; ``(B, samples, samples)``.
    """
    grid = WINDOW * ((torch.arange(samples, dtype=boxes.dtype) + 0.5) / samples - 0.5)
    u, v = (boxes[:, axis, None] + boxes[:, axis + 2, None] * grid for axis in (0, 1))
    columns, inside_columns = _pixels(u, depth.shape[1], image_size[1])
    rows, inside_rows = _pixels(v, depth.shape[0], image_size[0])
    points = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1)
    values = depth[rows[:, :, None], columns[:, None, :]] / viewing_ray(camera, points)[..., 2]
    valid = (values > 0) & values.isfinite() & inside_rows[:, :, None] & inside_columns[:, None, :]
    return values, valid


def window_quantiles(values: Tensor, valid: Tensor, *quantiles: float) -> list[Tensor]:
    """Quantiles ``(B,)`` of the valid of ``values (B, n, n)``, infinite without any.

    Distances that were measured, not values between a surface and what is behind it: the next lower one.
    """
    last = (valid.flatten(1).sum(dim=1) - 1).clamp(min=0)
    ordered = values.masked_fill(~valid, math.inf).flatten(1).sort(dim=1).values
    return [ordered.gather(1, (q * last).long()[:, None])[:, 0] for q in quantiles]


def _pixels(points: Tensor, count: int, image_count: int) -> tuple[Tensor, Tensor]:
    """Of points ``(B, S)`` along one axis the depth image's indices, clamped to it, and which of them were inside."""
    index = ((points + 0.5) * (count / image_count) - 0.5).round()
    return index.clamp(0, count - 1).long(), (index >= 0) & (index < count)
