"""Levers, forks, hooks, clamps, clips and pipe fittings. Millimetres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    around,
    bar,
    block,
    extruded,
    grown,
    opening,
    pin,
    polygon,
    rectangle,
    rounded,
    section,
    slot,
)
from shared_pose_ros.meshes.parts import box, hull, prism, turned

if TYPE_CHECKING:
    from manifold3d import Manifold


def lever(draw: Sampler) -> Manifold:
    """Link, rocker or crank: hubs in a chain, joined by arms; bores, pegs and offsets in height."""
    count, x, y, z, angle = draw.count(2, 4), 0.0, 0.0, 0.0, 0.0
    thick, radius = draw.between(4, 12), draw.between(9, 20)
    hubs = []
    for _ in range(count):
        hubs.append((x, y, z, radius, thick * draw.between(1.0, 2.6)))
        length = draw.between(1.8, 4.0) * radius
        x, y = x + length * math.cos(angle), y + length * math.sin(angle)
        angle += math.radians(draw.pick((0, 0, 40, -40, 75)))
        z += draw.pick((0, 0, 0, 0.7)) * thick
        radius *= draw.pick((1.0, 0.8, 0.65, 1.1))
    solid = pin((0, 0), 0, hubs[0][4], hubs[0][3])
    for (ax, ay, az, ar, _), (bx, by, bz, br, height) in zip(hubs, hubs[1:], strict=False):
        waist = draw.pick((1.0, 0.9, 0.6, 0.45))
        arm = hull(pin((ax, ay), az, az + thick, waist * ar), pin((bx, by), bz, bz + thick, waist * br))
        solid = solid + arm + pin((bx, by), bz, bz + height, br)
    if draw.chance(0.35):
        (ax, ay, *_), (bx, by, *_) = hubs[:2]
        at, heading = ((ax + bx) / 2, (ay + by) / 2), math.degrees(math.atan2(by - ay, bx - ax))
        solid -= slot(at, 0.3 * math.hypot(bx - ax, by - ay), 0.3 * hubs[1][3], -1, 99, heading)
    for px, py, pz, pr, height in hubs:
        kind = draw.pick(("bore", "bore", "bore", "peg", "blind", "none"))
        if kind == "peg":
            solid += pin((px, py), pz, pz + height + draw.between(6, 30), 0.5 * pr)
        elif kind != "none":
            low = pz + 0.5 * height if kind == "blind" else pz - 1
            solid -= opening(draw, draw.between(0.45, 0.7) * pr, low, 99).translate((px, py, 0))
    return solid


def fork(draw: Sampler) -> Manifold:
    """Fork head or shift fork: prongs with a cross hole on a shank, block or plate."""
    width, depth, length = draw.between(20, 45), draw.between(12, 30), draw.between(25, 60)
    gap = width * draw.between(0.35, 0.6)
    end = draw.pick(("round", "square", "open"))
    body = block((0, 0), (width, depth), 0, 0.75 * length)
    if end == "round":
        body = hull(body, bar((-width / 2, 0, length - depth / 2), "x", width, depth / 2))
    else:
        body = block((0, 0), (width, depth), 0, length)
    solid = body - block((0, 0), (gap, 2 * depth), length * draw.between(0.2, 0.45), 2 * length)
    if end == "open":
        solid -= bar((0, -depth, 0.62 * length), "y", 2 * depth, min(0.6 * gap, 0.42 * width))
    else:
        reach = draw.pick((2.0, 2.0, 0.8)) * width
        solid -= bar((-width, 0, length - depth / 2), "x", reach, draw.between(0.2, 0.3) * depth)
    base = draw.pick(("shank", "shank", "plate", "block"))
    if base == "shank":
        shank = 0.4 * min(width, depth)
        solid += pin((0, 0), -draw.between(15, 60), 0.5, shank) + pin((0, 0), -5, 0.5, 1.2 * shank)
    elif base == "plate":
        foot = extruded(rectangle(1.7 * width, 1.4 * depth, 0.2 * depth), -8, 0.5)
        solid += foot - pin((0.68 * width, 0), -9, 1, 0.12 * depth) - pin((-0.68 * width, 0), -9, 1, 0.12 * depth)
    else:
        solid += block((draw.pick((0, 0.3)) * width, 0), (1.2 * width, depth), -draw.between(8, 25), 0.5)
    return solid


def ring_clamp(draw: Sampler) -> Manifold:
    """Split ring with ears, half shell, or hook on a stem: parts that hold a tube."""
    radius, width = draw.between(18, 40), draw.between(8, 35)
    inner = radius * draw.between(0.65, 0.85)
    kind = draw.pick(("split", "half", "hook", "saddle"))
    solid = pin((0, 0), 0, width, radius)
    ear, wall = 0.5 * radius, 0.8 * (radius - inner)
    if kind in ("split", "hook"):
        if kind == "split":
            solid += box((0.8 * radius, -2 * wall, 0), (radius + ear, 2 * wall, width))
        else:
            solid += box((-1.2 * wall - radius, -draw.between(0.5, 2.5) * radius, 0), (1.2 * wall - radius, 0, width))
        solid -= pin((0, 0), -1, width + 1, inner)
        gap = draw.between(0.4, 0.7) * wall if kind == "split" else 0.6 * inner
        solid -= box((0, -gap, -1), (2 * radius, gap, width + 1))
        if kind == "split":
            solid -= bar((radius + 0.45 * ear, -radius, width / 2), "y", 2 * radius, min(0.2 * ear, 0.3 * width))
        return solid
    solid += block((0, wall / 2), (2 * radius + 2 * ear, 2 * wall), 0, width)
    if kind == "saddle":
        solid += block((0, -0.6 * radius), (draw.between(0.8, 1.6) * radius, 1.2 * radius), 0, width)
    else:
        solid -= box((-99, -99, -1), (99, -wall / 2, 99))
    solid -= pin((0, 0), -1, width + 1, inner)
    if kind == "half":
        solid -= box((-0.9 * inner, -wall, -1), (0.9 * inner, 0, 99))
    for side in (-1, 1):
        solid -= bar((side * (radius + 0.5 * ear), -radius, width / 2), "y", 2 * radius, min(0.2 * ear, 0.3 * width))
    return solid


def spring_clip(draw: Sampler) -> Manifold:
    """Clip of constant thickness: open C, omega or U with hooked ends, on a foot or with a tongue."""
    radius, width, t = draw.between(14, 30), draw.between(6, 40), draw.between(2.5, 6)
    disc, gap = section(polygon(48, radius)), draw.between(0.4, 0.8) * radius
    kind = draw.pick(("C", "omega", "U"))
    if kind == "C":
        outline = disc - grown(disc, -t) - rectangle(2 * gap, 4 * radius).translate((0, 2 * radius))
        for side in (-1, 1):
            outline += section(polygon(24, 0.9 * t)).translate(
                (side * (gap + 0.2 * t), math.sqrt(radius**2 - gap**2) - t / 2)
            )
    else:
        leg = draw.between(1.0, 2.2) * radius
        body = disc + rectangle(2 * radius, leg).translate((0, leg / 2))
        outline = body - grown(body, -t) - rectangle(1.99 * (radius - t), 2 * t).translate((0, leg))
        ends = rectangle(radius, t) if kind == "omega" else rectangle(1.2 * t, 2 * t)
        shift = 1.4 * radius - 0.2 * t if kind == "omega" else radius - 1.3 * t
        outline += ends.translate((shift, leg - t / 2)) + ends.translate((-shift, leg - t / 2))
    if draw.chance(0.6):
        foot = draw.between(0.6, 1.2) * radius
        outline += rectangle(2 * foot, 1.5 * t).translate((draw.pick((0, 0.4)) * foot, -radius - 0.3 * t))
    solid = extruded(rounded(outline, 0.15 * t, 0.3 * t), 0, width)
    if draw.chance(0.5):
        solid -= bar((0, -3 * radius, width / 2), "y", 3 * radius, min(0.3 * width, 0.35 * radius))
    if draw.chance(0.4):
        solid -= block((0, -radius), (1.3 * radius, 1.2 * radius), 0.6 * width, width + 1)
    return solid


def fitting(draw: Sampler) -> Manifold:
    """Pipe fitting: tee, elbow, cross, Y, valve body or reducer, its ends with collars, nuts or bolted flanges."""
    radius = draw.between(9, 18)
    angles = draw.pick(((0, 180, 90), (0, 90), (0, 180, 90, 270), (0, 180, 45), (0, 180), (0, 120, 240), (0, 135)))
    solid, bores, kind = None, None, draw.pick(_ENDS)
    for angle in angles:
        size, length = radius * draw.pick((1, 1, 1, 0.7)), radius * draw.between(1.8, 3.5)
        kind = kind if draw.chance(0.7) else draw.pick(_ENDS)
        arm = _arm(draw, size, length, kind)
        bore = pin((0, 0), 0, length + 40, 0.68 * size)
        arm, bore = (piece.rotate((0, 90, 0)).rotate((0, 0, angle)) for piece in (arm, bore))
        solid, bores = (arm, bore) if solid is None or bores is None else (solid + arm, bores + bore)
    centre = draw.pick(("ball", "box", "barrel"))
    if centre == "ball":
        solid += turned(
            [(0, -1.2 * radius), *((1.25 * r, 1.25 * z) for r, z in _half_circle(radius)), (0, 1.2 * radius)]
        )
    elif centre == "box":
        solid += block((0, 0), (2.3 * radius, 2.3 * radius), -1.15 * radius, 1.15 * radius)
    else:
        solid += pin((0, 0), -1.3 * radius, radius * draw.between(1.3, 2.4), 1.15 * radius)
    solid -= bores
    if draw.chance(0.35):
        solid += pin((0, 0), 1.0 * radius, 2.5 * radius, 0.45 * radius) + prism(
            polygon(6, 0.8 * radius), 1.9 * radius, 2.4 * radius
        )
    return solid


_ENDS = ("plain", "collar", "nut", "flange", "rings")


def _half_circle(radius: float) -> list[tuple[float, float]]:
    angles = (math.radians(-75 + 15 * k) for k in range(11))
    return [(round(radius * math.cos(a), 6), round(radius * math.sin(a), 6)) for a in angles]


def _arm(draw: Sampler, radius: float, length: float, kind: str) -> Manifold:
    """Pipe stub without its bore from the origin along z, with the given end."""
    arm, thick = pin((0, 0), 0, length, radius), draw.between(0.3, 0.6) * radius
    if kind == "collar":
        arm += pin((0, 0), length - 1.5 * thick, length, 1.3 * radius)
    elif kind == "nut":
        arm += prism(polygon(6, 1.5 * radius), length - 2 * thick, length - 0.2 * thick)
    elif kind == "flange":
        plate = pin((0, 0), length - thick, length, 1.9 * radius)
        arm += plate - around(pin((1.5 * radius, 0), 0, length + 1, 0.2 * radius), draw.pick((3, 4, 6)), 45)
    elif kind == "rings":
        for k in range(3):
            low = length - (k + 1) * 0.6 * thick
            arm += pin((0, 0), low, low + 0.4 * thick, 1.15 * radius, radius)
    return arm


def pipe_bend(draw: Sampler) -> Manifold:
    """Bent pipe or rod: an arc between two straight ends with collars or flanges; a hook or handle when solid."""
    radius, bend, angle = draw.between(6, 13), draw.between(18, 40), draw.pick((45, 60, 90, 90, 135, 180))
    solid = _arc(bend, radius, angle)
    bores, hollow = _arc(bend, 0.7 * radius, angle), draw.chance(0.7)
    for end, tilt in ((0, 90), (angle, -90)):
        # Ends are a little wider than the arc and their bores narrower: equal surfaces would leave slivers.
        length = draw.between(0.5, 4.0) * radius + 2
        arm = _arm(draw, 1.06 * radius, length, draw.pick(_ENDS)) + pin((0, 0), -0.5, 1, 1.06 * radius)
        bore = pin((0, 0), -0.6, length + 1, 0.64 * radius)
        arm, bore = (piece.rotate((tilt, 0, 0)).translate((bend, 0, 0)).rotate((0, 0, end)) for piece in (arm, bore))
        solid, bores = solid + arm, bores + bore
    solid = solid - bores if hollow else solid
    if draw.chance(0.4):
        solid += block((bend, 0), (2.6 * radius, 0.8 * radius), -1.3 * radius, 1.6 * radius) - bores
    return solid


def _arc(bend: float, radius: float, angle: int) -> Manifold:
    """Torus about z from the angle 0 to ``angle`` degrees."""
    return section(polygon(24, radius, 7.5)).translate((bend, 0)).revolve(angle // 7, angle)
