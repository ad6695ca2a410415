"""Covariance of orientations: closed forms, symmetric parts, turns near 180 degrees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.orientation_covariance import (
    ANGLE_VARIANCE,
    FREE_VARIANCE,
    MEDIAN_ANGLE,
    orientation_covariance,
    rotation_vector,
)
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.symmetries import Symmetries

PLAIN = Symmetries()
HEXAGON = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 6, "offset": [0.1, 0, 0]}])
CYLINDER = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": "continuous"}])
BALL = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": "continuous"}, {"axis": [0, 1, 0], "fold": "continuous"}])


def covariance(rotations, weights, deviation: float = 0.0, symmetries: Symmetries = PLAIN) -> np.ndarray:
    table = SymmetryTable.from_dicts([symmetries.to_dict()])
    return orientation_covariance(
        torch.as_tensor(np.array(rotations))[None], torch.tensor([weights]), torch.tensor([deviation]), table
    )[0].numpy()


def about(axis: str, degrees: float, base: Rotation) -> np.ndarray:
    """A turn about the camera's axis after `base`."""
    return (Rotation.from_euler(axis, degrees, degrees=True) * base).as_matrix()


BASE = Rotation.random(random_state=np.random.default_rng(5))


@pytest.mark.parametrize("degrees", [1e-4, 5.0, 60.0, 89.99, 90.0])
@pytest.mark.parametrize(("axis", "place"), [("x", 0), ("y", 1), ("z", 2)])
def test_two_hypotheses_a_turn_apart(degrees: float, axis: str, place: int) -> None:
    """Variance θ² about the mean of ±θ plus the offset θ of the hypothesis from that mean: 2θ², about that axis."""
    found = covariance([about(axis, degrees, BASE), about(axis, -degrees, BASE)], [0.5, 0.5])
    expected = np.zeros((3, 3))
    expected[place, place] = 2.0 * math.radians(degrees) ** 2
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-7)


def test_weights_decide_and_need_no_sum_of_one() -> None:
    found = covariance([about("z", 0, BASE), about("z", 40, BASE), about("x", 20, BASE)], [3.0, 1.0, 0.5])
    expected = np.diag([0.5 * math.radians(20) ** 2, 0.0, math.radians(40) ** 2]) / 4.5
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    assert found[1, 2, 2] > found[0, 2, 2]


def test_the_smallest_eigenvalue_of_three_hypotheses_is_the_own_error() -> None:
    """Two differences span a plane, so that the direction across it has σ² alone; a continuous axis can only add."""
    three = [about("x", 0, BASE), about("y", 50, BASE), about("z", 20, BASE)]
    found = covariance(three, [0.6, 0.3, 0.1], 0.1)
    assert np.linalg.eigvalsh(found[0])[0] == pytest.approx(0.01)
    four = covariance([*three, about("x", 170, BASE)], [0.6, 0.3, 0.1, 0.1], 0.1)
    round_part = covariance(three, [0.6, 0.3, 0.1], 0.1, CYLINDER)
    assert np.linalg.eigvalsh(four[0])[0] > 0.011 and np.linalg.eigvalsh(round_part[0])[0] > 0.01
    # Without weight, further hypotheses change nothing.
    rest = covariance([*three, about("x", 170, BASE)], [0.6, 0.3, 0.1, 0.0], 0.1)
    np.testing.assert_allclose(rest[0], found[0], atol=1e-12)


def test_identical_hypotheses_leave_the_floor() -> None:
    found = covariance([BASE.as_matrix().astype(np.float32)] * 4, [0.4, 0.3, 0.2, 0.1], 0.1)
    np.testing.assert_allclose(found, [0.01 * np.eye(3)] * 4, atol=1e-12)


def test_equivalent_hypotheses_of_a_symmetric_part_leave_the_floor() -> None:
    turned = [(BASE * Rotation.from_euler("z", 60 * k, degrees=True)).as_matrix() for k in range(6)]
    np.testing.assert_allclose(covariance(turned, [1.0] * 6, 0.1, HEXAGON), [0.01 * np.eye(3)] * 6, atol=1e-12)
    assert np.trace(covariance(turned, [1.0] * 6, 0.1)[0]) > 3.0
    # 7 degrees off an equivalent pose are 7 degrees.
    turned[1] = about("y", 7, BASE * Rotation.from_euler("z", 120, degrees=True))
    found = covariance(turned[:2], [0.75, 0.25], 0.0, HEXAGON)
    np.testing.assert_allclose(found[0], np.diag([0, 0.25 * math.radians(7) ** 2, 0]), atol=1e-12)


def test_the_turn_about_a_continuous_axis_is_uniform_and_the_rest_as_ever() -> None:
    first, tilted = BASE.as_matrix(), about("x", 10, BASE * Rotation.from_euler("z", 77, degrees=True))
    found = covariance([first, tilted], [0.5, 0.5], 0.05, CYLINDER)
    for rotation, matrix in zip((first, tilted), found):
        axis = rotation[:, 2]
        np.testing.assert_allclose(matrix @ axis, ANGLE_VARIANCE * axis, atol=1e-12)
    # Across the axis: the tilt between the two axes, whatever the turns about them.
    tilt = math.acos(first[:, 2] @ tilted[:, 2])
    across = np.trace(found[0]) - ANGLE_VARIANCE - 2 * 0.05**2
    assert across == pytest.approx(0.5 * tilt**2, rel=1e-6)


def test_of_a_ball_nothing_is_known() -> None:
    rotations = Rotation.random(3, random_state=np.random.default_rng(0)).as_matrix()
    np.testing.assert_allclose(covariance(rotations, [1.0] * 3, 0.1, BALL), [FREE_VARIANCE * np.eye(3)] * 3)
    vectors = Rotation.random(200_000, random_state=np.random.default_rng(1)).as_rotvec()
    np.testing.assert_allclose(vectors.T @ vectors / len(vectors), FREE_VARIANCE * np.eye(3), atol=0.01)


@pytest.mark.parametrize("short", [0.0, 1e-12, 1e-9, 1e-6, 1e-3])
def test_near_a_half_turn(short: float) -> None:
    axis = np.array([0.36, -0.48, 0.8])
    turn = Rotation.from_rotvec((math.pi - short) * axis) * BASE
    found = covariance([BASE.as_matrix(), turn.as_matrix()], [0.5, 0.5])
    np.testing.assert_allclose(found[0], 0.5 * (math.pi - short) ** 2 * np.outer(axis, axis), atol=1e-7)


def test_rotation_vectors_are_scipys() -> None:
    vectors = np.random.default_rng(2).normal(size=(200, 3)) * np.geomspace(1e-12, 1, 200)[:, None]
    rotations = Rotation.from_rotvec(vectors)
    found = rotation_vector(torch.from_numpy(rotations.as_matrix()))
    np.testing.assert_allclose(found, rotations.as_rotvec(), atol=1e-15, rtol=1e-7)


def test_any_network_output_gives_a_covariance() -> None:
    """Float32 rotations of many objects at once: symmetric, positive definite, finite, at most that of half turns."""
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(64 * 6, generator).reshape(64, 6, 3, 3)
    rotations[::7] = rotations[::7, :1]
    confidences = torch.softmax(torch.randn(64, 6, generator=generator) * 8, dim=1)
    kinds = SymmetryTable.from_dicts([s.to_dict() for s in (PLAIN, HEXAGON, CYLINDER, BALL)])
    table = kinds.take(torch.arange(64) % 4)
    found = orientation_covariance(rotations, confidences, torch.full((64,), 0.1), table)
    assert found.shape == (64, 6, 3, 3) and found.dtype == torch.float64
    assert torch.isfinite(found).all() and torch.equal(found, found.mT)
    eigenvalues = torch.linalg.eigvalsh(found)
    assert eigenvalues.min() > 0.009 and eigenvalues.max() < math.pi**2 + 0.1


def test_the_median_angle_is_that_of_the_chi_square() -> None:
    assert pytest.approx(math.sqrt(chi2.median(3)), abs=1e-4) == MEDIAN_ANGLE
