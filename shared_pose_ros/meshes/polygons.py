"""Faces of more than three corners, split into triangles that cover what the outline encloses.

A fan from a corner does so only where that corner sees all others; other outlines go to manifold3d's triangulation.
Outlines are looked at along the normal of their mean plane (Newell). Any length unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A triangle below this fraction of its polygon's area would be a line.
_LEAST_SHARE = 1e-9
# An outline whose triangles cover more than its area by this fraction crosses itself.
_CROSSING = 1e-6
# A polygon of which a corner lies further from its mean plane than this fraction of its size is not planar.
_PLANAR = 1e-3
# Starts of a fan that are tried, and polygons handled at once.
_STARTS, _CHUNK = 8, 100_000


@dataclass(frozen=True)
class Polygons:
    """Faces of any number of corners.

    Attributes:
        corners: ``(ΣN,)`` int64, vertices of all faces end to end.
        sizes: ``(F,)`` int64, corners of each face.
    """

    corners: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass
class Outlines:
    """What was seen of the polygons.

    Attributes:
        short: faces of one or two corners, which are left out.
        bent: polygons that are not planar.
        height: largest distance of a corner from its polygon's mean plane, in the file's unit.
        crossed: polygons whose outline crosses itself.
        excess: area that their triangles cover too much, in the file's unit squared.
    """

    short: int = 0
    bent: int = 0
    height: float = 0.0
    crossed: int = 0
    excess: float = 0.0

    def notes(self, scale: float) -> list[str]:
        """Sentences for people; ``scale`` is metres per unit of the file."""
        told = {
            f"{self.short} faces have fewer than three corners: left out": self.short,
            f"{self.bent} faces of more than three corners are not planar, by up to "
            f"{self.height * scale * 1e3:.3g} mm: split as their mean plane shows them": self.bent,
            f"the outlines of {self.crossed} faces cross themselves: their triangles overlap": self.crossed,
        }
        return [sentence for sentence, count in told.items() if count]


def triangulate(vertices: NDArray[np.float64], polygons: Polygons) -> tuple[NDArray[np.int64], Outlines]:
    """Split polygons into triangles that keep their outline's direction.

    Args:
        vertices: ``(V, 3)``.
        polygons: with corners within ``vertices``.

    Returns:
        ``(T, 3)``, triangles in the order of the polygons' sizes, and what was seen. An outline that crosses itself
        gives triangles that overlap.

    Raises:
        ImportError: an outline needs manifold3d, which is absent.
    """
    seen = Outlines(short=int((polygons.sizes < 3).sum()))
    starts = np.cumsum(polygons.sizes) - polygons.sizes
    parts = [np.zeros((0, 3), dtype=np.int64)]
    for size in np.unique(polygons.sizes[polygons.sizes >= 3]):
        own = starts[polygons.sizes == size]
        for at in range(0, len(own), _CHUNK):
            rows = polygons.corners[own[at : at + _CHUNK, None] + np.arange(size)]
            parts.append(rows if size == 3 else _split(vertices, rows, seen))
    return np.concatenate(parts), seen


def _split(vertices: NDArray[np.float64], rows: NDArray[np.int64], seen: Outlines) -> NDArray[np.int64]:
    """Triangles ``(T, 3)`` of polygons ``(M, n)`` of one size."""
    corners = vertices[rows] - vertices[rows].mean(axis=1, keepdims=True)
    doubled = np.cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1)
    area = np.linalg.norm(doubled, axis=1) / 2.0
    normal = doubled / np.maximum(2.0 * area, np.finfo(np.float64).tiny)[:, None]
    height = np.abs(np.einsum("mni,mi->mn", corners, normal)).max(axis=1)
    size = np.ptp(corners, axis=1).max(axis=1)
    bent = (height > _PLANAR * size) & (area > _LEAST_SHARE * size**2)  # two loops that cancel out have no plane
    seen.bent += int(bent.sum())
    seen.height = max(seen.height, float(height[bent].max(initial=0.0)))
    done, left = [], np.arange(len(rows))
    for start in range(min(rows.shape[1], _STARTS)):
        rolled = np.roll(corners[left], -start, axis=1)
        good = _fan_fits(rolled, normal[left], area[left])
        done.append(_fans(np.roll(rows[left[good]], -start, axis=1)))
        left = left[~good]
    done += [rows[k][_clip(corners[k], normal[k], float(area[k]), float(size[k]), seen)] for k in left]
    return np.concatenate(done)


def _fans(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Triangles of ``(M, n)`` as fans from the first corner."""
    first = np.repeat(rows[:, :1], rows.shape[1] - 2, axis=1)
    return np.stack([first, rows[:, 1:-1], rows[:, 2:]], axis=2).reshape(-1, 3)


def _fan_fits(
    corners: NDArray[np.float64], normal: NDArray[np.float64], area: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a fan from the first corner covers each outline ``(M, n, 3)`` once: its triangles turn the same way."""
    spokes = corners[:, 1:] - corners[:, :1]
    cross = np.einsum("mni,mi->mn", np.cross(spokes[:, :-1], spokes[:, 1:]), normal)
    angle = np.arctan2(cross, np.einsum("mni,mni->mn", spokes[:, :-1], spokes[:, 1:]))
    return np.asarray((cross > _LEAST_SHARE * area[:, None]).all(axis=1) & (angle.sum(axis=1) < 2.0 * np.pi))


def _clip(
    corners: NDArray[np.float64], normal: NDArray[np.float64], area: float, size: float, seen: Outlines
) -> NDArray[np.int64]:
    """Triangles ``(n − 2, 3)`` of one outline ``(n, 3)``, as its corners' numbers."""
    if area <= _LEAST_SHARE * size**2:  # a line, or two loops that cancel out
        order = _fans(np.arange(len(corners))[None])
        covered = float(np.linalg.norm(np.cross(*_sides(corners[order])), axis=1).sum() / 2.0)
        seen.crossed += int(covered > _CROSSING * size**2)
        seen.excess += covered
        return order
    from manifold3d import triangulate as clip_ears

    along = np.eye(3)[np.abs(normal).argmin()]
    across = np.cross(normal, along)
    across /= np.linalg.norm(across)
    plane = corners @ np.stack([np.cross(across, normal), across], axis=1)
    order = np.asarray(clip_ears([plane], allow_convex=False), dtype=np.int64)
    first, second = _sides(plane[order])
    excess = float(np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2.0) - area
    if excess > _CROSSING * area:
        seen.crossed += 1
        seen.excess += excess
    return order


def _sides(triangles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two sides of each triangle from its first corner."""
    return triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
