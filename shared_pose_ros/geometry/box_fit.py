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

    As ``cameras.translation_from_box``, but for the shape itself and with perspective: the box around a turned CAD box
    is larger than the box around the part in it, which puts parts too far away. Like that function, it takes the box of
    an occluded part for the whole part's.

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
        points = turned + found[:, None]
        depth = torch.maximum(points[..., 2:], _NEAREST * found[:, None, 2:])
        pixels = ((points / depth) @ camera.T)[..., :2]
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        found = found * ((high - low).norm(dim=1) / diagonal)[:, None]
        shift = boxes[:, :2] - (low + high) / 2.0
        found = found + found[:, 2:] * torch.nn.functional.pad(shift, (0, 1)) @ inverse.T
    return torch.where(torch.isfinite(found).all(dim=1, keepdim=True), found, start)
