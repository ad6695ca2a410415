"""Alignment of single hypotheses: to exact depth, to what cameras make of it, and to depth that shows nothing."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from depth_scene import (
    CAMERA,
    CENTRE,
    FLOOR,
    ROTATION,
    SIZE,
    ball_depth,
    errors,
    exact_depth,
    nearby,
    part,
    start,
    view_of,
)
from evaluation_scene import turn

from shared_pose_ros.evaluation.depth_noise import DepthNoise
from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.refinement.depth_alignment import GATES, LEAST_POINTS, Alignment, DepthView, Starts, align


def aligned(item, depth, rotations, centres, steps=10, **view) -> Alignment:
    return align(view_of(depth, **view), start(item, rotations, centres), item.points, steps, GATES)


@pytest.mark.parametrize("name", ["lever", "bracket", "block"])
@pytest.mark.parametrize(("degrees", "millimetres"), [(5.0, 4.0), (12.0, 8.0)])
def test_a_pose_is_found_again_in_its_exact_depth(name: str, degrees: float, millimetres: float) -> None:
    item = part(name)
    depth = exact_depth([(item, ROTATION, CENTRE)])
    found = aligned(item, depth, *nearby(degrees, millimetres))
    turned, moved = errors(found.rotations, found.centres)
    assert turned.max() < 0.2 and moved.max() < 0.2
    assert found.scores.min() > 0.95
    eye = found.rotations @ found.rotations.mT
    torch.testing.assert_close(eye, torch.eye(3).expand_as(eye), atol=1e-5, rtol=0)


def test_without_steps_the_pose_stays_and_is_scored() -> None:
    item = part("lever")
    rotations, centres = nearby(30.0, 5.0)
    found = aligned(item, exact_depth([(item, ROTATION, CENTRE)]), rotations, centres, steps=0)
    assert torch.equal(found.rotations, rotations) and torch.equal(found.centres, centres)
    true = aligned(item, exact_depth([(item, ROTATION, CENTRE)]), ROTATION[None], CENTRE[None], steps=0)
    assert true.scores > 0.99 > found.scores.max() + 0.1


def spin(rotations: torch.Tensor) -> torch.Tensor:
    """Degrees about the own z axis, from ROTATION."""
    relative = ROTATION.mT @ rotations
    return torch.rad2deg(torch.atan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1]))


def test_a_cylinder_does_not_spin_about_its_axis() -> None:
    item = part("cylinder")
    rotations, centres = nearby(10.0, 5.0)
    found = aligned(item, exact_depth([(item, ROTATION, CENTRE)]), rotations, centres)
    tilt = torch.rad2deg(torch.acos((found.rotations[:, :, 2] @ ROTATION[:, 2]).clamp(max=1.0)))
    assert tilt.max() < 0.1 and errors(found.rotations, found.centres)[1].max() < 0.1
    assert spin(rotations).abs().max() > 5.0
    assert (spin(found.rotations) - spin(rotations)).abs().max() < 0.5


def test_a_ball_moves_and_hardly_rotates() -> None:
    item = part("ball")
    rotations, centres = nearby(10.0, 5.0)
    found = aligned(item, ball_depth(), rotations, centres)
    assert (found.centres - CENTRE).norm(dim=1).max() < 0.0005
    assert rotation_angle(found.rotations, rotations).max() < math.radians(5)


def test_a_plate_wider_than_the_view_does_not_slide() -> None:
    item, tilt = part("plate"), torch.tensor(turn([1.0, 0.0, 0.0], 20.0), dtype=torch.float32)
    centre = torch.tensor([0.0, 0.0, 0.35])
    starts = torch.stack([torch.tensor(turn(axis, 4.0), dtype=torch.float32) for axis in np.eye(3)]) @ tilt
    along = torch.tensor([[0.003, 0.004, 0.0], [-0.002, 0.0, 0.0], [0.005, -0.004, 0.0]]) @ tilt.mT
    centres = centre + along + torch.tensor([0.004, -0.004, 0.006])[:, None] * tilt[:, 2]
    found = aligned(item, exact_depth([(item, tilt, centre)]), starts, centres)
    assert ((found.centres - centre) @ tilt[:, 2]).abs().max() < 1e-4
    assert (found.rotations[:, :, 2] @ tilt[:, 2]).min() > math.cos(math.radians(0.1))
    slid = ((found.centres - centres) @ tilt)[:, :2]
    assert slid.norm(dim=1).max() < 0.001


def holes(depth: torch.Tensor) -> torch.Tensor:
    lost = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    return torch.where(lost, torch.zeros(()), depth)


def mixed(depth: torch.Tensor) -> torch.Tensor:
    """Pixels between two surfaces measure a mean of both."""
    return torch.from_numpy(cv2.blur(depth.numpy(), (3, 3)))


def noisy(depth: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(DepthNoise(0.0015).measured(depth.numpy(), 1))


CAMERAS = {
    "holes": (holes, 0.2, 0.2),
    "mixed pixels": (mixed, 0.7, 0.5),
    "noise": (noisy, 1.5, 1.0),
    # Two pixels are 3 mm at this distance.
    "registered 2 pixels beside": (lambda depth: depth.roll(2, dims=1), 1.0, 3.5),
    "not finite, negative": (lambda depth: holes(depth).where(holes(depth) > 0, bad(depth)), 0.2, 0.2),
}


def bad(depth: torch.Tensor) -> torch.Tensor:
    values = torch.tensor([math.nan, math.inf, -math.inf, -1.0])
    return values.repeat(depth.numel() // 4).reshape(depth.shape)


@pytest.mark.parametrize("kind", CAMERAS)
@pytest.mark.parametrize("name", ["lever", "block"])
def test_a_pose_is_found_in_what_a_camera_measures(name: str, kind: str) -> None:
    spoil, degrees, millimetres = CAMERAS[kind]
    item = part(name)
    found = aligned(item, spoil(exact_depth([(item, ROTATION, CENTRE)])), *nearby(8.0, 6.0))
    turned, moved = errors(found.rotations, found.centres)
    assert turned.max() < degrees and moved.max() < millimetres, (turned.max(), moved.max())
    assert found.scores.min() > 0.8


def test_what_is_not_finite_is_not_measured() -> None:
    item = part("lever")
    depth = exact_depth([(item, ROTATION, CENTRE)])
    lost = holes(depth)
    spoilt = CAMERAS["not finite, negative"][0](depth)
    assert not spoilt.isfinite().all()
    assert torch.equal(view_of(spoilt).depth, view_of(lost).depth)


def test_depth_of_half_the_resolution_has_its_own_camera() -> None:
    item, small = part("lever"), (SIZE[0] // 2, SIZE[1] // 2)
    # Pixel centres are at integers: (u + ½) / 2 − ½.
    camera = torch.tensor([[200.0, 0.0, 155.5 / 2 - 0.5], [0.0, 200.0, 123.5 / 2 - 0.5], [0.0, 0.0, 1.0]])
    depth = exact_depth([(item, ROTATION, CENTRE)], small, camera)
    torch.testing.assert_close(view_of(depth).camera, camera)
    found = aligned(item, depth, *nearby(8.0, 6.0))
    turned, moved = errors(found.rotations, found.centres)
    assert turned.max() < 0.2 and moved.max() < 0.2


def test_pixels_at_edges_are_dropped_and_at_holes_are_not() -> None:
    depth = torch.full((6, 8), 0.5)
    depth[:, 4:] = 0.6
    depth[2, 1] = 0.0
    kept = DepthView.of(depth, CAMERA, (6, 8)).depth
    expected = depth.clone()
    expected[:, 3:5] = 0.0
    assert torch.equal(kept, expected)
    assert torch.equal(DepthView.of(depth.T.contiguous(), CAMERA, (8, 6)).depth, expected.T)


def test_something_in_front_is_occlusion_and_no_error() -> None:
    item, cover = part("lever"), part("box")
    front = (cover, torch.eye(3), CENTRE + torch.tensor([-0.07, 0.0, -0.1]))
    depth = exact_depth([(item, ROTATION, CENTRE), front])
    free = exact_depth([(item, ROTATION, CENTRE)])
    part_of = free < FLOOR
    assert 0.15 < ((depth < free) & part_of).sum() / part_of.sum() < 0.6
    found = aligned(item, depth, *nearby(6.0, 4.0))
    turned, moved = errors(found.rotations, found.centres)
    assert turned.max() < 0.3 and moved.max() < 0.3
    assert (found.occluded > 0.1).all() and (found.violated < 0.02).all()
    assert (found.scores < aligned(item, free, *nearby(6.0, 4.0)).scores - 0.05).all()


def test_the_right_pose_has_the_best_score() -> None:
    item = part("lever")
    wrong = torch.stack([torch.tensor(turn(axis, 90.0), dtype=torch.float32) for axis in np.eye(3)])
    rotations = torch.cat([ROTATION[None], ROTATION @ wrong, ROTATION @ wrong @ wrong])
    found = aligned(item, exact_depth([(item, ROTATION, CENTRE)]), rotations, CENTRE.expand(7, 3))
    wrong_ends = errors(found.rotations, found.centres)[0] > 20.0
    assert found.scores.argmax() == 0 and found.scores[0] > 0.99
    assert wrong_ends.sum() >= 4 and found.scores[wrong_ends].max() < 0.5


def test_scores_are_shares() -> None:
    given = [torch.tensor(values) for values in ([0.6, 0.0, 0.5], [0.2, 1.0, 0.0], [0.2, 0.0, 0.5])]
    count = torch.tensor([LEAST_POINTS, LEAST_POINTS, LEAST_POINTS - 1])
    scores = Alignment(torch.eye(3).expand(3, 3, 3), torch.zeros(3, 3), *given, count).scores
    torch.testing.assert_close(scores, torch.tensor([0.4 / 0.9, -1.0, -1.0]))


@pytest.mark.parametrize("depth", [torch.zeros(SIZE), torch.full(SIZE, math.nan), torch.full(SIZE, 3.0)])
def test_depth_that_shows_nothing_moves_nothing(depth: torch.Tensor) -> None:
    item = part("lever")
    rotations, centres = nearby(5.0, 3.0)
    found = aligned(item, depth, rotations, centres)
    torch.testing.assert_close(found.rotations, rotations)
    torch.testing.assert_close(found.centres, centres)
    torch.testing.assert_close(found.scores, torch.full((8,), -1.0))


@pytest.mark.parametrize("place", [(-0.23, 0.0, 0.6), (0.02, 0.17, 0.6)])
def test_an_object_that_leaves_the_image_is_aligned_by_what_is_left(place: tuple[float, ...]) -> None:
    item, centre = part("lever"), torch.tensor(place)
    depth = exact_depth([(item, ROTATION, centre)])
    rotations, centres = nearby(4.0, 3.0)
    found = aligned(item, depth, rotations, centres - CENTRE + centre)
    whole = aligned(item, exact_depth([(item, ROTATION, CENTRE)]), ROTATION[None], CENTRE[None], steps=0)
    assert (found.measured > LEAST_POINTS).all() and (found.measured < 0.8 * whole.measured).all()
    turned, moved = errors(found.rotations, found.centres, centre=centre)
    assert turned.max() < 1.0 and moved.max() < 0.5


@pytest.mark.parametrize("z", [-0.6, 0.0, 0.01, 1e6])
def test_poses_behind_in_and_far_from_the_camera_do_no_harm(z: float) -> None:
    item = part("lever")
    found = aligned(item, exact_depth([]), ROTATION[None], torch.tensor([[0.0, 0.0, z]]))
    assert found.rotations.isfinite().all() and found.centres.isfinite().all() and found.scores.isfinite().all()


def test_hypotheses_of_several_objects_do_not_touch_each_other() -> None:
    items, count = [part("lever"), part("block")], 4
    places = [CENTRE, CENTRE + torch.tensor([0.12, 0.02, 0.05])]
    view = view_of(exact_depth([(item, ROTATION, place) for item, place in zip(items, places)]))
    tables = [item.points for item in items]
    both = type(tables[0])(
        torch.cat([t.points for t in tables]), torch.cat([t.normals for t in tables]),
        torch.cat([t.shown for t in tables]), tables[0].directions, torch.ones(2, dtype=torch.bool),
    )  # fmt: skip
    rotations, centres = nearby(6.0, 4.0, count)
    own = [start(item, rotations, centres - CENTRE + place) for item, place in zip(items, places)]
    joint = Starts(
        torch.arange(2).repeat_interleave(count), *(torch.cat([getattr(s, name) for s in own]) for name in
        ("rotations", "centres", "diameters")),
    )  # fmt: skip
    together = align(view, joint, both, 6, GATES)
    for row, (item, single) in enumerate(zip(items, own)):
        alone = align(view, single, item.points, 6, GATES)
        rows = slice(row * count, (row + 1) * count)
        torch.testing.assert_close(together.rotations[rows], alone.rotations, atol=1e-4, rtol=0)
        torch.testing.assert_close(together.centres[rows], alone.centres, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.scores[rows], alone.scores, atol=0.02, rtol=0)


def test_no_hypotheses_and_one() -> None:
    item = part("lever")
    depth = exact_depth([(item, ROTATION, CENTRE)])
    rotations, centres = nearby(5.0, 3.0)
    none = aligned(item, depth, rotations[:0], centres[:0])
    assert none.rotations.shape == (0, 3, 3) and none.scores.shape == (0,)
    one, many = (aligned(item, depth, rotations[:n], centres[:n]) for n in (1, 8))
    torch.testing.assert_close(one.rotations, many.rotations[:1], atol=1e-4, rtol=0)


def test_every_pixel_of_a_large_image_is_looked_up() -> None:
    """Its last place, in the image with its border, is odd and beyond 2**24, where float32 has even numbers only."""
    size = (4096, 4099)
    camera = torch.tensor([[1.0, 0.0, size[1] - 1.0], [0.0, 1.0, size[0] - 1.0], [0.0, 0.0, 1.0]])
    depth = torch.zeros(size)
    depth[-1, -1] = 0.6
    item = part("box")
    found = align(
        DepthView(depth, camera), start(item, ROTATION[None], torch.tensor([[0.0, 0.0, 0.6]])), item.points, 0, GATES
    )
    assert found.measured > 100
