"""The middle of a box in a depth image: how far the surface there is, and how far that puts an object's mesh.

Convention: OpenCV optical frame, metres; pixel centres at integer coordinates; boxes (cx, cy, w, h) in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared_pose_ros.geometry.cameras import viewing_ray
from shared_pose_ros.geometry.mesh_points import MeshPoints, near_surface

WINDOW = 0.6
"""Share of the box's sides that is looked at, in the middle."""
SAMPLES = 24
"""Depths are read on a grid of so many times so many points of the window."""
CELLS = 12
"""The same for the comparison with a mesh, see ``mesh_points.SURFACE_POINTS``."""
SURFACE_QUANTILE = 0.25
"""Of the window's distances: an object's edge shows more of the background behind than of neighbours in front."""


def same_view(depth_size: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a depth image of (height, width) can show the view of an image of another size: one ratio of sides."""
    return depth_size[0] * image_size[1] == depth_size[1] * image_size[0]


def surface_distances(
    depth: Tensor, boxes: Tensor, camera: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of the surface in the middle of each box, how much it varies, and how much of it was measured.

    Args:
        depth: ``(h, w)`` metres, 0 where nothing was measured.
        boxes: ``(B, 4)`` in pixels of the image.
        camera: its K ``(3, 3)``.
        image_size: its (height, width).

    Returns:
        Lower quartile and interquartile range of the distances from the camera (along each point's own ray), not finite
        without any, and the share of the points that have one; each ``(B,)``.
    """
    values, valid = read_window(depth, boxes, camera, image_size, SAMPLES)
    low, high = window_quantiles(values, valid, SURFACE_QUANTILE, 1.0 - SURFACE_QUANTILE)
    return low, high - low, valid.flatten(1).sum(dim=1) / SAMPLES**2


def mesh_distances(
    depth: Tensor,
    boxes: Tensor,
    camera: Tensor,
    image_size: tuple[int, int],
    centres: Tensor,
    rotated: Tensor,
    meshes: MeshPoints,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of each centre as depth and mesh say: what was measured minus how much nearer the mesh's surface is.

    Cells of the box's middle where the mesh has no surface do not count; of the others half may show something else.

    Args:
        depth: ``(h, w)`` metres, 0 where nothing was measured.
        boxes: ``(B, 4)`` in pixels of the image.
        camera: its K ``(3, 3)``.
        image_size: its (height, width).
        centres: ``(B, 3)`` from box and mesh: where in the box the mesh's surface is.
        rotated: ``(B, 3, 3)`` R_m2c, with the viewing-ray correction.
        meshes: points of the B objects.

    Returns:
        Median and interquartile range of the cells' distances, not finite without any, and the share of the cells that
        have one; each ``(B,)``. Worth nothing for objects without a mesh.
    """
    values, valid = read_window(depth, boxes, camera, image_size, CELLS)
    nearer = near_surface(centres, rotated, meshes, boxes, camera, WINDOW, CELLS)
    valid = valid & nearer.isfinite()
    low, middle, high = window_quantiles(values - nearer, valid, 0.25, 0.5, 0.75)
    return middle, high - low, valid.flatten(1).sum(dim=1) / CELLS**2


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
