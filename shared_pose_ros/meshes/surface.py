"""Points on a mesh's surface and exact distances to it, for checking symmetries and simplified meshes.

Lengths are those of the mesh (metres).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.mesh import Mesh

# Point-triangle pairs held in memory at once: about 20 arrays of this many float64.
_PAIRS = 400_000


def sample_surface(mesh: Mesh, count: int) -> NDArray[np.float64]:
    """Points uniform over the surface, ``(count, 3)``, always the same."""
    generator = np.random.default_rng(0)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(first, second), axis=1)
    chosen = generator.choice(len(area), size=count, p=area / area.sum())
    u, v = generator.random((2, count, 1))
    outside = u + v > 1.0
    u, v = np.where(outside, 1.0 - u, u), np.where(outside, 1.0 - v, v)
    return corners[chosen, 0] + u * first[chosen] + v * second[chosen]


def surface_distance(mesh: Mesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point to the nearest point of the surface, exact.

    Every point meets every triangle: the distance to the plane where the foot lies inside, else to the nearest edge.

    Args:
        mesh: any mesh.
        points: ``(N, 3)``.

    Returns:
        ``(N,)``.
    """
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    points = np.asarray(points, dtype=np.float64)
    chunk = max(1, _PAIRS // len(corners))
    parts = [_squared_distance(corners, points[i : i + chunk]).min(axis=1) for i in range(0, len(points), chunk)]
    return np.sqrt(np.concatenate(parts)) if parts else np.zeros(0)


def _squared_distance(corners: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances of ``points (N, 3)`` to triangles ``corners (F, 3, 3)``, ``(N, F)``."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    normal = np.cross(b - a, c - a)
    doubled_area = np.linalg.norm(normal, axis=1)
    normal = normal / np.where(doubled_area > 0.0, doubled_area, 1.0)[:, None]
    nearest = np.full((len(points), len(corners)), np.inf)
    inside = np.broadcast_to(doubled_area > 0.0, nearest.shape).copy()
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        squared_length = np.maximum((edge * edge).sum(axis=1), np.finfo(np.float64).tiny)
        along = points @ edge.T - (start * edge).sum(axis=1)
        squared = (points**2).sum(axis=1)[:, None] - 2.0 * points @ start.T + (start**2).sum(axis=1)
        share = np.clip(along / squared_length, 0.0, 1.0)
        np.minimum(nearest, squared + share * (share * squared_length - 2.0 * along), out=nearest)
        inward = np.cross(normal, edge)
        inside &= points @ inward.T - (start * inward).sum(axis=1) >= 0.0
    height = points @ normal.T - (a * normal).sum(axis=1)
    return np.maximum(np.where(inside, height * height, nearest), 0.0)
