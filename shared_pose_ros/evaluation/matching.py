"""From errors of estimate–instance pairs to average recalls, matched as the BOP benchmark does.

Rules (Hodan et al., ECCVW 2020; public bop_toolkit, pose_matching.py and score.py): of an object in an image the N
estimates with the highest scores count, N being the number of instances to find. In the order of their scores each
takes, of the instances not yet taken, the one with the smallest error below the threshold. Recall is the share of
instances to find that were taken; it is computed for every threshold by itself and then averaged.

All functions take numpy arrays and treat all thresholds at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ObjectImage:
    """The estimates of one object in one image and their errors with respect to its instances there.

    Attributes:
        object_id: object.
        targets: number of instances to find.
        top: number of estimates that count.
        valid: which of the G instances may be found ``(G,)`` bool.
        scores: of the E estimates ``(E,)``.
        errors: ``(E, G, T)`` of T tolerances; T is 1 for errors without a tolerance.
    """

    object_id: int
    targets: int
    top: int
    valid: np.ndarray
    scores: np.ndarray
    errors: np.ndarray


def match(errors: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, valid: np.ndarray, top: int) -> np.ndarray:
    """Match estimates to instances greedily, for every tolerance and threshold by itself.

    Args:
        errors: ``(E, G, T)``.
        scores: ``(E,)``; of equal scores the earlier estimate comes first.
        thresholds: ``(K,)``; an error below it is correct.
        valid: instances that may be taken ``(G,)`` bool.
        top: number of estimates that count, those with the highest scores.

    Returns:
        The instance that each estimate takes ``(E, T, K)`` int64, −1 for none.
    """
    estimates, instances, tolerances = errors.shape
    taken = np.full((estimates, tolerances, len(thresholds)), -1, dtype=np.int64)
    if instances == 0:
        return taken
    free = np.broadcast_to(valid[:, None, None], (instances, tolerances, len(thresholds))).copy()
    for estimate in np.argsort(-scores, kind="stable")[:top]:
        error = errors[estimate][:, :, None]
        candidate = np.where(free & (error < thresholds), error, np.inf)
        best = candidate.argmin(axis=0)
        found = np.isfinite(np.take_along_axis(candidate, best[None], axis=0)[0])
        taken[estimate] = np.where(found, best, -1)
        tolerance, threshold = found.nonzero()
        free[best[found], tolerance, threshold] = False
    return taken


def average_recalls(groups: Sequence[ObjectImage], thresholds: np.ndarray) -> tuple[float, dict[int, float]]:
    """Recall averaged over tolerances and thresholds: of all targets together, and of each object's.

    Args:
        groups: one for each object and image that has targets, with or without estimates.
        thresholds: ``(K,)``.

    Returns:
        Average recall over all targets (the benchmark's), and by object; 0 where there are no targets.
    """
    found: dict[int, float] = {}
    targets: dict[int, int] = {}
    for group in groups:
        taken = match(group.errors, group.scores, thresholds, group.valid, group.top) >= 0
        # One number: every tolerance and threshold has the same targets, so the mean of recalls is a recall of means.
        hits = taken.sum(axis=0).mean() if taken.size else 0.0
        found[group.object_id] = found.get(group.object_id, 0.0) + float(hits)
        targets[group.object_id] = targets.get(group.object_id, 0) + group.targets
    total = sum(targets.values())
    by_object = {number: found[number] / targets[number] if targets[number] else 0.0 for number in sorted(targets)}
    return (sum(found.values()) / total if total else 0.0), by_object
