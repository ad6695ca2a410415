"""Turned parts: cylindrical steps about the z axis, with bores and cuts. Millimetres."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import (
    around,
    bar,
    opening,
    pin,
    segments_of,
)
from shared_pose_ros.meshes.parts import box, turned

if TYPE_CHECKING:
    from manifold3d import Manifold


class _Step(NamedTuple):
    """A cylindrical section of a turned part."""

    radius: float
    low: float
    high: float


def turned_part(draw: Sampler) -> Manifold:
    """Shaft, bush, cup or flange: cylindrical steps with chamfers and grooves, a bore, and cuts that are not turned."""
    slender = draw.chance(0.5)
    steps = _steps(draw, slender)
    solid = turned(_profile(draw, steps), segments_of(max(step.radius for step in steps)))
    solid = _bored(draw, solid, steps, slender)
    for _ in range(draw.count(0, 2)):
        solid = draw.pick((_keyway, _flats, _cross_hole, _bolt_circle, _scallops, _side_ribs, _castle))(
            draw, solid, draw.pick(steps)
        )
    return solid


def _steps(draw: Sampler, slender: bool) -> list[_Step]:
    count = draw.count(2, 6) if slender else draw.count(1, 4)
    reach = draw.between(9, 18) if slender else draw.between(25, 50)
    radii = [reach * draw.between(0.4, 0.95) for _ in range(count)]
    radii[draw.count(0, count - 1)] = reach
    if draw.chance(0.5):
        radii.sort(reverse=draw.chance(0.7))
    steps, z = [], 0.0
    for radius in radii:
        length = draw.between(5, 40) if slender else draw.log_between(4, 30)
        steps.append(_Step(radius, z, z + length))
        z += length
    return steps


def _profile(draw: Sampler, steps: list[_Step]) -> list[tuple[float, float]]:
    first, last = steps[0], steps[-1]
    points = [(0.0, first.low)]
    for step in steps:
        radius, low, high = step
        length = high - low
        chamfer = draw.between(0.05, 0.2) * min(radius, length) if draw.chance(0.6) else 0.0
        points += [(radius - chamfer, low), (radius, low + chamfer)] if step is first and chamfer else [(radius, low)]
        kind = draw.pick(("plain", "plain", "plain", "groove", "taper", "rings")) if length > 8 else "plain"
        if kind in ("groove", "rings"):
            points += grooves(radius, low, high, 1 if kind == "groove" else draw.count(3, 6), draw.between(0.06, 0.15))
        end = radius * draw.between(0.75, 0.95) if kind == "taper" else radius
        points += [(end, high - chamfer), (end - chamfer, high)] if step is last and chamfer else [(end, high)]
    return [*points, (0.0, last.high)]


def grooves(radius: float, low: float, high: float, count: int, depth: float) -> list[tuple[float, float]]:
    """Profile points (radius, z) of ``count`` grooves, their depth a share of the radius."""
    pitch, points = 0.6 * (high - low) / count, []
    for number in range(count):
        start, inner = low + 0.2 * (high - low) + number * pitch, radius * (1 - depth)
        points += [(radius, start), (inner, start), (inner, start + pitch / 2), (radius, start + pitch / 2)]
    return points


def _bored(draw: Sampler, solid: Manifold, steps: list[_Step], slender: bool) -> Manifold:
    low, high, top = steps[0].low, steps[-1].high, steps[-1]
    thinnest = min(step.radius for step in steps)
    kind = draw.pick(("none", "none", "blind", "through")) if slender else draw.pick(("through", "cup", "cup", "blind"))
    if kind == "through":
        solid -= opening(draw, thinnest * draw.between(0.35, 0.7), low - 1, high + 1)
    if kind == "blind":
        solid -= opening(
            draw, top.radius * draw.between(0.3, 0.6), high - draw.between(0.3, 0.8) * (high - low), high + 1
        )
    if kind == "cup":
        inner, floor = thinnest * draw.between(0.65, 0.85), low + draw.between(0.12, 0.4) * (high - low)
        solid -= pin((0, 0), floor, high + 1, inner)
        if draw.chance(0.5):
            solid += pin((0, 0), low, high - draw.between(0.0, 0.5) * (high - floor), inner * draw.between(0.25, 0.6))
        if draw.chance(0.6):
            solid -= opening(draw, inner * draw.between(0.12, 0.24), low - 1, high + 1)
    return solid


def _keyway(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r, length = step.radius, step.high - step.low
    start = step.low + draw.between(0.0, 0.3) * length
    width = r * draw.between(0.12, 0.25)
    return solid - box((0.75 * r, -width, start), (2 * r, width, start + 0.65 * length))


def _flats(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r = step.radius
    cut = box((r * draw.between(0.78, 0.9), -1.1 * r, step.low - 0.1), (1.2 * r, 1.1 * r, step.high + 0.1))
    return solid - around(cut, draw.pick((1, 2, 2, 4, 6)))


def _cross_hole(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r = step.radius
    radius = min(draw.between(0.15, 0.4) * r, 0.35 * (step.high - step.low))
    reach = 4 * r if draw.chance(0.5) else 2 * r
    return solid - bar((-2 * r, 0, (step.low + step.high) / 2), "x", reach, radius)


def _bolt_circle(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r = step.radius
    hole = pin((0.82 * r, 0), step.low - 0.1, step.high + 0.1, r * draw.between(0.06, 0.11))
    return solid - around(hole, draw.count(2, 8))


def _scallops(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r = step.radius
    hole = pin((r, 0), step.low - 0.1, step.high + 0.1, r * draw.between(0.08, 0.16))
    return solid - around(hole, draw.pick((1, 3, 4, 6, 8, 12)))


def _side_ribs(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r, width = step.radius, step.radius * draw.between(0.05, 0.12)
    rib = box((0.9 * r, -width, step.low), (r * draw.between(1.06, 1.25), width, step.high))
    return solid + around(rib, draw.pick((1, 2, 3, 4, 6, 8, 12)))


def _castle(draw: Sampler, solid: Manifold, step: _Step) -> Manifold:
    r, width, depth = step.radius, step.radius * draw.between(0.1, 0.25), draw.between(0.2, 0.6)
    cut = box((0.3 * r, -width, step.high - depth * (step.high - step.low)), (2 * r, width, step.high + 0.1))
    return solid - around(cut, draw.count(1, 4))
