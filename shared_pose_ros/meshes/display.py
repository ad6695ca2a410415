"""CAD made coarse for pictures, see ``geometry.display_mesh``. Metres, CAD frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.geometry.display_mesh import (
    FACE_BUDGET,
    FINE_FACE_BUDGET,
    MOST_FACES,
    MOST_FINE_FACES,
    DisplayMesh,
)
from shared_pose_ros.meshes.mesh import Mesh, simplify

_FINEST_GRID = 24


def display_mesh(mesh: Mesh) -> DisplayMesh:
    """About ``FACE_BUDGET`` faces of the same shape, at most ``MOST_FACES``."""
    return _coarse(mesh, FACE_BUDGET, MOST_FACES, _FINEST_GRID)


def fine_mesh(mesh: Mesh) -> DisplayMesh:
    """About ``FINE_FACE_BUDGET`` faces of the same shape, at most ``MOST_FINE_FACES``, for refinement."""
    return _coarse(mesh, FINE_FACE_BUDGET, MOST_FINE_FACES, 2 * _FINEST_GRID)


def _coarse(mesh: Mesh, budget: int, most: int, cells: int) -> DisplayMesh:
    """By edge collapses; where these stop early, vertices are merged on a grid."""
    coarse = simplify(mesh, budget)
    vertices, faces = coarse.vertices.astype(np.float64), coarse.faces.astype(np.int64)
    while len(faces) > most:
        vertices, faces = _merged_on_grid(coarse.vertices.astype(np.float64), coarse.faces.astype(np.int64), cells)
        cells = max(2, cells * 3 // 4)
    return DisplayMesh(vertices.astype(np.float32), faces.astype(np.uint16))


def _merged_on_grid(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], cells: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices of one cell become their mean, faces without three cells go (Rossignac and Borrel 1993)."""
    low = vertices.min(axis=0)
    size = (vertices.max(axis=0) - low).max() / cells
    _, owner, counts = np.unique(
        np.floor((vertices - low) / size).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    owner = owner.reshape(-1)
    means = np.zeros((len(counts), 3))
    np.add.at(means, owner, vertices)
    faces = owner[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    used, inverse = np.unique(faces[np.sort(first)], return_inverse=True)
    return (means / counts[:, None])[used], inverse.reshape(-1, 3)
