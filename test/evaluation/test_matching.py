"""Matching and average recalls against a slow reference that takes one threshold at a time."""

import numpy as np
import pytest

from shared_pose_ros.evaluation.matching import ObjectImage, average_recalls, match

THRESHOLDS = np.array([0.1, 0.3, 0.5, 0.8])


def slow_match(errors, scores, threshold, valid, top):
    """Instance that each estimate takes, or -1; errors[estimate][instance]."""
    order = sorted(range(len(scores)), key=lambda e: scores[e], reverse=True)[:top]
    taken, result = [], [-1] * len(scores)
    for estimate in order:
        best, least = -1, threshold
        for instance, error in enumerate(errors[estimate]):
            if valid[instance] and instance not in taken and error < least:
                best, least = instance, error
        if best >= 0:
            taken.append(best)
            result[estimate] = best
    return result


def random_case(seed):
    rng = np.random.default_rng(seed)
    estimates, instances, tolerances = rng.integers(1, 6), rng.integers(1, 5), rng.integers(1, 4)
    # Coarse numbers: many ties of errors, of scores and of errors with thresholds.
    errors = rng.integers(0, 11, (estimates, instances, tolerances)) / 10
    errors[rng.random(errors.shape) < 0.1] = np.inf
    scores = rng.integers(0, 4, estimates) / 4
    return errors, scores, rng.random(instances) < 0.8, int(rng.integers(1, 6))


@pytest.mark.parametrize("seed", range(30))
def test_match_equals_the_slow_reference(seed):
    errors, scores, valid, top = random_case(seed)
    fast = match(errors, scores, THRESHOLDS, valid, top)
    for t in range(errors.shape[2]):
        for k, threshold in enumerate(THRESHOLDS):
            slow = slow_match(errors[:, :, t].tolist(), scores.tolist(), threshold, valid, top)
            assert fast[:, t, k].tolist() == slow


def test_average_recalls_are_means_of_recalls():
    groups, found = [], {1: [], 2: []}
    for seed in range(12):
        errors, scores, valid, top = random_case(seed)
        errors = errors[:, :, :1]
        groups.append(ObjectImage(1 + seed % 2, int(valid.sum()), top, valid, scores, errors))
        found[1 + seed % 2].append(
            [
                sum(
                    taken >= 0 for taken in slow_match(errors[:, :, 0].tolist(), scores.tolist(), threshold, valid, top)
                )
                for threshold in THRESHOLDS
            ]
        )
    targets = {number: sum(g.targets for g in groups if g.object_id == number) for number in (1, 2)}
    hits = {number: np.sum(found[number], axis=0) for number in (1, 2)}
    total, by_object = average_recalls(groups, THRESHOLDS)
    assert total == pytest.approx(np.mean((hits[1] + hits[2]) / sum(targets.values())))
    assert by_object == pytest.approx({number: np.mean(hits[number] / targets[number]) for number in (1, 2)})


def test_without_estimates_targets_are_not_found():
    empty = ObjectImage(4, 2, 2, np.ones(2, dtype=bool), np.zeros(0), np.zeros((0, 2, 3)))
    hit = ObjectImage(5, 1, 1, np.ones(1, dtype=bool), np.ones(1), np.zeros((1, 1, 3)))
    assert average_recalls([empty, hit], THRESHOLDS) == (pytest.approx(1 / 3), {4: 0.0, 5: 1.0})
    assert average_recalls([], THRESHOLDS) == (0.0, {})


def test_an_estimate_cannot_take_two_instances_nor_an_instance_two_estimates():
    errors = np.zeros((3, 2, 1))
    assert match(errors, np.array([0.1, 0.9, 0.5]), np.array([0.5]), np.ones(2, dtype=bool), 3)[:, 0, 0].tolist() == [
        -1,
        0,
        1,
    ]
    assert match(errors, np.array([0.1, 0.9, 0.5]), np.array([0.5]), np.ones(2, dtype=bool), 1)[:, 0, 0].tolist() == [
        -1,
        0,
        -1,
    ]
    assert match(errors[:, :0], np.ones(3), np.array([0.5]), np.ones(0, dtype=bool), 3).tolist() == [[[-1]]] * 3


def test_an_error_at_the_threshold_is_not_correct():
    one = np.ones(1, dtype=bool)
    assert match(np.full((1, 1, 1), 0.3), np.ones(1), np.array([0.3, 0.31]), one, 1)[0, 0].tolist() == [-1, 0]
