"""Gears, knobs, wheels and fasteners: solids about z with teeth, lobes, spokes or heads. Millimetres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.rotational import grooves
from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    around,
    bar,
    block,
    chamfered,
    extruded,
    grown,
    opening,
    pin,
    polygon,
    section,
    segments_of,
)
from shared_pose_ros.meshes.parts import box, hull, prism, turned

if TYPE_CHECKING:
    from manifold3d import Manifold

# One tooth as (share of the pitch, share of the depth).
_TEETH = {
    "gear": ((0.0, 0.0), (0.22, 0.0), (0.38, 1.0), (0.62, 1.0), (0.78, 0.0)),
    "ratchet": ((0.0, 0.0), (0.85, 1.0), (0.95, 1.0)),
    "spline": ((0.0, 0.0), (0.48, 0.0), (0.5, 1.0), (0.98, 1.0)),
    "lobe": tuple((k / 12, 0.5 - 0.5 * math.cos(math.pi * k / 6)) for k in range(12)),
}


def _toothed(kind: str, count: int, root: float, tip: float) -> list[tuple[float, float]]:
    points = []
    for tooth in range(count):
        for share, height in _TEETH[kind]:
            angle, radius = 2 * math.pi * (tooth + share) / count, root + (tip - root) * height
            points.append((round(radius * math.cos(angle), 6), round(radius * math.sin(angle), 6)))
    return points


def gear(draw: Sampler) -> Manifold:
    """Spur or helical gear, ratchet or splined wheel with hub, web, holes and a bore, or a pinion shaft."""
    kind, count = draw.pick(("gear", "gear", "gear", "ratchet", "spline")), draw.count(9, 30)
    tip, height = draw.between(22, 50), draw.between(6, 28)
    root = tip * (1 - min(0.22, 4.4 / (count + 2)))
    twist = draw.between(-14, 14) if kind == "gear" and draw.chance(0.3) else 0.0
    solid = section(_toothed(kind, count, root, tip)).extrude(height, 3 if twist else 0, twist)
    if draw.chance(0.25):
        length, radius = draw.between(40, 90), root * draw.between(0.3, 0.6)
        solid += pin((0, 0), -length, 0.5, radius) + pin((0, 0), 0, height + draw.between(8, 40), 0.8 * radius)
        return solid - box((0.7 * radius, -0.2 * radius, -0.8 * length), (2 * radius, 0.2 * radius, -0.4 * length))
    hub, bore = root * draw.between(0.3, 0.5), root * draw.between(0.15, 0.24)
    if draw.chance(0.6):
        web = pin((0, 0), 0.7 * height, height + 1, 0.84 * root)
        solid -= web + web.mirror((0, 0, 1)).translate((0, 0, height)) if draw.chance(0.5) else web
    if draw.chance(0.5):
        radius = 0.12 * root
        solid -= around(pin((0.68 * root, 0), -1, height + 1, radius), draw.count(3, 8))
    solid += pin((0, 0), 0, height * draw.between(0.9, 2.0), hub)
    return solid - opening(draw, bore, -1, 3 * height)


def knob(draw: Sampler) -> Manifold:
    """Lobed, ribbed or polygonal knob or nut on a skirt or stem, with a bore from below and a mark on top."""
    kind, radius, height = (
        draw.pick(("lobe", "lobe", "spline", "polygon", "wing")),
        draw.between(18, 40),
        draw.between(10, 35),
    )
    if kind == "polygon":
        solid = chamfered(section(polygon(draw.count(3, 8), radius)), 0, height, 0.1 * radius)
    elif kind == "wing":
        wing = hull(pin((0, 0), 0, height, 0.3 * radius), pin((radius, 0), 0.5 * height, 1.2 * height, 0.2 * radius))
        solid = around(wing, draw.pick((1, 2, 2, 3, 4, 5))) + pin((0, 0), 0, height, 0.5 * radius)
    else:
        count = draw.count(3, 9) if kind == "lobe" else draw.count(10, 24)
        depth = draw.between(0.12, 0.3) if kind == "lobe" else 0.08
        outline = section(_toothed(kind, count, radius * (1 - depth), radius))
        solid = extruded(outline, 0, height) + extruded(grown(outline, -0.06 * radius), 0, height + 0.1 * radius)
    if draw.chance(0.5):
        solid += pin((0, 0), -draw.between(2, 8), 0.5, radius * draw.between(0.7, 1.15))
    if draw.chance(0.5):
        solid += pin((0, 0), -draw.between(10, 50), 0.5, radius * draw.between(0.3, 0.5))
    solid -= opening(draw, radius * draw.between(0.14, 0.26), -100, height * draw.between(0.3, 2.0))
    if draw.chance(0.5):
        solid += block((0.45 * radius, 0), (0.7 * radius, 0.12 * radius), 0.5 * height, height + 0.2 * radius)
    return solid


def wheel(draw: Sampler) -> Manifold:
    """Pulley, hand wheel or caster: rim with a groove, spokes or a disc, hub, and sometimes a crank handle."""
    radius, width, rim = draw.between(25, 50), draw.between(6, 25), draw.between(0.08, 0.2)
    inner, groove = radius * (1 - rim), 0.6 * rim * radius if draw.chance(0.5) else 0.0
    half = width / 2
    outer = [(radius, -half), (radius, -0.6 * half), (radius - groove, -0.2 * half), (radius - groove, 0.2 * half)]
    outer += [(radius, 0.6 * half), (radius, half)]
    solid = turned([(inner, -half), *outer, (inner, half)], segments_of(radius))
    hub, hub_height = radius * draw.between(0.2, 0.35), half * draw.between(0.8, 2.2)
    spoke = radius * draw.between(0.05, 0.14)
    if draw.chance(0.6):
        arm = box((0, -spoke, -0.4 * half), (inner + 0.02 * radius, spoke, 0.4 * half))
        solid += around(arm, draw.count(2, 7))
    else:
        solid += pin((0, 0), -0.4 * half, 0.4 * half, inner + 0.02 * radius)
        solid -= around(pin((0.62 * radius, 0), -half, half, 0.12 * radius), draw.pick((1, 2, 3, 4, 5, 6)))
    solid += pin((0, 0), -hub_height, hub_height, hub)
    if draw.chance(0.4):
        solid += pin((0.9 * radius, 0), 0, half + draw.between(15, 40), 0.11 * radius, 0.09 * radius)
    return solid - opening(draw, hub * draw.between(0.4, 0.65), -100, 100)


def fastener(draw: Sampler) -> Manifold:
    """Bolt, screw, stud, standoff or nut: a head with a drive on a stepped shank with rings."""
    radius, height = draw.between(11, 22), draw.between(6, 18)
    head = draw.pick(("hexagon", "hexagon", "square", "round", "cone", "flange", "eye"))
    shank, length = radius * draw.between(0.35, 0.6), draw.log_between(12, 90)
    if head in ("hexagon", "square"):
        solid = chamfered(section(polygon(6 if head == "hexagon" else 4, radius, 30)), 0, height, 0.08 * radius)
    elif head == "eye":
        solid = bar((0, -height / 2, 0.8 * radius), "y", height, radius)
        solid -= bar((0, -height, 0.8 * radius), "y", 2 * height, 0.55 * radius)
    else:
        solid = pin((0, 0), 0, height, 0.5 * radius if head == "cone" else radius, radius)
    if head == "flange":
        solid = pin((0, 0), 0, 0.3 * height, 1.4 * radius) + prism(polygon(6, radius), 0, height)
    if draw.chance(0.2) and head != "eye":  # a nut
        solid -= pin((0, 0), -1, height + 1, shank)
        return solid + pin((0, 0), -0.5 * height, 0.5, 1.3 * radius) - pin((0, 0), -height, height, shank)
    points = [(0.0, -length), (0.75 * shank, -length), (shank, -length + 0.25 * shank)]
    if draw.chance(0.5):
        points += grooves(shank, -length + 0.3 * shank, -0.2 * length, draw.count(4, 9), 0.12)
    solid += turned([*points, (shank, 0.3), (0.0, 0.3)], segments_of(shank))
    drive = draw.pick(("none", "slot", "cross", "hexagon"))
    if head == "eye" or drive == "none":
        return solid
    if drive == "hexagon":
        return solid - prism(polygon(6, 0.5 * radius), 0.45 * height, height + 1)
    width = 0.12 * radius
    cut = box((-2 * radius, -width, 0.6 * height), (2 * radius, width, height + 1))
    return solid - cut if drive == "slot" else solid - (cut ^ pin((0, 0), 0, 99, 0.6 * radius)) - cut.rotate((0, 0, 90))
