"""Bent sheets and rails: bodies of one profile. Millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    Points,
    around,
    bar,
    block,
    extruded,
    grown,
    pin,
    rectangle,
    rounded,
    sideways,
    slot,
    union,
)
from shared_pose_ros.meshes.parts import box

if TYPE_CHECKING:
    from manifold3d import Manifold


def bent_sheet(draw: Sampler) -> Manifold:
    """L, U, Z, hat or stair of sheet with holes in its flanges, cut corners and gussets."""
    width, t, a, b, c = draw.between(15, 70), draw.between(2, 6), *(draw.between(20, 60) for _ in range(3))
    lean = draw.pick((0.0, 0.0, 0.0, 0.35, -0.3)) * b
    chain: list[tuple[float, float]] = draw.pick(
        (
            [(a, 0), (0, 0), (lean, b)],
            [(lean, b), (0, 0), (a, 0), (a - lean, draw.between(0.4, 1.0) * b)],
            [(-a, 0), (0, 0), (lean, b), (lean + c, b)],
            [(-0.6 * a, 0), (0, 0), (lean, b), (lean + c, b), (2 * lean + c, 0), (2 * lean + c + 0.6 * a, 0)],
            [(-a, 0), (0, 0), (0, 0.6 * b), (c, 0.6 * b), (c, 1.2 * b)],
        )
    )
    solid = _sheet(chain, t, width)
    for start, end in zip(chain, chain[1:], strict=False):
        if draw.chance(0.7):
            solid -= _flange_cut(draw, start, end, width, t)
    if draw.chance(0.4):
        solid += _gussets(draw, chain, width, t)
    if draw.chance(0.35):
        solid -= block((chain[0][0], draw.pick((0, 0.5)) * width), (0.8 * a, 0.4 * width), -2 * b, 3 * b)
    return solid


def _sheet(chain: Points, thickness: float, width: float) -> Manifold:
    """Sheet along a polyline in x, z with rounded bends, ``width`` along y."""
    outline = None
    for (ax, ay), (bx, by) in zip(chain, chain[1:], strict=False):
        length = math.hypot(bx - ax, by - ay)
        piece = rectangle(length + 0.96 * thickness, thickness)
        piece = piece.rotate(math.degrees(math.atan2(by - ay, bx - ax))).translate(((ax + bx) / 2, (ay + by) / 2))
        outline = piece if outline is None else outline + piece
    outline = grown(grown(outline, 0.8 * thickness), -0.8 * thickness)  # inner bends
    outline = grown(grown(outline, -0.3 * thickness), 0.3 * thickness)
    return extruded(outline, -width / 2, width / 2).rotate((90, 0, 0))


def _flange_cut(
    draw: Sampler, start: Sequence[float], end: Sequence[float], width: float, thickness: float
) -> Manifold:
    """Cutter through the flat piece of sheet between two bends."""
    (ax, ay), (bx, by) = start, end
    length = math.hypot(bx - ax, by - ay)
    low, high, small = -2 * thickness, 2 * thickness, min(length, width)
    kind = draw.pick(("hole", "two", "slot", "four", "window"))
    if kind == "hole":
        cut = pin((draw.between(-0.1, 0.2) * length, 0), low, high, draw.between(0.12, 0.25) * small)
    elif kind == "two":
        hole = pin((0.1 * length, 0.28 * width), low, high, 0.09 * small)
        cut = hole + hole.mirror((0, 1, 0))
    elif kind == "slot":
        cut = slot((0, draw.pick((0, 0.2)) * width), 0.4 * small, 0.16 * small, low, high, draw.pick((0, 90)))
    elif kind == "four":
        cut = around(pin((0.3 * small, 0), low, high, 0.07 * small), 4, 45) + pin((0, 0), low, high, 0.14 * small)
    else:
        cut = extruded(rectangle(0.45 * length, 0.5 * width, 0.1 * small), low, high)
    return cut.rotate((0, -math.degrees(math.atan2(by - ay, bx - ax)), 0)).translate(((ax + bx) / 2, 0, (ay + by) / 2))


def _gussets(draw: Sampler, chain: Points, width: float, thickness: float) -> Manifold:
    (ax, ay), (cx, cy), (bx, by) = chain[:3]
    share, thick = draw.between(0.35, 0.7), 0.8 * thickness
    corners = [
        (cx, cy),
        (cx + share * (ax - cx), cy + share * (ay - cy)),
        (cx + share * (bx - cx), cy + share * (by - cy)),
    ]
    area = (corners[1][0] - cx) * (corners[2][1] - cy) - (corners[1][1] - cy) * (corners[2][0] - cx)
    rib = sideways(corners if area > 0 else corners[::-1], thick)
    offset = 0.5 * width - 0.5 * thick
    places = draw.pick(((0.0,), (0.0,), (-offset, offset), (offset,)))
    return union(rib.translate((0, place, 0)) for place in places)


def rail(draw: Sampler) -> Manifold:
    """Length of an extruded profile (T, I, channel, angle, tube, hat) with holes and a notch."""
    length, w, h = draw.between(25, 140), draw.between(18, 45), draw.between(14, 50)
    t = draw.between(0.1, 0.25) * min(w, h)
    outline = rectangle(w, h)
    side = rectangle(w - t, h - 2 * t)
    outline -= draw.pick(
        (
            side.translate((t, 0)),
            side.translate((w / 2, 0)) + side.translate((-w / 2, 0)),
            rectangle(w - 2 * t, h - 2 * t, t),
            rectangle(w, h).translate((t, t)),
            rectangle(w - 2 * t, h - 2 * t) + rectangle(0.4 * w, 9 * t).translate((0, h / 2)),
            rectangle(0.5 * (w - t), 2 * (h - t)).translate((w / 2 - 0.25 * (w - t), h / 2))
            + rectangle(0.5 * (w - t), 2 * (h - t)).translate((0.25 * (w - t) - w / 2, h / 2)),
        )
    )
    solid = extruded(rounded(outline, 0.2 * t, 0.3 * t), -length / 2, length / 2).rotate((90, 0, 0))
    count, radius = draw.count(1, 4), draw.between(0.08, 0.14) * w
    for k in range(count):
        at = (k - (count - 1) / 2) * 0.8 * length / count
        solid -= pin((0.15 * w, at), -h, h, radius) if draw.chance(0.7) else bar((-w, at, 0), "x", 2 * w, radius)
    if draw.chance(0.5):
        solid -= box((0.1 * w, length * draw.between(0.2, 0.4), -h), (w, length, h))
    if draw.chance(0.4):
        solid += block((0, -length / 2), (1.3 * w, 1.2 * t), -0.65 * h, 0.65 * h)
    return solid
