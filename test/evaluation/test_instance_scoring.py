"""Random rotations by instance, poses about a point, and which tolerance is shown."""

import numpy as np
import pytest
from evaluation_scene import turn

from shared_pose_ros.evaluation.instance_scoring import (
    Candidates,
    RandomRotationBaseline,
    middle_tolerance,
    translations_about,
)
from shared_pose_ros.evaluation.protocols import get_protocol


def test_random_draws_depend_on_the_instance_and_the_seed_only():
    draws = RandomRotationBaseline(4, seed=2).rotations(1, 2, 3)
    np.testing.assert_array_equal(draws, RandomRotationBaseline(4, seed=2).rotations(1, 2, 3))
    assert not np.allclose(draws, RandomRotationBaseline(4, seed=3).rotations(1, 2, 3))
    assert not np.allclose(draws, RandomRotationBaseline(4, seed=2).rotations(1, 2, 4))
    np.testing.assert_allclose(draws @ draws.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-12)


def test_translations_keep_the_centre_where_it_was():
    seen = Candidates(turn([1, 1, 0], 30)[None], np.array([[0.1, 0.0, 0.5]]), 1.0)
    other = turn([0, 1, 1], 130)
    centre = np.array([0.02, -0.01, 0.03])
    moved = translations_about(centre, seen, other[None])[0]
    np.testing.assert_allclose(other @ centre + moved, seen.rotations[0] @ centre + seen.translations[0])


def test_the_tolerance_shown_is_the_middle_one():
    assert middle_tolerance(10) == 4 and get_protocol("paper").taus[middle_tolerance(10)] == pytest.approx(0.25)
    assert middle_tolerance(1) == 0
