"""Is the expected error honest? Expected against true rotation errors, in groups of rising expectation.

Convention: degrees; shares in 0…1. The expected error is the refiner's (``pipeline.refinement.expected_errors``), the
true one is symmetry-aware. Instances without an expected error are left out and counted: those that were not refined,
those that were aligned to depth, whose deviation is one constant, and those that a detector missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.evaluation.instance_scoring import InstanceResult
from shared_pose_ros.evaluation.pose_metrics import METRICS

GROUPS = 6
LEAST_IN_GROUP = 10
"""Instances; fewer have no median worth the name, so that there are fewer groups instead."""
USEFUL_DEG = 10.0
"""A rule counts answers with a smaller true error."""
RULES_DEG = (3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)
WITHIN_DEG = METRICS["rotation_deg"].limits
"""Of the shares that tables show."""


@dataclass(frozen=True)
class ErrorGroup:
    """Instances that are neighbours in the order of their expected errors.

    Attributes:
        instances: how many.
        expected_least: their least expected error, degrees.
        expected_most: their greatest.
        expected_median: the median of their expected errors.
        true_median: of their true ones.
        expected_mean: the mean of their expected errors.
        true_mean: of their true ones; far above the median where some are flipped.
        within: share of true errors below each of ``WITHIN_DEG``.
    """

    instances: int
    expected_least: float
    expected_most: float
    expected_median: float
    true_median: float
    expected_mean: float
    true_mean: float
    within: tuple[float, ...]


@dataclass(frozen=True)
class Rule:
    """What to make of an answer whose expected error is below a limit.

    Attributes:
        below: the limit, degrees.
        answers: share of all answers with an expected error that lie below it.
        useful: share of these whose true error is below ``USEFUL_DEG``; None if there are none.
    """

    below: float
    answers: float
    useful: float | None


@dataclass(frozen=True)
class Reliability:
    """How far expected errors can be trusted.

    Attributes:
        instances: that have an expected error.
        without: the others.
        rank_correlation: Spearman's, of expected and true error; None where one of them is the same for all.
        expected_mean: mean expected error, degrees.
        true_mean: mean true error, degrees.
        groups: of equal size (one more in the first ones), by rising expected error.
        rules: one per limit of ``RULES_DEG``.
    """

    instances: int
    without: int
    rank_correlation: float | None
    expected_mean: float
    true_mean: float
    groups: tuple[ErrorGroup, ...]
    rules: tuple[Rule, ...]


def reliability(results: Sequence[InstanceResult]) -> Reliability | None:
    """Compare expected with true errors; None where no instance has an expected error."""
    expected, true = error_pairs(results)
    if not len(expected):
        return None
    order = np.argsort(expected, kind="stable")
    count = min(GROUPS, max(len(order) // LEAST_IN_GROUP, 1))
    return Reliability(
        instances=len(expected),
        without=len(results) - len(expected),
        rank_correlation=rank_correlation(expected, true),
        expected_mean=float(expected.mean()),
        true_mean=float(true.mean()),
        groups=tuple(_group(expected[chosen], true[chosen]) for chosen in np.array_split(order, count)),
        rules=tuple(_rule(limit, expected, true) for limit in RULES_DEG),
    )


def error_pairs(results: Sequence[InstanceResult]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected and true errors, both ``(N,)`` degrees, of the N instances that have an expected one."""
    known = [(r.expected_deg, r.rotation_deg) for r in results if r.detected and r.expected_deg is not None]
    expected, true = np.array(known, dtype=np.float64).reshape(-1, 2).T
    return expected, true


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation of two ``(N,)``: Pearson's of the ranks, equal values sharing their mean rank.

    None where it is not defined: fewer than two values, or one of them the same throughout.
    """
    if len(first) < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _group(expected: NDArray[np.float64], true: NDArray[np.float64]) -> ErrorGroup:
    return ErrorGroup(
        instances=len(expected),
        expected_least=float(expected.min()),
        expected_most=float(expected.max()),
        expected_median=float(np.median(expected)),
        true_median=float(np.median(true)),
        expected_mean=float(expected.mean()),
        true_mean=float(true.mean()),
        within=tuple(float((true < limit).mean()) for limit in WITHIN_DEG),
    )


def _rule(limit: float, expected: NDArray[np.float64], true: NDArray[np.float64]) -> Rule:
    below = expected < limit
    useful = float((true[below] < USEFUL_DEG).mean()) if below.any() else None
    return Rule(limit, float(below.mean()), useful)
