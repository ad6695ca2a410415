"""Terminal blocks, connectors and relays: moulded electrical parts. Millimetres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    Points,
    bar,
    block,
    chamfered,
    extruded,
    grown,
    mirrored,
    pin,
    polygon,
    rectangle,
    row,
    section,
    sideways,
    union,
)
from shared_pose_ros.meshes.parts import box, hull

if TYPE_CHECKING:
    from manifold3d import Manifold


def terminal_block(draw: Sampler) -> Manifold:
    """Terminal block, fuse holder or breaker: a stepped profile with wire holes, screw holes and slots per pole."""
    poles, pitch = draw.count(1, 6), draw.between(8, 20)
    width, x, z = poles * pitch + 3, draw.between(25, 70), draw.between(18, 50)
    profile = draw.pick((_stepped_profile, _breaker_profile, _sloped_profile))(draw, x, z)
    solid = sideways(profile, width)
    wire, screw = 0.28 * min(pitch, 0.6 * z), 0.3 * min(pitch, 0.4 * x)
    inset, both = x / 2 - draw.between(0.12, 0.2) * x, draw.chance(0.7)
    cutter = bar((x / 4, 0, 0.2 * z), "x", x, wire)
    if draw.chance(0.3):
        cutter = box((0.3 * x, -wire, 0.1 * z), (x, wire, 0.35 * z))
    cutter += pin((inset, 0), 0.35 * z, 2 * z, min(screw, 0.12 * x))
    if draw.chance(0.4):
        cutter += block((0, 0), (0.25 * x, 0.5 * pitch), 0.6 * z, 2 * z)
    solid -= row(mirrored(cutter) if both else cutter, poles, pitch, 1)
    if draw.chance(0.4):
        fin = box((-0.5 * x, -1, 0.02 * z), (0.5 * x, 1, z * draw.between(0.6, 1.1)))
        solid += row(fin, poles + 1, pitch, 1)
    if draw.chance(0.4):
        solid -= block((0, 0), (0.55 * x, 2 * width), -1, 0.1 * z) + block(
            (0.1 * x, 0), (0.6 * x, 2 * width), 0.05 * z, 0.1 * z
        )
    if draw.chance(0.35):
        toggle = block((0, 0), (0.18 * x, 0.6 * width), 0.5 * z, z * draw.between(1.1, 1.4))
        solid += toggle.rotate((0, draw.pick((0, 12, -12)), 0))
    if draw.chance(0.35):
        foot = block((0, width / 2 + 4), (14, 10), 0, 4) - pin((0, width / 2 + 5), -1, 5, 2.5)
        solid += mirrored(foot, 1) if draw.chance(0.7) else foot
    return solid


def _stepped_profile(draw: Sampler, x: float, z: float) -> Points:
    a, step, low = x / 2, draw.between(0.15, 0.3) * x, draw.between(0.45, 0.75) * z
    other = low if draw.chance(0.6) else 0.7 * low
    return [(-a, 0), (a, 0), (a, low), (a - step, low), (a - step, z), (step - a, z), (step - a, other), (-a, other)]


def _breaker_profile(draw: Sampler, x: float, z: float) -> Points:
    a, neck, low = x / 2, draw.between(0.2, 0.3) * x, draw.between(0.6, 0.8) * z
    return [(-a, 0), (a, 0), (a, low), (neck, low), (neck - 3, z), (3 - neck, z), (-neck, low), (-a, low)]


def _sloped_profile(draw: Sampler, x: float, z: float) -> Points:
    a, low = x / 2, draw.between(0.3, 0.6) * z
    return [(-a, 0), (a, 0), (a, low), (draw.between(0.0, 0.3) * x, z), (-draw.between(0.1, 0.5) * x, z), (-a, 0.8 * z)]


def connector(draw: Sampler) -> Manifold:
    """Plug or header: shell with a cavity and contacts, key or latch, flange ears, cable boot or solder pins."""
    columns, rows, pitch = draw.count(2, 7), draw.count(1, 3), draw.between(6, 9)
    x, y, z, wall = columns * pitch + 4, rows * pitch + 4, draw.between(14, 35), draw.between(2, 4)
    kind = draw.pick(("box", "round", "trapezoid"))
    outline = rectangle(x, y, {"box": 1, "round": 0.5 * y}.get(kind, 1))
    if kind == "trapezoid":
        outline = section([(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2 + 0.3 * y, y / 2), (-x / 2 - 0.3 * y, y / 2)])
    floor = z * draw.between(0.3, 0.6)
    solid = extruded(grown(outline, wall), 0, z) - extruded(outline, floor, z + 1)
    if draw.chance(0.6):
        contact = block((0, 0), (0.25 * pitch, 0.25 * pitch), floor - 1, z * draw.between(0.8, 1.2))
        solid += row(row(contact, columns, pitch), rows, pitch, 1)
    else:
        tongue = extruded(grown(outline, -0.22 * pitch), floor - 1, 0.95 * z)
        solid += tongue - row(row(pin((0, 0), floor, z, 0.25 * pitch), columns, pitch), rows, pitch, 1)
    if draw.chance(0.6):
        solid += extruded(rectangle(x + 26, y + 2 * wall, 4), 0, draw.between(3, 6)) - mirrored(
            pin((x / 2 + 8, 0), -1, 9, 2.5)
        )
    if draw.chance(0.5):
        latch = block((draw.pick((0, 0.25)) * x, y / 2 + wall), (0.25 * x, 5), 0.3 * z, z * draw.between(0.7, 1.2))
        solid += latch + block((0, y / 2 + wall + 1), (0.25 * x, 6), 0.3 * z, 0.5 * z)
    if draw.chance(0.4):
        solid -= block((draw.pick((0, 0.3)) * x, -y / 2 - wall), (0.2 * x, 4 * wall), 0.6 * z, z + 1)
    if draw.chance(0.4):
        solid += hull(extruded(outline, -1, 0.5), pin((0, 0), -draw.between(10, 30), -1, 0.4 * y))
    elif draw.chance(0.5):
        solid += row(row(pin((0, 0), -draw.between(5, 15), 1, 0.12 * pitch), columns, pitch), rows, pitch, 1)
    return solid


def relay(draw: Sampler) -> Manifold:
    """Box with a round protrusion, steps, side ribs and terminals: relay, motor, sensor or switch."""
    x, y, z = draw.between(30, 70), draw.between(22, 50), draw.between(18, 60)
    solid = chamfered(rectangle(x, y, draw.pick((0.5, 3, 8))), 0, z, draw.pick((1, 2, 6)))
    radius, at = draw.between(0.25, 0.46) * min(x, y), (draw.pick((0, 0, 0.15)) * x, 0)
    high = z + draw.between(5, 40)
    solid += pin(at, z - 1, high, radius)
    solid = _finished(draw, solid, at, radius, z, high)
    for side in draw.pick(((), (1,), (1, -1))):
        flange = box((0, -0.35 * y, 0.1 * z), (0.5 * x + 11, 0.35 * y, 0.1 * z + 4)) - pin((0.5 * x + 6, 0), 0, z, 2.5)
        solid += flange.rotate((0, 0, 0 if side > 0 else 180))
    if draw.chance(0.6):
        leg = block((0, 0), (1.5, draw.between(3, 6)), -draw.between(5, 14), 1)
        solid += row(row(leg, draw.count(1, 4), 0.22 * x), draw.count(1, 3), 0.3 * y, 1)
    if draw.chance(0.4):
        solid += row(box((-1.5, -y / 2 - 2, 0), (1.5, -0.4 * y, 0.8 * z)), draw.count(2, 6), 0.14 * x)
    if draw.chance(0.4):
        solid -= block((-x / 2, draw.pick((0, 0.3)) * y), (0.3 * x, 0.4 * y), draw.between(0.4, 0.7) * z, 2 * z)
    return solid


def _finished(
    draw: Sampler, solid: Manifold, at: tuple[float, float], radius: float, low: float, high: float
) -> Manifold:
    """The solid with its round protrusion from ``low`` to ``high`` made a cup, spindle, thread, screw or button."""
    finish = draw.pick(("cup", "stem", "thread", "cross", "button"))
    if finish == "cup":
        return solid - pin(at, 0.7 * low, high + 1, 0.7 * radius)
    if finish == "stem":
        solid += pin(at, high - 1, high + draw.between(5, 30), 0.35 * radius)
        return solid - block((at[0] + 0.4 * radius, 0), (0.3 * radius, radius), high + 3, 2 * high)
    if finish == "thread":
        pitch = (high - low) / 4
        ring = pin(at, low + 0.3 * pitch, low + 0.8 * pitch, 1.1 * radius)
        return solid + union(ring.translate((0, 0, k * pitch)) for k in range(4))
    if finish == "cross":
        return solid - block(at, (1.2 * radius, 0.25 * radius), high - 3, high + 1)
    return solid + chamfered(section(polygon(6, 0.7 * radius)), high - 1, high + 6, 1).translate((*at, 0))
