"""The depth camera model against the statistics that it states."""

from __future__ import annotations

import numpy as np
import pytest

from shared_pose_ros.evaluation.depth_noise import CORRELATION, DepthNoise

SIZE = (300, 400)


def errors(distance: float, sigma: float = 0.002, step: float = 1e-6, place: int = 0) -> np.ndarray:
    """What a flat wall is measured off by; NaN in holes."""
    wall = np.full(SIZE, distance, np.float32)
    found = DepthNoise(sigma, step=step).measured(wall, place)
    return np.where(found > 0, found - wall, np.nan)


@pytest.mark.parametrize(("distance", "expected"), [(0.35, 0.0005), (0.7, 0.002), (1.4, 0.008)])
def test_noise_grows_with_the_square_of_the_distance(distance: float, expected: float) -> None:
    found = errors(distance)
    assert np.nanstd(found) == pytest.approx(expected, rel=0.03)
    assert abs(np.nanmean(found)) < 0.15 * expected


def test_neighbours_have_correlated_noise() -> None:
    found = errors(0.7)
    for lag in (1, 4):
        pairs = np.stack([found[:, :-lag].ravel(), found[:, lag:].ravel()])
        pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
        # White noise after a Gaussian of σ: exp(−lag² / 4σ²).
        assert np.corrcoef(pairs)[0, 1] == pytest.approx(np.exp(-(lag**2) / (4 * CORRELATION**2)), abs=0.03)


def test_holes_have_their_shares_everywhere_and_at_edges() -> None:
    depth = np.full(SIZE, 0.7, np.float32)
    assert (DepthNoise(0.001).measured(depth) == 0).mean() == pytest.approx(0.05, abs=0.005)
    depth[:, 200:] = 0.8
    found = DepthNoise(0.001).measured(depth)
    lost = 1 - (1 - 0.05) * (1 - 0.7)
    assert (found[:, 199:201] == 0).mean() == pytest.approx(lost, abs=0.06)
    assert (np.delete(found, [198, 199, 200, 201], axis=1) == 0).mean() == pytest.approx(0.05, abs=0.005)


def test_depths_are_multiples_of_the_step_and_nothing_stays_nothing() -> None:
    depth = np.full(SIZE, 0.7004, np.float32)
    depth[:50] = 0.0
    found = DepthNoise(0.002).measured(depth)
    assert found.dtype == np.float32 and not found[:50].any()
    np.testing.assert_allclose(found * 1000, np.round(found * 1000), atol=1e-3)
    assert len(np.unique(found)) > 8


def test_the_place_decides_the_noise_and_zero_is_exact() -> None:
    np.testing.assert_array_equal(errors(0.7, place=3), errors(0.7, place=3))
    assert (errors(0.7, place=3) != errors(0.7, place=4)).mean() > 0.9
    depth = np.full(SIZE, 0.7004, np.float32)
    np.testing.assert_array_equal(DepthNoise().measured(depth, 1), depth)
    other = DepthNoise(0.002, seed=1).measured(depth, 3)
    assert (other != DepthNoise(0.002).measured(depth, 3)).mean() > 0.5
    assert str(DepthNoise()) == "exact" and "1.5 mm" in str(DepthNoise(0.0015))
