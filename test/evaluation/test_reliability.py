"""Expected against true errors: groups, ranks and rules, worked out by hand."""

import dataclasses

import numpy as np
import pytest
from instance_results import instance

from shared_pose_ros.evaluation.reliability import RULES_DEG, Rule, rank_correlation, reliability


def results(*pairs):
    """Instances with these (expected, true) errors, degrees."""
    return [instance("1", 0.5, true, expected_deg=expected) for expected, true in pairs]


def test_sixths_of_rising_expectation_with_medians_means_and_shares():
    # Expected 1…60°; true errors twice that, but for one flip in each ten, at the end. Given in another order.
    pairs = [(float(n), 180.0 if n % 10 == 0 else 2.0 * n) for n in range(1, 61)]
    found = reliability(results(*np.random.default_rng(0).permutation(pairs)))
    assert found.instances == 60 and found.without == 0
    first, second, *_, last = found.groups
    assert [group.instances for group in found.groups] == [10] * 6
    assert (first.expected_least, first.expected_most, last.expected_most) == (1.0, 10.0, 60.0)
    assert (first.expected_median, first.true_median) == (5.5, 11.0)
    assert (first.expected_mean, first.true_mean) == (5.5, pytest.approx((2 * 45 + 180) / 10))
    assert first.within == (0.2, 0.4, 0.7) and second.within == (0.0, 0.0, 0.0)
    assert (found.expected_mean, found.true_mean) == (30.5, pytest.approx((2 * (1830 - 210) + 6 * 180) / 60))


@pytest.mark.parametrize(("count", "sizes"), [(5, [5]), (19, [19]), (25, [13, 12]), (61, [11, 10, 10, 10, 10, 10])])
def test_few_instances_make_fewer_groups(count, sizes):
    found = reliability(results(*((float(n), 1.0) for n in range(count))))
    assert [group.instances for group in found.groups] == sizes


def test_who_has_no_expected_error_is_left_out_and_counted():
    known = results((4.0, 3.0), (2.0, 8.0))
    missed = dataclasses.replace(known[0], detected=False)
    found = reliability([*known, missed, instance("1", 0.5, 170.0)])
    assert (found.instances, found.without) == (2, 2)
    assert dataclasses.replace(found, without=0) == reliability(known)
    assert found.rank_correlation == pytest.approx(-1.0) and (found.expected_mean, found.true_mean) == (3.0, 5.5)
    assert reliability([instance("1", 0.5, 170.0)]) is None and reliability([]) is None


def test_spearmans_closed_form():
    # Without ties it is 1 − 6 Σd²/(n(n² − 1)), whatever the values are.
    first, second = np.array([1.0, 20.0, 3.0, 4.0, 5.0]), np.array([0.1, 0.3, 0.2, 90.0, 0.25])
    places = np.array([1, 5, 2, 3, 4]) - np.array([1, 4, 2, 5, 3])
    assert rank_correlation(first, second) == pytest.approx(1 - 6 * (places**2).sum() / (5 * 24))
    # Ranks 1½, 1½, 3 against 1, 2, 3.
    assert rank_correlation(np.array([7.0, 7.0, 9.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(3**0.5 / 2)
    assert rank_correlation(np.array([7.0, 7.0]), np.array([1.0, 2.0])) is None
    assert rank_correlation(np.array([7.0]), np.array([1.0])) is None


def test_rules_count_what_lies_below_their_limit():
    found = reliability(results((4.0, 9.9), (4.9, 10.0), (5.0, 1.0), (29.0, 60.0)))
    rules = {rule.below: rule for rule in found.rules}
    assert tuple(rules) == RULES_DEG
    assert rules[3.0] == Rule(3.0, 0.0, None)
    assert rules[5.0] == Rule(5.0, 0.5, 0.5)  # 5 is not below 5, 10 not within 10
    assert rules[7.0] == Rule(7.0, 0.75, pytest.approx(2 / 3))
    assert rules[30.0] == Rule(30.0, 1.0, 0.5)
