"""Plates and machined blocks. Millimetres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    bar,
    block,
    chamfered,
    extruded,
    grown,
    opening,
    pin,
    polygon,
    rectangle,
    rounded,
    screw_hole,
    section,
    sideways,
    slot,
    union,
)
from shared_pose_ros.meshes.parts import hull

if TYPE_CHECKING:
    from manifold3d import CrossSection, Manifold


def flat_outline(draw: Sampler, x: float, y: float) -> CrossSection:
    """Outline of a plate about ``x`` by ``y``: rectangle, disc with flats, polygon, flange, L, T, cross or U."""
    kind, small = draw.pick(("rectangle", "rectangle", "disc", "polygon", "flange", "L", "T", "cross", "U")), min(x, y)
    a, b, corner = x / 2, y / 2, draw.pick((0.02, 0.1, 0.2)) * small
    whole = rectangle(x, y)
    if kind == "rectangle":
        return rectangle(x, y, draw.pick((0.0, 0.1, 0.2, 0.5)) * small)
    if kind == "disc":
        disc = section(polygon(72, small / 2))
        return disc ^ rectangle(small, small * draw.between(0.6, 0.95)) if draw.chance(0.5) else disc
    if kind == "polygon":
        return rounded(section(polygon(draw.count(3, 8), small / 2)), 0.3 * corner)
    if kind == "flange":
        ears = [section(polygon(36, 0.2 * small)).translate((side * 0.8 * a, 0)) for side in (-1, 1)]
        return (ears[0] + ears[1] + section(polygon(48, small * draw.between(0.3, 0.5)))).hull()
    u, v = draw.between(0.25, 0.6) * x, draw.between(0.25, 0.6) * y
    if kind == "L":
        return rounded(whole - rectangle(2 * (x - u), 2 * (y - v)).translate((a, b)), corner * 0.5, corner * 0.5)
    if kind == "T":
        arm = rectangle(x, v).translate((0, b - v / 2))
        return rounded(arm + rectangle(u, y).translate((draw.pick((0, 0, 0.2)) * x, 0)), 0.3 * corner, 0.5 * corner)
    if kind == "cross":
        return rounded(rectangle(x, v) + rectangle(u, y), 0.3 * corner, 0.5 * corner)
    return rounded(whole - rectangle(u, y).translate((draw.pick((0, 0.15)) * x, y - v)), 0.5 * corner, 0.4 * corner)


def plate(draw: Sampler) -> Manifold:
    """Plate of any outline with a pattern of holes, slots, pockets, ribs, bosses and steps."""
    x, y, t = draw.between(50, 100), draw.log_between(18, 80), draw.log_between(3, 16)
    outline = flat_outline(draw, x, y)
    solid = extruded(outline, 0, t)
    if draw.chance(0.4):
        inner = grown(outline, -draw.between(0.05, 0.12) * min(x, y))
        high = draw.between(1.3, 2.5) * t
        solid = solid + extruded(inner, 0, high) if draw.chance(0.5) else solid - extruded(inner, 0.5 * t, high)
    for _ in range(draw.count(1, 3)):
        solid = draw.pick((_corner_holes, _centre_hole, _slots, _ribs, _bosses, _hole_row, _notches))(
            draw, solid, x, y, t
        )
    return solid


def _corner_holes(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    radius, inset = draw.between(0.05, 0.09) * min(x, y), draw.between(0.12, 0.2) * min(x, y)
    corners = [(i * (x / 2 - inset), j * (y / 2 - inset)) for i in (-1, 1) for j in (-1, 1)]
    kept = corners if draw.chance(0.6) else corners[: draw.count(1, 3)]
    return solid - union(screw_hole(draw, at, 0, t, radius) for at in kept)


def _centre_hole(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    radius, at = draw.between(0.12, 0.3) * min(x, y), draw.pick(((0, 0), (0, 0), (0.2 * x, 0)))
    return solid - opening(draw, radius, -1, 9 * t).translate((*at, 0))


def _slots(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    width, count, angle = draw.between(0.08, 0.15) * min(x, y), draw.count(1, 4), draw.pick((0, 0, 90, 45))
    length = draw.between(0.15, 0.5) * (x / count if angle == 0 else 0.7 * y)
    places = [((k - (count - 1) / 2) * 0.85 * x / count, draw.pick((0, 0, 0.2)) * y) for k in range(count)]
    low = draw.pick((-1, -1, 0.5 * t))
    return solid - union(slot(at, length, width, low, 9 * t, angle) for at in places)


def _ribs(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    count, high, thick = draw.count(1, 4), t + draw.between(4, 22), draw.between(2, 5)
    ribs = union(
        hull(block((at, 0), (thick, 0.7 * y), 0, t), block((at, 0), (thick, 0.4 * y), 0, high))
        for at in (0.7 * x * ((k + 0.5) / count - 0.5) for k in range(count))
    )
    return solid + ribs


def _bosses(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    radius, high, count = draw.between(0.08, 0.2) * min(x, y), t + draw.between(3, 30), draw.count(1, 3)
    for k in range(count):
        at = ((k - (count - 1) / 2) * 0.6 * x / count, draw.pick((0, 0, 0.15)) * y)
        solid += pin(at, 0, high, radius * draw.pick((1, 1, 1.3)), radius)
        if draw.chance(0.7):
            solid -= pin(at, draw.pick((-1, 0.6 * t)), high + 1, 0.55 * radius)
    return solid


def _hole_row(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    count = draw.count(2, 6)
    pitch, at = 0.8 * x / count, draw.pick((0, 0.25, -0.25)) * y
    radius = min(0.3 * pitch, 0.1 * y)
    return solid - union(pin(((k - (count - 1) / 2) * pitch, at), -1, 9 * t, radius) for k in range(count))


def _notches(draw: Sampler, solid: Manifold, x: float, y: float, t: float) -> Manifold:
    width, depth = draw.between(0.1, 0.25) * x, draw.between(0.1, 0.25) * y
    cut = block((draw.between(-0.3, 0.3) * x, y / 2), (width, 2 * depth), -1, 9 * t)
    return solid - (cut + cut.mirror((0, 1, 0)) if draw.chance(0.4) else cut)


def machined_block(draw: Sampler) -> Manifold:
    """Block cut by steps, wedges, channels, pockets and holes from several sides."""
    x, y, z = draw.between(40, 110), draw.log_between(15, 60), draw.log_between(12, 50)
    outline = rectangle(x, y, draw.pick((0, 0, 0.1, 0.3)) * min(x, y))
    solid = chamfered(outline, 0, z, 0.06 * min(x, y, z)) if draw.chance(0.3) else extruded(outline, 0, z)
    for _ in range(draw.count(2, 5)):
        solid = draw.pick((_step, _step, _wedge, _channel, _pocket, _end_hole, _side_hole, _top_hole))(
            draw, solid, x, y, z
        )
    return solid


def _step(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    a, b = draw.between(0.1, 0.35) * x * draw.sign(), draw.pick((2.0, 2.0, 0.45)) * y
    return solid - block(
        (math.copysign(x / 2, a), draw.pick((-0.5, 0.5)) * y), (2 * abs(a), b), draw.between(0.3, 0.7) * z, 2 * z
    )


def _wedge(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    a, b = draw.between(0.1, 0.4) * x, draw.between(0.2, 0.7) * z
    cut = sideways([(x / 2 - a, z + 0.1), (x / 2 + 0.1, z - b), (x / 2 + 0.1, z + 0.1)], 2 * y)
    return solid - (cut.mirror((1, 0, 0)) if draw.chance(0.5) else cut)


def _channel(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    width, depth, at = draw.between(0.1, 0.3) * x, draw.between(0.2, 0.6) * z, draw.between(-0.25, 0.25) * x
    shape = draw.pick(("box", "V", "T", "round"))
    if shape == "V":
        return solid - sideways([(at, z - depth), (at + width, z + 0.1), (at - width, z + 0.1)], 2 * y)
    if shape == "round":
        return solid - bar((at, -y, z), "y", 2 * y, min(width, depth))
    cut = block((at, 0), (width, 2 * y), z - depth, z + 1)
    if shape == "T":
        cut += block((at, 0), (1.8 * width, 2 * y), z - depth, z - 0.6 * depth)
    return solid - cut


def _pocket(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    length, width = draw.between(0.2, 0.5) * x, draw.between(0.2, 0.6) * y
    cut = extruded(rectangle(length, width, 0.25 * width), draw.between(0.3, 0.7) * z, 2 * z)
    return solid - cut.translate((draw.between(-0.25, 0.25) * x, draw.between(-0.15, 0.15) * y, 0))


def _end_hole(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    radius, length = draw.between(0.12, 0.3) * min(y, z), draw.pick((0.3, 0.5, 2.0)) * x
    return solid - bar((-x / 2 - 1, draw.pick((0, 0, 0.15)) * y, 0.45 * z), "x", length, radius)


def _side_hole(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    radius, length = draw.between(0.1, 0.3) * min(x, z), draw.pick((0.4, 2.0)) * y
    return solid - bar((draw.between(-0.3, 0.3) * x, -y / 2 - 1, 0.4 * z), "y", length, radius)


def _top_hole(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    at = (draw.between(-0.35, 0.35) * x, draw.between(-0.25, 0.25) * y)
    return solid - screw_hole(draw, at, 0, z, draw.between(0.06, 0.13) * min(x, y))
