"""From a network's hypotheses to aligned ones: half turns, second try, order, confidences, several objects."""

from __future__ import annotations

import pytest
import torch
from depth_scene import CENTRE, ROTATION, errors, exact_depth, nearby, part, view_of
from evaluation_scene import turn

from shared_pose_ros.refinement import depth_refinement
from shared_pose_ros.refinement.depth_refinement import (
    CUBE_ROTATIONS,
    LEAST_SCORE,
    NO_SCORE,
    SECOND_TRY,
    DepthRefinement,
    refine_with_depth,
)
from shared_pose_ros.refinement.visible_points import VisiblePoints

NAMES = ("lever", "block", "bracket")


def table() -> VisiblePoints:
    tables = [part(name).points for name in NAMES]
    stacked = (torch.cat([getattr(t, name) for t in tables]) for name in ("points", "normals", "shown"))
    return VisiblePoints(*stacked, tables[0].directions, torch.ones(len(NAMES), dtype=torch.bool))


def refined(view, index: list[int], rotations: torch.Tensor, centres: torch.Tensor) -> DepthRefinement:
    diameters = torch.tensor([part(NAMES[i]).diameter for i in index])
    return refine_with_depth(view, torch.tensor(index, dtype=torch.long), rotations, centres, diameters, table())


@pytest.fixture(scope="module")
def lever_view():
    return view_of(exact_depth([(part("lever"), ROTATION, CENTRE)]))


def about(axis: list[float], degrees: float) -> torch.Tensor:
    """The true rotation after one about an axis of the part."""
    return ROTATION @ torch.tensor(turn(axis, degrees), dtype=torch.float32)


@pytest.mark.parametrize("axis", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
def test_an_upside_down_hypothesis_is_put_right(lever_view, axis, monkeypatch) -> None:
    monkeypatch.setattr(depth_refinement, "SECOND_TRY", -10.0)
    start = about(axis, 172.0)[None, None]
    found = refined(lever_view, [0], start, CENTRE[None] + 0.003)
    turned, moved = errors(found.rotations[:, 0], found.centres[:, 0])
    assert turned < 0.2 and moved < 0.2 and found.accepted.all() and found.scores[0, 0] > 0.95


def test_a_second_try_starts_from_all_sides_and_distances(lever_view, monkeypatch) -> None:
    # A quarter rotation away, and a quarter of the diameter behind.
    away = CENTRE / CENTRE.norm() * 0.25 * part("lever").diameter
    start = about([0.0, 1.0, 0.0], 90.0)[None, None], (CENTRE + away)[None]
    found = refined(lever_view, [0], *start)
    turned, moved = errors(found.rotations[:, 0], found.centres[:, 0])
    assert turned < 0.2 and moved < 0.2
    monkeypatch.setattr(depth_refinement, "SECOND_TRY", -10.0)
    once = refined(lever_view, [0], *start)
    assert once.scores[0, 0] < SECOND_TRY and errors(once.rotations[:, 0], once.centres[:, 0])[0] > 20


def test_a_second_try_that_is_no_better_changes_nothing(lever_view, monkeypatch) -> None:
    start = nearby(5.0, 3.0, 2)
    first = refined(lever_view, [0], start[0][None], start[1][:1])
    # Now every first try is repeated.
    monkeypatch.setattr(depth_refinement, "SECOND_TRY", 2.0)
    again = refined(lever_view, [0], start[0][None], start[1][:1])
    assert again.scores[0, 0] >= first.scores[0, 0]
    assert errors(again.rotations[:, 0], again.centres[:, 0])[0] < 0.2


def test_the_right_hypothesis_comes_first_whatever_the_network_thought(lever_view) -> None:
    wrong = [about([0.0, 0.0, 1.0], 90.0), about([1.0, 0.0, 0.0], 60.0), about([0.0, 1.0, 0.0], -70.0)]
    hypotheses = torch.stack([*wrong, about([1.0, 1.0, 0.0], 6.0)])
    found = refined(lever_view, [0], hypotheses[None], CENTRE[None])
    assert errors(found.rotations[:, 0], found.centres[:, 0])[0] < 0.2
    assert (found.scores[0].diff() <= 0).all() and (found.confidences[0].diff() <= 0).all()
    torch.testing.assert_close(found.confidences.sum(dim=1), torch.ones(1))
    assert found.confidences[0, 0] > 0.5


def test_hypotheses_that_end_in_one_pose_are_one(lever_view) -> None:
    hypotheses = nearby(4.0, 0.0, 6)[0][None]
    found = refined(lever_view, [0], hypotheses, CENTRE[None])
    real = found.scores[0] > NO_SCORE
    kept = found.rotations[0][real]
    assert real.any()
    for row in range(1, len(kept)):
        apart = errors(kept[:row], CENTRE.expand(row, 3), kept[row])[0]
        assert (apart > 8.0).all()
    # What is missing repeats the best pose and weighs nothing.
    assert (found.confidences[0][~real] < 1e-6).all()


def scene():
    """Three objects, the third not in the image at all: view, rotations (3, 2, 3, 3), centres (3, 3)."""
    places = torch.stack([CENTRE, CENTRE + torch.tensor([0.1, 0.05, 0.1]), torch.tensor([-0.12, 0.06, 0.55])])
    shown = [(part(name), ROTATION, place) for name, place in zip(NAMES[:2], places)]
    starts = torch.stack([about([0.0, 0.0, 1.0], 80.0), about([1.0, 0.0, 0.3], 7.0)])
    return view_of(exact_depth(shown)), starts.expand(3, 2, 3, 3), places


def test_several_objects_in_one_batch_are_as_each_alone() -> None:
    view, rotations, centres = scene()
    together = refined(view, [0, 1, 2], rotations, centres)
    assert together.accepted.tolist() == [True, True, False]
    for row in range(3):
        alone = refined(view, [row], rotations[row : row + 1], centres[row : row + 1])
        torch.testing.assert_close(alone.scores[0, 0], together.scores[row, 0], atol=0.02, rtol=0)
        if row < 2:
            turned, moved = errors(
                alone.rotations[0, :1], alone.centres[0, :1], together.rotations[row, 0], together.centres[row, 0]
            )
            assert turned < 0.05 and moved < 0.05
            turned, moved = errors(together.rotations[row, :1], together.centres[row, :1], centre=centres[row])
            assert turned < 0.2 and moved < 0.2


def test_depth_without_the_object_is_not_accepted() -> None:
    rotations, centres = nearby(5.0, 3.0, 3)
    for depth in (exact_depth([]), torch.zeros(240, 320), exact_depth([], floor=0.3)):
        found = refined(view_of(depth), [0], rotations[None], centres[:1])
        assert not found.accepted.any() and found.scores[0, 0] < LEAST_SCORE


def test_no_objects() -> None:
    found = refined(view_of(exact_depth([])), [], torch.zeros(0, 4, 3, 3), torch.zeros(0, 3))
    assert found.rotations.shape == (0, 4, 3, 3) and found.centres.shape == (0, 4, 3)
    assert found.scores.shape == found.confidences.shape == (0, 4) and found.accepted.shape == (0,)


def test_a_cube_has_24_rotations() -> None:
    assert CUBE_ROTATIONS.shape == (24, 3, 3)
    assert torch.unique(CUBE_ROTATIONS.flatten(1), dim=0).shape[0] == 24
    torch.testing.assert_close(CUBE_ROTATIONS @ CUBE_ROTATIONS.mT, torch.eye(3).expand(24, 3, 3))
    torch.testing.assert_close(torch.linalg.det(CUBE_ROTATIONS), torch.ones(24))
    # Each product is one of them.
    products = (CUBE_ROTATIONS[:, None] @ CUBE_ROTATIONS[None]).flatten(0, 1).flatten(1)
    assert torch.cdist(products, CUBE_ROTATIONS.flatten(1)).amin(dim=1).max() < 1e-6


def test_a_second_try_is_of_the_object_that_needs_it() -> None:
    view, _, places = scene()
    away = 0.25 * part(NAMES[1]).diameter * places[1] / places[1].norm()
    starts = torch.stack([about([1.0, 0.0, 0.3], 7.0), about([0.0, 1.0, 0.0], 90.0)])[:, None]
    found = refined(view, [0, 1], starts, torch.stack([places[0], places[1] + away]))
    turned, moved = errors(found.rotations[:, 0], found.centres[:, 0], centre=places[:2])
    assert turned.max() < 0.2 and moved.max() < 0.2
