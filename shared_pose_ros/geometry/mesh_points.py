"""Display meshes as points of one tensor: vertices for the outline, points all over the surface for its depth.

Convention: OpenCV optical frame, metres; pixel centres at integer coordinates; boxes (cx, cy, w, h) in pixels. Points
are about the centre of the CAD's box, in the CAD's axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.geometry.display_mesh import DisplayMesh

SURFACE_POINTS = 1500
"""For a window of 12×12 cells. With fewer, more cells see through to surfaces that others hide."""


@dataclass(frozen=True)
class MeshPoints:
    """Points of B objects.

    Attributes:
        vertices: ``(B, V, 3)`` metres, the last one repeated to fill up; zeros without a mesh.
        surface: ``(B, P, 3)`` metres, spread evenly over the surface; zeros without a mesh.
        normals: ``(B, P, 3)`` theirs, outwards; zeros without a mesh.
        known: ``(B,)`` bool, whether there is a mesh.
    """

    vertices: Tensor
    surface: Tensor
    normals: Tensor
    known: Tensor

    def take(self, index: Tensor, surface: bool = True) -> MeshPoints:
        """The points of some objects, ``index (B,)``; without ``surface``, which only depth needs, P is 0."""
        points = SURFACE_POINTS if surface else 0
        return MeshPoints(
            self.vertices[index], self.surface[:, :points][index], self.normals[:, :points][index], self.known[index]
        )


def mesh_points(meshes: Sequence[DisplayMesh | None], centres: Tensor) -> MeshPoints:
    """Points of all meshes about ``centres (k, 3)``, those of the CAD's boxes; None is an object without a mesh."""
    empty = np.zeros((1, 3), np.float32)
    vertices = [empty if mesh is None else mesh.vertices for mesh in meshes]
    most = max((len(item) for item in vertices), default=1)
    padded = [np.pad(item, ((0, most - len(item)), (0, 0)), "edge") for item in vertices]
    none = empty.repeat(SURFACE_POINTS, 0)
    surface, normals = zip(*[(none, none) if mesh is None else surface_points(mesh) for mesh in meshes])
    known = torch.tensor([mesh is not None for mesh in meshes], dtype=torch.bool)
    shift = torch.where(known[:, None], centres, torch.zeros(()))[:, None]
    stacked, placed, outwards = (torch.from_numpy(np.stack(item)) for item in (padded, surface, normals))
    return MeshPoints(stacked - shift, placed - shift, outwards, known)


def surface_points(mesh: DisplayMesh, count: int = SURFACE_POINTS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``(count, 3)`` points on the faces, as many as their area says, always the same, and unit normals outwards.

    Within a face: the additive recurrence of the plastic number (Roberts 2018, "R2"), folded to the triangle.
    """
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = np.cross(a, b)
    # Some CAD is inside out: then the volume is negative.
    if np.einsum("ij,ij->", corners[:, 0] - corners.mean(axis=(0, 1)), normals) < 0:
        normals = -normals
    size = np.linalg.norm(normals, axis=1)
    area = size.cumsum()
    place = (np.arange(count) + 0.5) / count * area[-1]
    face = np.searchsorted(area, place, side="right").clip(max=len(area) - 1)
    weights = np.arange(1, count + 1)[:, None] * [0.7548776662466927, 0.5698402909980532] % 1.0
    weights = np.where(weights.sum(axis=1, keepdims=True) > 1.0, 1.0 - weights, weights)
    points = corners[face, 0] + weights[:, :1] * a[face] + weights[:, 1:] * b[face]
    return points.astype(np.float32), (normals[face] / np.maximum(size[face, None], 1e-30)).astype(np.float32)


def near_surface(
    centres: Tensor, rotations: Tensor, meshes: MeshPoints, boxes: Tensor, camera: Tensor, window: float, cells: int
) -> Tensor:
    """How much nearer than its centre each object's surface is, in the cells of its box's middle.

    The nearest of the points that fall into a cell: a coarse depth image of the mesh, minus the centre's distance.
    Points of faces that look away do not count: where no nearer one fell into the cell they would be seen through it.

    Args:
        centres: ``(B, 3)``, where the objects are taken to be.
        rotations: ``(B, 3, 3)`` R_m2c, with the viewing-ray correction.
        meshes: points of the B objects.
        boxes: ``(B, 4)``.
        camera: K ``(3, 3)``.
        window: the middle's share of the box's sides.
        cells: it has so many times so many cells.

    Returns:
        ``(B, cells, cells)`` metres along each point's own ray, rows first; infinite where the mesh has no point.
    """
    points = meshes.surface @ rotations.mT + centres[:, None]
    pixels = (points @ camera.T)[..., :2] / points[..., 2:]
    place = (((pixels - boxes[:, None, :2]) / (window * boxes[:, None, 2:]) + 0.5) * cells).floor()
    column, row = place.unbind(-1)
    eye = -(centres[:, None] @ rotations)  # the camera in the objects' axes
    facing = (meshes.normals * (eye - meshes.surface)).sum(dim=-1) > 0
    inside = facing & (column >= 0) & (column < cells) & (row >= 0) & (row < cells) & (points[..., 2] > 0)
    cell = torch.where(inside, row * cells + column, torch.zeros(())).long()
    distance = points.norm(dim=-1).masked_fill(~inside, math.inf)
    nearest = torch.full((len(boxes), cells * cells), math.inf, dtype=distance.dtype)
    nearest.scatter_reduce_(1, cell, distance, "amin")
    return (nearest - centres.norm(dim=1)[:, None]).unflatten(1, (cells, cells))
