"""Where an object is, from its 2D box and its mesh: the place from which the mesh fills the box.

Convention: OpenCV optical frame, metres, K in pixels, boxes (cx, cy, w, h) with pixel centres at integers.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 6
"""Each divides the error by the ratio of distance to the part's depth, ten and more; six reach float32's end."""
_NEAREST = 0.1
"""Corners nearer than this fraction of the distance are projected from there, so that the iteration stays finite."""


def fit_box(boxes: Tensor, camera: Tensor, rotations: Tensor, start: Tensor, vertices: Tensor) -> Tensor:
    """Positions from which each mesh's projection has the centre and the diagonal of its box (fixed-point iteration).

    As ``positions.distance_from_box``, but for the shape itself and with perspective. Like that function, it takes the
    box of an occluded part for the whole part's.

    Args:
        boxes: ``(B, 4)``.
        camera: K ``(3, 3)``.
        rotations: ``(B, 3, 3)`` R_m2c, with the viewing-ray correction.
        start: ``(B, 3)`` first guess of the origin of ``vertices``, z > 0.
        vertices: ``(B, V, 3)``, of the mesh or of its convex hull; repeat some to fill up.

    Returns:
        ``(B, 3)`` the origin of ``vertices`` in the camera frame; ``start`` where that does not come out finite.
    """
    turned = vertices @ rotations.transpose(-1, -2)
    diagonal = boxes[:, 2:].norm(dim=1)
    inverse = torch.linalg.inv(camera)
    found = start
    for _ in range(ITERATIONS):
        low, high = _corners(turned, found, camera)
        found = found * ((high - low).norm(dim=1) / diagonal)[:, None]
        shift = boxes[:, :2] - (low + high) / 2.0
        found = found + found[:, 2:] * torch.nn.functional.pad(shift, (0, 1)) @ inverse.T
    return torch.where(torch.isfinite(found).all(dim=1, keepdim=True), found, start)


def projected_sides(position: Tensor, camera: Tensor, rotations: Tensor, vertices: Tensor) -> Tensor:
    """Width and height of the box around each mesh's projection.

    Args:
        position: ``(B, 3)`` of the origin of ``vertices``.
        camera: K ``(3, 3)``.
        rotations: ``(B, 3, 3)`` R_m2c, with the viewing-ray correction.
        vertices: ``(B, V, 3)``.

    Returns:
        ``(B, 2)`` pixels.
    """
    low, high = _corners(vertices @ rotations.transpose(-1, -2), position, camera)
    return high - low


def _corners(turned: Tensor, position: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest pixel coordinates, each ``(B, 2)``."""
    points = turned + position[:, None]
    depth = torch.maximum(points[..., 2:], _NEAREST * position[:, None, 2:])
    pixels = ((points / depth) @ camera.T)[..., :2]
    return pixels.amin(dim=1), pixels.amax(dim=1)
