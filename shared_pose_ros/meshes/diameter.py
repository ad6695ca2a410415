"""The largest distance between two vertices, exact, without meeting every vertex with every other.

Vertices are halved again and again into cells of equal number (a k-d tree). Two cells are looked at more closely only
where boxes along their main axes leave room for a larger distance than one already found: on a round part
these are cells that face each other, on others the cells of a few corners. Lengths are the mesh's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.soundness import in_use

_LEAF = 64
# Pairs of cells handled at once, which bounds the memory.
_PAIRS = 200_000
# What rounding may add to a bound, relative to the distance: cells are given up only below it.
_ROUNDING = 1e-12
_SWEEPS = 8


def diameter(mesh: Mesh) -> float:
    """Largest distance between two vertices that faces use, in the mesh's unit.

    Exact to the rounding of double precision: a pair is left out only where a bound on it lies below a distance that
    two vertices have.

    Args:
        mesh: any mesh with a face.
    """
    return farthest(mesh.vertices[in_use(mesh.faces, len(mesh.vertices))].astype(np.float64))


def farthest(points: NDArray[np.float64]) -> float:
    """Largest distance between two of the points ``(N, 3)``, N at least 1."""
    points = points - points.mean(axis=0)
    best = _sweep(points)
    radius = np.linalg.norm(points, axis=1)
    points = points[radius + radius.max() >= best * (1.0 - _ROUNDING)]  # the others reach no one far enough
    depth = max(0, int(np.ceil(np.log2(max(len(points), 1) / _LEAF))))
    cells = _cells(points, depth)
    boxes = [_Boxes(cells.reshape(2**level, -1, 3)) for level in range(depth + 1)]
    leaves = _Leaves(cells.reshape(2**depth, -1, 3))
    waiting = [(0, np.zeros((1, 2), dtype=np.int64))]
    while waiting:
        level, pairs = waiting.pop()
        if len(pairs) > _PAIRS:
            waiting += [(level, pairs[at : at + _PAIRS]) for at in range(0, len(pairs), _PAIRS)]
            continue
        pairs = pairs[boxes[level].reach(pairs) >= best * (1.0 - _ROUNDING)]
        if level == depth:
            best = max(best, leaves.largest(pairs))
        elif len(pairs):
            waiting.append((level + 1, _halves(pairs)))
    return best


def _sweep(points: NDArray[np.float64]) -> float:
    """A distance between two of the points that is seldom far below the largest."""
    directions = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (0, 1)], dtype=np.float64)
    starts = np.unique([int((points @ direction).argmax()) for direction in directions])
    best = 0.0
    for start in starts:
        for _ in range(_SWEEPS):  # from a point to the farthest one, and on from there
            squared = ((points - points[start]) ** 2).sum(axis=1)
            start = int(squared.argmax())
            distance = float(np.sqrt(squared[start]))
            if distance <= best:
                break
            best = distance
    return best


def _cells(points: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    """The points ``(2^depth · n, 3)`` so ordered that halves of halves … are cells; some are there twice."""
    size = -(-max(len(points), 1) // 2**depth)
    cells = points[np.arange(size * 2**depth) % len(points)][None]
    for _ in range(depth):
        axis = np.ptp(cells, axis=1).argmax(axis=1)
        along = np.take_along_axis(cells, axis[:, None, None], axis=2)[:, :, 0]
        order = np.argpartition(along, along.shape[1] // 2, axis=1)
        cells = np.take_along_axis(cells, order[:, :, None], axis=1).reshape(2 * len(cells), -1, 3)
    return cells


class _Boxes:
    """Boxes about cells ``(C, n, 3)``, along the cells' main axes."""

    def __init__(self, cells: NDArray[np.float64]) -> None:
        mean = cells.mean(axis=1, keepdims=True)
        moved = cells - mean
        _, self.axes = np.linalg.eigh(moved.swapaxes(1, 2) @ moved)  # (C, 3, 3), axes in columns
        along = moved @ self.axes
        low, high = along.min(axis=1), along.max(axis=1)
        self.half = (high - low) / 2.0
        self.centre = mean[:, 0] + np.einsum("cij,cj->ci", self.axes, (high + low) / 2.0)
        self.radius = np.sqrt((self.half**2).sum(axis=1))

    def reach(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Upper bounds ``(P,)`` of the distance between points of two cells: along the line of centres, and across."""
        one, two = pairs.T
        apart = self.centre[two] - self.centre[one]
        distance = np.sqrt((apart**2).sum(axis=1))
        line = apart / np.maximum(distance, np.finfo(np.float64).tiny)[:, None]
        along = distance + self._extent(one, line) + self._extent(two, line)
        return np.sqrt(along**2 + (self.radius[one] + self.radius[two]) ** 2)

    def _extent(self, cell: NDArray[np.int64], line: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.abs(np.einsum("pij,pi->pj", self.axes[cell], line)) * self.half[cell]).sum(axis=1))


def _halves(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs of the cells' halves, each once."""
    split = np.concatenate([2 * pairs + (i, j) for i in (0, 1) for j in (0, 1)])
    return split[split[:, 0] <= split[:, 1]]


class _Leaves:
    """The points of cells ``(C, n, 3)`` that are not halved further."""

    def __init__(self, cells: NDArray[np.float64]) -> None:
        squares = (cells**2).sum(axis=2, keepdims=True)
        ones = np.ones_like(squares)
        self._left = np.concatenate([cells, squares, ones], axis=2)
        self._right = np.concatenate([-2.0 * cells, ones, squares], axis=2).swapaxes(1, 2)

    def largest(self, pairs: NDArray[np.int64]) -> float:
        """Largest distance between points of two cells, over all pairs: |p|² + |q|² − 2 p·q as a matrix product."""
        largest, chunk = 0.0, _PAIRS // _LEAF
        for at in range(0, len(pairs), chunk):
            one, two = pairs[at : at + chunk].T
            largest = max(largest, float((self._left[one] @ self._right[two]).max()))
        return float(np.sqrt(largest))
