"""Which points of a mesh a camera sees, looked up by the viewing direction instead of rendered for each pose.

Convention: metres, CAD axes, points about the centre of the CAD's box. A viewing direction is the unit vector from the
object to the camera, in the object's axes. Objects are small against their distance, so all rays of one view are taken
as parallel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.mesh_points import surface_points

POINTS = 512
"""Of a surface; a view shows about two fifths of them."""
DIRECTIONS = 128
"""Views of the table; neighbours are 17° apart."""
LEAST_FACING = 0.15
"""Cosine between normal and viewing direction below which a point counts as hidden: its depth says little."""
_SLACK = 0.01
"""A point on a face is not hidden by that face's neighbours: fraction of the mesh's size."""
_EDGE_ON = 1e-4
"""Sine below which a face hides nothing, for it is seen from its edge."""


@dataclass(frozen=True)
class VisiblePoints:
    """Surface points of k objects and the views that show them.

    Attributes:
        points: ``(k, P, 3)`` metres about the centres of the CAD's boxes; zeros without a mesh.
        normals: ``(k, P, 3)`` outwards.
        shown: ``(k, V, P)`` bool, whether nothing lies between the point and a camera in that direction.
        directions: ``(V, 3)`` unit vectors.
        known: ``(k,)`` bool, whether there is a mesh.
    """

    points: Tensor
    normals: Tensor
    shown: Tensor
    directions: Tensor
    known: Tensor

    def seen(self, index: Tensor, towards_camera: Tensor) -> Tensor:
        """``(H, P)`` bool: the points of the objects ``index (H,)`` that face the camera and are not hidden.

        Args:
            index: object_index.
            towards_camera: ``(H, 3)`` unit viewing directions in the objects' axes.
        """
        nearest = (towards_camera @ self.directions.T).argmax(dim=1)
        facing = torch.einsum("hpi,hi->hp", self.normals[index], towards_camera) > LEAST_FACING
        return self.shown[index, nearest] & facing

    def visible(self, index: Tensor, towards_camera: Tensor) -> tuple[Tensor, Tensor]:
        """The points that ``seen`` names, without the others, which are more than half.

        Args:
            index: object_index ``(H,)``.
            towards_camera: ``(H, 3)`` unit viewing directions in the objects' axes.

        Returns:
            Points and normals ``(H, 6, M)``, M the most that any view shows; and which of them are seen ``(H, M)``,
            the rest fills up.
        """
        nearest = (towards_camera @ self.directions.T).argmax(dim=1)
        rows, values = self._lists
        chosen = rows[index, nearest]
        found = values.index_select(0, chosen.flatten()).unflatten(0, chosen.shape).mT.contiguous()
        return found, torch.bmm(towards_camera[:, None], found[:, 3:])[:, 0] > LEAST_FACING

    @functools.cached_property
    def _lists(self) -> tuple[Tensor, Tensor]:
        """Rows of the points that each view shows ``(k, V, M)``, and points and normals by row, the last one zero."""
        objects, count = self.points.shape[:2]
        most = max(int(self.shown.sum(dim=2).max()), 1) if objects else 1
        # A stable sort puts what is shown first, in its order.
        order = self.shown.byte().argsort(dim=2, descending=True, stable=True)[:, :, :most]
        rows = order + count * torch.arange(objects)[:, None, None]
        rows = torch.where(self.shown.gather(2, order), rows, torch.full((), objects * count))
        values = torch.cat([self.points, self.normals], dim=2).flatten(0, 1)
        return rows, torch.cat([values, torch.zeros(1, 6)])

    def every(self, share: int) -> VisiblePoints:
        """Every ``share``-th point: they are spread as evenly as all are. Made once."""
        if share not in self._fewer:
            self._fewer[share] = VisiblePoints(
                self.points[:, ::share],
                self.normals[:, ::share],
                self.shown[:, :, ::share],
                self.directions,
                self.known,
            )
        return self._fewer[share]

    @functools.cached_property
    def _fewer(self) -> dict[int, VisiblePoints]:
        return {}


def visible_points(meshes: Sequence[DisplayMesh | None], centres: NDArray[np.floating]) -> VisiblePoints:
    """The table of all meshes; None is an object without a mesh. Takes some 0.1 s an object.

    Args:
        meshes: in the order of object_index.
        centres: ``(k, 3)`` metres, of the CAD's boxes.
    """
    directions = fibonacci_directions(DIRECTIONS)
    points, normals = np.zeros((2, len(meshes), POINTS, 3), np.float32)
    shown = np.zeros((len(meshes), DIRECTIONS, POINTS), dtype=bool)
    for row, mesh in enumerate(meshes):
        if mesh is not None:
            own, outwards = surface_points(mesh, POINTS)
            shown[row] = unobstructed(own, outwards, mesh, directions)
            points[row], normals[row] = own - centres[row], outwards
    known = torch.tensor([mesh is not None for mesh in meshes], dtype=torch.bool)
    table = torch.from_numpy(directions.astype(np.float32))
    return VisiblePoints(torch.from_numpy(points), torch.from_numpy(normals), torch.from_numpy(shown), table, known)


def fibonacci_directions(count: int) -> NDArray[np.float64]:
    """``(count, 3)`` unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    step = np.arange(count)
    z = 1.0 - (2.0 * step + 1.0) / count
    angle = step * math.pi * (3.0 - math.sqrt(5.0))
    flat = np.sqrt(1.0 - z * z)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1)


def unobstructed(
    points: NDArray[np.floating],
    normals: NDArray[np.floating],
    mesh: DisplayMesh,
    directions: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """``(V, P)``: whether the ray from a point in a direction meets no face of the mesh.

    Seen along the direction a ray is a point and a face a triangle: it is met where the point lies inside and the face
    is further along.

    Args:
        points: ``(P, 3)`` on the surface, of the mesh's frame.
        normals: ``(P, 3)``; points that face away are not looked at and count as hidden.
        mesh: the faces.
        directions: ``(V, 3)`` unit vectors.
    """
    vertices = torch.from_numpy(mesh.vertices.astype(np.float32))
    faces = torch.from_numpy(mesh.faces.astype(np.int64))
    slack = _SLACK * float(np.ptp(mesh.vertices, axis=0).max())
    at, outwards = torch.from_numpy(np.asarray(points, np.float32)), torch.from_numpy(np.asarray(normals, np.float32))
    found = torch.zeros(len(directions), len(points), dtype=torch.bool)
    for row, direction in enumerate(torch.from_numpy(directions.astype(np.float32))):
        facing = (outwards @ direction > 0).nonzero()[:, 0]
        axes = _axes(direction)
        found[row, facing] = ~_met(at[facing] @ axes.T, (vertices @ axes.T)[faces], slack)
    return found.numpy()


def _axes(direction: Tensor) -> Tensor:
    """Rows: two unit vectors across the direction, and the direction."""
    across = torch.zeros(3)
    across[direction.abs().argmin()] = 1.0
    first = torch.linalg.cross(direction, across)
    first = first / first.norm()
    return torch.stack([first, torch.linalg.cross(direction, first), direction])


def _met(points: Tensor, corners: Tensor, slack: float) -> Tensor:
    """``(P,)``: a face ``(F, 3, 3)`` covers the point's first two coordinates and has a greater third one there."""
    a, b, c = corners.unbind(dim=1)
    edge, other = b - a, c - a
    area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    seen = area.abs() > _EDGE_ON * edge.norm(dim=1) * other.norm(dim=1)
    a, edge, other, area = a[seen], edge[seen], other[seen], area[seen, None]
    # Barycentric coordinates and height are linear in the point: a product each, not a dozen operations.
    first = torch.stack([other[:, 1], -other[:, 0]], dim=1) / area
    second = torch.stack([-edge[:, 1], edge[:, 0]], dim=1) / area
    u = torch.addmm(-(first * a[:, :2]).sum(dim=1), points[:, :2], first.T)
    v = torch.addmm(-(second * a[:, :2]).sum(dim=1), points[:, :2], second.T)
    rise = first * edge[:, 2:] + second * other[:, 2:]
    height = torch.addmm(a[:, 2] - (rise * a[:, :2]).sum(dim=1), points[:, :2], rise.T)
    inside = torch.minimum(torch.minimum(u, v), 1.0 - u - v) >= 0.0
    return (inside & (height > points[:, 2:] + slack)).any(dim=1)
