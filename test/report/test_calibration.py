"""Calibration against figures worked out by hand."""

import math

import numpy as np
import pytest
from instance_results import instance

from shared_pose_ros.report.calibration import acceptances, calibration_error, confidence_bins


def results(*pairs):
    return [instance("1", 0.5, degrees, confidence=confidence) for confidence, degrees in pairs]


def test_bins_hold_their_lower_edge_and_the_last_one_both():
    found = confidence_bins(results((0.0, 1), (0.3, 1), (0.35, 90), (0.7, 14.9), (0.9, 15.0), (1.0, 1)))
    assert [(b.low, b.high, b.instances) for b in found] == [
        (0.0, 0.1, 1), (0.3, 0.4, 2), (0.7, 0.8, 1), (0.9, 1.0, 2),
    ]  # fmt: skip
    assert [b.correct for b in found] == [1.0, 0.5, 1.0, 0.5]
    assert [b.confidence for b in found] == pytest.approx([0.0, 0.325, 0.7, 0.95])


def test_calibration_error_by_hand():
    # Bin 0.8: 3 of mean 0.8, 2 right; bin 0.2: 1 of 0.2, right: (3·|2/3 − 0.8| + |1 − 0.2|)/4.
    error = calibration_error(results((0.80, 1), (0.80, 1), (0.80, 99), (0.2, 1)))
    assert error == pytest.approx((3 * abs(2 / 3 - 0.8) + 0.8) / 4)
    assert math.isnan(calibration_error([]))


def test_honest_confidences_have_a_small_error_and_boasting_ones_a_large():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0, 1, 4000)
    right = generator.uniform(0, 1, 4000) < confidence
    honest = results(*zip(confidence, np.where(right, 5.0, 90.0)))
    boasting = results(*zip(1 - (1 - confidence) / 3, np.where(right, 5.0, 90.0)))
    assert calibration_error(honest) < 0.03
    assert calibration_error(boasting) == pytest.approx(1 / 3, abs=0.02)  # mean of (1 − c) (1 − 1/3)


def test_misses_have_no_confidence():
    answers = results((0.8, 1), (0.4, 90))
    missed = [instance("1", 0.0, 180.0, confidence=0.0, detected=False)]
    assert confidence_bins(answers + missed) == confidence_bins(answers)
    assert calibration_error(answers + missed) == pytest.approx((0.2 + 0.4) / 2)
    assert acceptances(answers + missed) == acceptances(answers)
    assert confidence_bins(missed) == [] == acceptances(missed) and math.isnan(calibration_error(missed))


def test_the_most_confident_are_kept():
    found = acceptances(results((0.9, 1), (0.5, 90), (0.5, 2), (0.1, 3)), (1.0, 0.75, 0.5, 0.25, 0.01))
    # Half of the answers would be two, but the third is as confident as the second.
    assert [(a.threshold, a.kept) for a in found] == [(0.1, 1.0), (0.5, 0.75), (0.9, 0.25)]
    assert [a.correct for a in found] == pytest.approx([3 / 4, 2 / 3, 1.0])
    assert [a.correct_kept for a in found] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert math.isnan(acceptances(results((0.9, 90)))[0].correct_kept) and acceptances([]) == []
