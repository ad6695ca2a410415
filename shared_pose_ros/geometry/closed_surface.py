"""Which vertices are one place, which faces hang together, and whether a mesh is closed.

Lengths are in the mesh's unit. Faces ``(F, 3)`` are rows of vertices ``(V, 3)``, counter-clockwise seen from outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Vertices closer than this fraction of the largest extent are one place: what rounding leaves between them.
SAME_PLACE = 1e-6
_AXIS_BITS = 21  # 1 / SAME_PLACE needs 20 of them, and three axes fit into an int64


def same_places(points: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertices that round to the same point of a grid of ``SAME_PLACE`` times the largest extent.

    Args:
        points: ``(V, 3)``, finite, at least one.

    Returns:
        ``(P,)``, the first vertex of each place, in the order of x, y, z; and ``(V,)``, the place of each vertex.
    """
    points = np.asarray(points, np.float64)
    step = SAME_PLACE * max(float(np.ptp(points, axis=0).max()), np.finfo(np.float64).tiny)
    grid = np.round((points - points.min(axis=0)) / step).astype(np.int64)
    key = (grid[:, 0] << 2 * _AXIS_BITS) | (grid[:, 1] << _AXIS_BITS) | grid[:, 2]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def directed_edges(faces: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts ``(3F,)`` and ends ``(3F,)`` of the edges, in the direction of the faces: first edges first."""
    corners = np.asarray(faces, np.int64)
    return corners.T.reshape(-1), np.roll(corners, -1, axis=1).T.reshape(-1)


def pieces(starts: NDArray[np.int64], ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The least connected vertex of each of ``count`` vertices, ``(count,)``, of edges in either direction."""
    least = np.arange(count)
    while True:
        lower = least.copy()
        np.minimum.at(lower, ends, least[starts])
        np.minimum.at(lower, starts, lower[ends])
        lower = lower[lower]  # a jump: else as many rounds as edges from end to end
        if np.array_equal(lower, least):
            return least
        least = lower


def sixfold_volumes(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """Six times the signed volume between each face and the vertices' mean, ``(F,)``; the sum counts where closed."""
    points = np.asarray(vertices, np.float64)
    a, b, c = (points[faces] - points.mean(axis=0)).swapaxes(0, 1)
    return np.asarray(np.einsum("fi,fi->f", a, np.cross(b, c)))


def is_closed(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> bool:
    """Whether a mesh is the skin of solids, all wound outwards: then no ray from outside meets a back face first.

    Every edge is used as often in one direction as in the other (vertices at one place count as one), and every
    connected piece has a positive volume. A cavity within a solid has none: such a mesh counts as open.

    Args:
        vertices: ``(V, 3)``.
        faces: ``(F, 3)`` rows of ``vertices``.
    """
    corners = same_places(vertices)[1][np.asarray(faces, np.int64)]
    count = int(corners.max()) + 1
    starts, ends = directed_edges(corners)
    there, back = np.sort(starts * count + ends), np.sort(ends * count + starts)
    if not np.array_equal(there, back):
        return False
    piece = pieces(starts, ends, count)[corners[:, 0]]
    volumes = np.bincount(piece, weights=sixfold_volumes(vertices, faces))
    return bool((volumes[np.unique(piece)] > 0).all())
