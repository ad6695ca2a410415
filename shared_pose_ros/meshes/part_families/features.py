"""Features put onto any solid: bosses, pins, screws, lugs, holes, slots, pockets, other parts. Millimetres.

A feature is built about the origin with its base at z = 0 and goes onto a flat place of the surface, seen from above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    block,
    chamfered,
    opening,
    pin,
    polygon,
    rectangle,
    section,
    slot,
)
from shared_pose_ros.meshes.parts import hull, prism

if TYPE_CHECKING:
    from manifold3d import Manifold

# Rotations in degrees that bring each of the six sides of a solid up.
SIDES = ((0, 0, 0), (180, 0, 0), (90, 0, 0), (-90, 0, 0), (0, 90, 0), (0, -90, 0))
_CANDIDATES = 24
# Around a place, in units of its radius.
_RING = np.array([(0.0, 0.0), *polygon(8, 1.0, 10.0)])
# Share of its radius by which a place may be uneven, as the side of a thick rod is.
_UNEVEN = 0.35
# A cut takes at most this share of the volume.
_LARGEST_CUT = 0.25


def with_feature(draw: Sampler, solid: Manifold, small: bool = False) -> Manifold:
    """The solid, rotated so that a random side is up, with one feature there; only rotated if no place fits.

    Args:
        draw: decides on everything.
        solid: not empty.
        small: of a twentieth of the solid's size instead of up to a fifth.
    """
    solid = solid.rotate(draw.pick(SIDES))
    radius = _size(solid) * (draw.between(0.03, 0.06) if small else draw.log_between(0.05, 0.16))
    place = flat_place(draw, solid, radius)
    if place is None:
        return solid
    if draw.chance(0.55):
        addition = draw.pick(_ADDITIONS)(draw, radius)
        return solid + addition.translate((0, 0, -0.02 * radius)).translate(place)
    cut = draw.pick(_CUTS)(draw, radius, _size(solid))
    rest = solid - cut.translate(place)
    return rest if rest.volume() > (1 - _LARGEST_CUT) * solid.volume() else solid


def with_part(draw: Sampler, solid: Manifold, build: Callable[[Sampler], Manifold]) -> Manifold:
    """The solid with a smaller part of another family standing on one of its sides; as it was if no place fits."""
    solid = solid.rotate(draw.pick(SIDES))
    part = build(draw).rotate(draw.pick(SIDES))
    reach = _size(solid) * draw.between(0.1, 0.22)
    place = flat_place(draw, solid, reach)
    if place is None or part.is_empty():
        return solid
    low, high = (np.asarray(part.bounding_box()[k : k + 3]) for k in (0, 3))
    scale = 2.2 * reach / max(float((high - low)[:2].max()), 0.7 * float((high - low)[2]))
    base = part.translate((-(low + high) / 2 * (1, 1, 0) - (0, 0, low[2])).tolist()).scale([scale] * 3)
    sunk = 0.12 * reach
    return solid + base.translate((place[0], place[1], place[2] - sunk))


def flat_place(draw: Sampler, solid: Manifold, radius: float) -> tuple[float, float, float] | None:
    """A point of the surface, seen from above, with an even surrounding of this radius; None if none was found."""
    mesh = solid.to_mesh()
    corners = np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3][np.asarray(mesh.tri_verts)]
    low, high = corners.min(axis=(0, 1))[:2], corners.max(axis=(0, 1))[:2]
    shares = np.array([(draw.between(0.04, 0.96), draw.between(0.04, 0.96)) for _ in range(_CANDIDATES)])
    if draw.chance(0.5):  # on a middle line, where many parts have their features
        shares[:, draw.count(0, 1)] = 0.503
    centres = low + shares * (high - low)
    heights = _heights(corners, (centres[:, None] + radius * _RING).reshape(-1, 2)).reshape(_CANDIDATES, -1)
    # Off the solid a height is −inf; −1e9 gives the same answer without a warning.
    even = np.ptp(np.maximum(heights, -1e9), axis=1) < _UNEVEN * radius
    even &= heights[:, 0] > -1e9
    if not even.any():
        return None
    best = int(np.argmax(even))
    x, y, z = centres[best, 0], centres[best, 1], heights[best].min()
    return round(float(x), 3), round(float(y), 3), round(float(z), 3)


def _heights(corners: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Greatest z of triangles ``(F, 3, 3)`` above each of ``points (P, 2)``; −inf where there is none."""
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    u, v = (second - first)[:, :2], (third - first)[:, :2]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    up = area > 1e-9
    first, u, v, area = first[up], u[up], v[up], area[up]
    x, y = points[:, :1] - first[:, 0], points[:, 1:] - first[:, 1]
    b, c = (x * v[:, 1] - y * v[:, 0]) / area, (y * u[:, 0] - x * u[:, 1]) / area
    z = first[:, 2] + b * (second[up, 2] - first[:, 2]) + c * (third[up, 2] - first[:, 2])
    inside = (b >= 0) & (c >= 0) & (b + c <= 1)
    return np.where(inside, z, -np.inf).max(axis=1, initial=-np.inf)


def _size(solid: Manifold) -> float:
    box = solid.bounding_box()
    return float(max(box[k + 3] - box[k] for k in range(3)))


def _boss(draw: Sampler, r: float) -> Manifold:
    high = r * draw.between(0.4, 2.0)
    boss = pin((0, 0), 0, high, r, r * draw.pick((1, 1, 0.85)))
    return boss - pin((0, 0), 0.3 * high, high + 1, 0.55 * r) if draw.chance(0.7) else boss


def _stud(draw: Sampler, r: float) -> Manifold:
    high = r * draw.between(1.5, 4.0)
    return pin((0, 0), 0, high, 0.6 * r) + pin((0, 0), high - 0.05 * r, high + 0.2 * r, 0.6 * r, 0.4 * r)


def _screw(draw: Sampler, r: float) -> Manifold:
    high = r * draw.between(0.4, 0.8)
    if draw.chance(0.4):
        return chamfered(section(polygon(6, r, 17)), 0, high, 0.1 * r) + pin((0, 0), 0, 0.15 * r, 1.2 * r)
    angle = draw.between(0, 180)
    cut = block((0, 0), (3 * r, 0.3 * r), 0.5 * high, high + 1).rotate((0, 0, angle))
    cut = cut + cut.rotate((0, 0, 90)) if draw.chance(0.5) else cut
    return pin((0, 0), 0, high, r) - cut


def _lug(draw: Sampler, r: float) -> Manifold:
    lug = chamfered(rectangle(1.4 * r, r * draw.between(0.5, 1.4)), 0, r * draw.between(0.4, 2.0), 0.12 * r)
    return lug.rotate((0, 0, draw.pick((0, 0, 90, 45))))


def _rib(draw: Sampler, r: float) -> Manifold:
    foot = block((0, 0), (1.8 * r, 0.35 * r), 0, 0.1 * r)
    rib = hull(foot, block((draw.pick((0, -0.6)) * r, 0), (0.5 * r, 0.35 * r), 0, r * draw.between(0.6, 1.6)))
    return rib.rotate((0, 0, draw.pick((0, 90, 180, 270))))


def _eye(draw: Sampler, r: float) -> Manifold:
    disc = pin((0, 0), -0.25 * r, 0.25 * r, 0.8 * r).rotate((90, 0, 0)).translate((0, 0, 1.1 * r))
    eye = hull(disc, block((0, 0), (1.6 * r, 0.5 * r), 0, 0.1 * r))
    eye -= pin((0, 0), -r, r, 0.4 * r).rotate((90, 0, 0)).translate((0, 0, 1.1 * r))
    return eye.rotate((0, 0, draw.pick((0, 90))))


def _hole(draw: Sampler, r: float, size: float) -> Manifold:
    depth = draw.pick((0.5 * r, 2 * r, 2 * size))
    hole = opening(draw, r, -depth, size)
    return hole + pin((0, 0), -0.4 * r, size, 1.05 * r) if draw.chance(0.2) else hole


def _groove(draw: Sampler, r: float, size: float) -> Manifold:
    depth = draw.pick((0.4 * r, r, 2 * size))
    return slot((0, 0), 1.1 * r, r * draw.between(0.4, 0.8), -depth, size, draw.pick((0, 0, 90, 45)))


def _pocket(draw: Sampler, r: float, size: float) -> Manifold:
    depth, width = r * draw.between(0.3, 1.5), r * draw.between(0.6, 1.4)
    return prism(
        [(-0.7 * r, -width / 2), (0.7 * r, -width / 2), (0.7 * r, width / 2), (-0.7 * r, width / 2)], -depth, size
    )


_ADDITIONS = (_boss, _stud, _screw, _lug, _rib, _eye)
_CUTS = (_hole, _hole, _groove, _pocket)
