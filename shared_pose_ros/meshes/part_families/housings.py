"""Housings, sockets and caps: moulded parts with walls. Millimetres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.prismatic import flat_outline
from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    around,
    bar,
    block,
    chamfered,
    extruded,
    grown,
    mirrored,
    opening,
    pin,
    polygon,
    rectangle,
    row,
    section,
    slot,
)
from shared_pose_ros.meshes.parts import box, hull

if TYPE_CHECKING:
    from manifold3d import Manifold


def enclosure(draw: Sampler) -> Manifold:
    """Open box or tray with walls, bosses, partitions, openings, ears, vents and outer ribs."""
    x, y, z = draw.between(50, 100), draw.log_between(28, 90), draw.log_between(12, 60)
    wall = draw.between(2.5, 5)
    outline = flat_outline(draw, x, y) if draw.chance(0.25) else rectangle(x, y, draw.pick((1, 4, 10)))
    solid = extruded(outline, 0, z) - extruded(grown(outline, -wall), wall, z + 1)
    if draw.chance(0.3):
        solid += extruded(grown(outline, 0.8 * wall), z - wall, z) - extruded(grown(outline, -0.5 * wall), 0, z + 1)
    if draw.chance(0.5):
        radius, high = draw.between(3, 6), z * draw.between(0.3, 0.95)
        boss = pin((x / 2 - wall - 0.7 * radius, y / 2 - wall - 0.7 * radius), 0.5 * wall, high, radius)
        boss -= pin((x / 2 - wall - 0.7 * radius, y / 2 - wall - 0.7 * radius), 2 * wall, z, 0.5 * radius)
        solid += (mirrored(mirrored(boss), 1) if draw.chance(0.7) else mirrored(boss)) ^ extruded(outline, 0, z)
    for _ in range(draw.count(1, 4)):
        solid = draw.pick((_wall_opening, _wall_opening, _ears, _vents, _partition, _gland, _outer_ribs, _inner_boss))(
            draw, solid, x, y, z
        )
    return solid


def _wall_opening(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    width, at, high = draw.between(0.15, 0.4) * y, draw.between(-0.2, 0.2) * y, 0.55 * z
    kind = draw.pick(("round", "box", "notch"))
    if kind == "round":
        cut = bar((0, at, high), "x", x, min(0.5 * width, 0.3 * z))
    else:
        cut = block((x / 2, at), (x, width), 0.35 * z, z + 1 if kind == "notch" else 0.75 * z)
    return solid - (cut.rotate((0, 0, 180)) if draw.chance(0.4) else cut)


def _ears(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    radius, high = draw.between(5, 9), draw.between(3, 6)
    at = (x / 2 + 0.8 * radius, draw.pick((0.0, 0.3, -0.3)) * y)
    ear = hull(pin(at, 0, high, radius), block((x / 2 - 1, at[1]), (1.5, 3 * radius), 0, high))
    ear -= pin(at, -1, high + 1, 0.5 * radius)
    return solid + (mirrored(ear) if draw.chance(0.7) else ear + ear.rotate((0, 0, 180)))


def _vents(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    count = draw.count(3, 7)
    pitch = 0.6 * x / count
    if draw.chance(0.5):
        return solid - row(slot((0, draw.pick((0, 0.15)) * y), 0.3 * y, 0.45 * pitch, -1, 8, 90), count, pitch)
    return solid - row(box((-0.25 * pitch, 0, 0.35 * z), (0.25 * pitch, y, 0.75 * z)), count, pitch)


def _partition(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    at, high = draw.between(-0.3, 0.3), z * draw.between(0.4, 0.95)
    thick = draw.between(2, 4)
    if draw.chance(0.5):
        return solid + block((at * x, 0), (thick, y - 2), 1, high)
    return solid + block((0, at * y), (x - 2, thick), 1, high)


def _gland(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    radius, length = min(draw.between(0.15, 0.3) * y, 0.42 * z), draw.between(6, 30)
    at = draw.pick((0.0, 0.0, 0.2)) * y
    tube = bar((x / 2 - 2, at, z / 2), "x", length + 2, radius)
    if draw.chance(0.5):
        tube += bar((x / 2 - 2, at, z / 2), "x", 0.5 * length, 1.15 * radius)
    return solid + tube - bar((x / 2 - 10, at, z / 2), "x", length + 20, 0.65 * radius)


def _outer_ribs(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    count, depth = draw.count(2, 7), draw.between(1.5, 4)
    rib = row(box((-1.2, 0.4 * y, 0), (1.2, y / 2 + depth, z * draw.between(0.6, 1.0))), count, 0.8 * x / count)
    return solid + (mirrored(rib, 1) if draw.chance(0.6) else rib)


def _inner_boss(draw: Sampler, solid: Manifold, x: float, y: float, z: float) -> Manifold:
    at, radius = (draw.between(-0.25, 0.25) * x, draw.between(-0.2, 0.2) * y), draw.between(0.07, 0.16) * min(x, y)
    return solid + pin(at, 1, z * draw.between(0.4, 1.3), radius) - pin(at, 2, 2 * z, 0.5 * radius)


def socket_outlet(draw: Sampler) -> Manifold:
    """Wall socket or lamp holder: plate, raised round insert with a recess, contacts, lugs and a body behind."""
    side, t, radius = draw.between(55, 80), draw.between(4, 10), draw.between(18, 25)
    outline = rectangle(side, side * draw.pick((1, 1, 0.75, 1.3)), draw.pick((2, 6, 14)))
    outline = section(polygon(72, side / 2)) if draw.chance(0.3) else outline
    solid = chamfered(outline, 0, t, 0.3 * t)
    high, depth = t + draw.between(0.5, 18), draw.between(8, 24)
    back = extruded(rectangle(1.7 * radius, 1.9 * radius, 3), -depth, 0.5)
    solid += pin((0, 0), 0, high, radius) + (pin((0, 0), -depth, 0.5, 1.1 * radius) if draw.chance(0.5) else back)
    floor = high - draw.between(0.4, 0.9) * (high + depth - 4)
    solid -= pin((0, 0), floor, high + 1, 0.85 * radius)
    if draw.chance(0.6):
        contact = pin((0.45 * radius, 0), floor - 20, floor + 1, 0.13 * radius)
        solid -= around(contact, draw.pick((2, 2, 3, 4)))
    else:
        solid += around(pin((0.42 * radius, 0), floor - 1, high - 1, 0.14 * radius), draw.count(1, 4))
    if draw.chance(0.6):
        clip = block((0.8 * radius, 0), (0.2 * radius, 0.3 * radius), floor - 0.1, high)
        solid += around(clip, draw.pick((1, 2, 2)), 90)
    if draw.chance(0.6):
        hole = pin((0.41 * side, 0), -1, t + 1, 0.035 * side)
        solid -= around(hole, draw.pick((2, 4)), draw.pick((0, 90)))
    if draw.chance(0.4):
        solid += block((0, radius + 1), (0.4 * radius, 6), -0.8 * depth, 1)
    return solid


def cap(draw: Sampler) -> Manifold:
    """Round cap: hollow, ribs along its side (all but some), skirt, pattern on top, lug on the side."""
    radius, z, wall = draw.between(20, 40), draw.between(14, 50), draw.between(2.5, 5)
    solid = chamfered(section(polygon(72, radius)), 0, z, draw.between(0.05, 0.3) * min(radius, z))
    count, ribs = draw.pick((8, 12, 16, 20, 24)), draw.between(0.4, 0.9) * z
    width = draw.between(0.2, 0.4) * 6.28 * radius / count
    rib = box((0.9 * radius, -width / 2, 0), (radius + draw.between(1.5, 4), width / 2, ribs))
    missing = draw.pick((0, 0, 1, 2, count // 2))
    for k in range(count - missing):
        solid += rib.rotate((0, 0, 360.0 * k / count))
    if draw.chance(0.4):
        solid += pin((0, 0), 0, 0.15 * z, radius * draw.between(1.1, 1.3))
    if draw.chance(0.4):
        solid += pin((0, 0), z - 1, z + draw.between(3, 20), radius * draw.between(0.3, 0.75))
    solid -= pin((0, 0), -1, z - 1.5 * wall, radius - wall)
    if draw.chance(0.5):
        solid += pin((0, 0), 0.2 * z, z - wall, 0.35 * radius) - pin((0, 0), 0, z - 2 * wall, 0.2 * radius)
    solid = _cap_top(draw, solid, radius, z, wall)
    if draw.chance(0.4):
        lug = block((radius, 0), (0.5 * radius, draw.between(0.3, 0.8) * radius), 0, 0.4 * z)
        solid += lug - pin((0, 0), -1, z - 1.5 * wall, radius - wall)
    return solid


def _cap_top(draw: Sampler, solid: Manifold, radius: float, z: float, wall: float) -> Manifold:
    kind = draw.pick(("none", "hole", "slots", "cross", "holes", "bar"))
    if kind == "hole":
        return solid - opening(draw, draw.between(0.2, 0.5) * radius, 0.5 * z, 99)
    if kind == "slots":
        cut = slot((0, 0), 0.7 * radius, 0.12 * radius, z - 3 * wall, 99, 90)
        return solid - row(cut, draw.count(2, 4), 0.3 * radius)
    if kind == "cross":
        return solid - around(box((0, -0.1 * radius, z - wall), (0.5 * radius, 0.1 * radius, 99)), draw.count(1, 4))
    if kind == "holes":
        return solid - around(pin((0.5 * radius, 0), z - 3 * wall, 99, 0.12 * radius), draw.count(2, 6))
    if kind == "bar":
        return solid + block((0, 0), (1.3 * radius, 0.3 * radius), z - 1, z + 0.35 * radius)
    return solid
