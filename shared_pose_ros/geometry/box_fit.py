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
    # Everything times K: (u z, v z, z) of a point, so that a division makes pixels of it.
    seen = vertices @ (camera @ rotations).mT
    diagonal = boxes[:, 2:].norm(dim=1, keepdim=True)
    found = start @ camera.T
    for _ in range(ITERATIONS):
        low, high = _corners(seen, found)
        found = found * ((high - low).norm(dim=1, keepdim=True) / diagonal)
        shift = boxes[:, :2] - (low + high) / 2.0
        found[:, :2] += found[:, 2:] * shift
    found = torch.linalg.solve(camera, found.mT).mT
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
    low, high = _corners(vertices @ (camera @ rotations).mT, position @ camera.T)
    return high - low


def _corners(seen: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest pixel coordinates, each ``(B, 2)``, of ``seen + position``, ``(u z, v z, z)`` each."""
    depth = torch.maximum(seen[..., 2:] + position[:, None, 2:], _NEAREST * position[:, None, 2:])
    return torch.aminmax((seen[..., :2] + position[:, None, :2]) / depth, dim=1)
