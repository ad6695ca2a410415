"""Building blocks of the random parts: outlines, chamfered prisms, pins, patterns, holes. Millimetres throughout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.parts import box, hull, prism, rod

if TYPE_CHECKING:
    from manifold3d import CrossSection, Manifold

Points = Sequence[tuple[float, float]]


def segments_of(radius: float) -> int:
    """Corners of a circle; multiples of 12, so that the tessellation breaks no usual symmetry."""
    return 24 if radius < 8 else 36 if radius < 16 else 48 if radius < 32 else 72


def pin(at: tuple[float, float], low: float, high: float, radius: float, end_radius: float = -1.0) -> Manifold:
    """Cylinder or cone (towards ``end_radius``) along z from ``low`` to ``high`` with its axis through ``at``."""
    return rod((*at, low), "z", high - low, radius, end_radius, segments_of(max(radius, end_radius)))


def bar(start: tuple[float, float, float], axis: str, length: float, radius: float) -> Manifold:
    """Cylinder of ``length`` along +x, +y or +z."""
    return rod(start, axis, length, radius, segments=segments_of(radius))


def block(centre: tuple[float, float], size: tuple[float, float], low: float, high: float) -> Manifold:
    """Upright box about ``centre`` in x, y."""
    (x, y), (a, b) = centre, size
    return box((x - a / 2, y - b / 2, low), (x + a / 2, y + b / 2, high))


def slot(at: tuple[float, float], length: float, width: float, low: float, high: float, angle: float = 0) -> Manifold:
    """Upright body with the outline of a slot: ``length`` between the ends' centres, rotated by ``angle`` degrees."""
    ends = (pin((side * length / 2, 0), low, high, width / 2) for side in (-1, 1))
    return hull(*ends).rotate((0, 0, angle)).translate((*at, 0))


def polygon(corners: int, radius: float, start: float = 0.0) -> list[tuple[float, float]]:
    """Regular polygon, counter-clockwise, its first corner at ``start`` degrees."""
    angles = (math.radians(start) + 2 * math.pi * k / corners for k in range(corners))
    return [(round(radius * math.cos(a), 6), round(radius * math.sin(a), 6)) for a in angles]


def section(points: Points) -> CrossSection:
    """Flat outline of a counter-clockwise polygon."""
    from manifold3d import CrossSection

    return CrossSection([points])


def rectangle(x: float, y: float, corner: float = 0.0) -> CrossSection:
    """Rectangle about the origin, its corners rounded by ``corner`` (at most just under half a side)."""
    corner = min(corner, 0.49 * x, 0.49 * y)
    a, b = x / 2 - corner, y / 2 - corner
    return grown(section([(-a, -b), (a, -b), (a, b), (-a, b)]), corner)


def grown(outline: CrossSection, distance: float) -> CrossSection:
    """Outline moved outwards by ``distance``, corners rounded; inwards where it is negative."""
    from manifold3d import JoinType

    if distance == 0:
        return outline
    return outline.offset(distance, JoinType.Round, 2.0, segments_of(2 * abs(distance)))


def rounded(outline: CrossSection, outer: float, inner: float = 0.0) -> CrossSection:
    """Outline whose convex corners have the radius ``outer``, the concave ones ``inner``."""
    return grown(grown(grown(outline, -outer), outer + inner), -inner)


def extruded(outline: CrossSection, low: float, high: float) -> Manifold:
    """Upright body over an outline."""
    return outline.extrude(high - low).translate((0, 0, low))


def chamfered(outline: CrossSection, low: float, high: float, chamfer: float, both: bool = False) -> Manifold:
    """Upright body over a convex outline whose upper edge (or both) is cut at 45°."""
    small = grown(outline, -chamfer)
    bottom = low + chamfer if both else low
    layers = [extruded(outline, bottom, high - chamfer), extruded(small, low if both else bottom, high)]
    return hull(*layers)


def sideways(points: Points, width: float) -> Manifold:
    """Body of a counter-clockwise profile in x, z, ``width`` along y about the plane y = 0."""
    return prism(points, -width / 2, width / 2).rotate((90, 0, 0))


def union(solids: Iterable[Manifold]) -> Manifold:
    """Union of solids, at least one."""
    from manifold3d import Manifold, OpType

    return Manifold.batch_boolean(list(solids), OpType.Add)


def around(solid: Manifold, count: int, start: float = 0.0) -> Manifold:
    """``count`` copies evenly about z, the first rotated by ``start`` degrees."""
    return union(solid.rotate((0, 0, start + 360.0 * k / count)) for k in range(count))


def row(solid: Manifold, count: int, pitch: float, axis: int = 0) -> Manifold:
    """``count`` copies, ``pitch`` apart along x (axis 0), y or z, centred on the original."""
    places = [[0.0, 0.0, 0.0] for _ in range(count)]
    for number, place in enumerate(places):
        place[axis] = (number - (count - 1) / 2) * pitch
    return union(solid.translate(place) for place in places)


def mirrored(solid: Manifold, axis: int = 0) -> Manifold:
    """A solid and its mirror image across x = 0 (axis 0) or y = 0."""
    normal = [0, 0, 0]
    normal[axis] = 1
    return solid + solid.mirror(normal)


def opening(draw: Sampler, radius: float, low: float, high: float) -> Manifold:
    """Cutter along z about the origin within ``radius``: round, keyed, D-shaped, polygonal or splined."""
    kind = draw.pick(("round", "round", "round", "key", "flat", "hexagon", "square", "spline"))
    hole = pin((0, 0), low, high, 0.85 * radius)
    if kind == "key":
        return hole + block((0.6 * radius, 0), (0.8 * radius, 0.5 * radius), low, high)
    if kind == "flat":
        return hole - box((0.5 * radius, -radius, low - 1), (2 * radius, radius, high + 1))
    if kind in ("hexagon", "square"):
        return prism(polygon(6 if kind == "hexagon" else 4, radius, 45), low, high)
    if kind == "spline":
        return hole + around(block((0.8 * radius, 0), (0.3 * radius, 0.25 * radius), low, high), draw.pick((4, 6, 8)))
    return hole


def screw_hole(draw: Sampler, at: tuple[float, float], low: float, high: float, radius: float) -> Manifold:
    """Cutter for a through hole from ``low`` to ``high``: plain, counterbored or countersunk from above."""
    kind, depth = draw.pick(("plain", "plain", "bore", "sink")), 0.4 * (high - low)
    hole = pin(at, low - 1, high + 1, radius)
    if kind == "bore":
        return hole + pin(at, high - depth, high + 1, 1.7 * radius)
    if kind == "sink":
        depth = min(depth, 0.8 * radius)
        return hole + pin(at, high - depth, high + 0.01, radius, radius + depth)
    return hole
