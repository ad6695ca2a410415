"""Does confidence mean correctness? Reliability by bins, expected calibration error, what a threshold would keep.

Convention: an answer is correct if its symmetric rotation error is below 15°; confidences and shares in 0…1.
Instances that a detector missed have no answer and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_pose_ros.evaluation.instance_scoring import InstanceResult
from shared_pose_ros.report.residual_rotations import CORRECT_DEG

BINS = 10
SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class ConfidenceBin:
    """Instances whose confidence lies in low ≤ c < high (the last bin holds 1 too).

    Attributes:
        low: lower edge.
        high: upper edge.
        instances: how many; bins without any are left out.
        confidence: their mean confidence.
        correct: share of correct answers.
    """

    low: float
    high: float
    instances: int
    confidence: float
    correct: float


@dataclass(frozen=True)
class Acceptance:
    """What is left if only the most confident answers are used.

    Attributes:
        threshold: the least confidence among those kept.
        kept: share of the instances kept: at least what was asked for, more where confidences are equal.
        correct: share of correct answers among them.
        correct_kept: share of all correct answers that is kept; NaN if none is correct.
    """

    threshold: float
    kept: float
    correct: float
    correct_kept: float


def confidence_bins(results: Sequence[InstanceResult]) -> list[ConfidenceBin]:
    """``BINS`` of equal width, those that hold an instance, by rising confidence."""
    confidence, correct = _arrays(results)
    index = np.minimum((confidence * BINS + 1e-9).astype(int), BINS - 1)
    found = []
    for number in np.unique(index).tolist():
        chosen = index == number
        means = float(confidence[chosen].mean()), float(correct[chosen].mean())
        found.append(ConfidenceBin(number / BINS, (number + 1) / BINS, int(chosen.sum()), *means))
    return found


def calibration_error(results: Sequence[InstanceResult]) -> float:
    """Expected calibration error Σ n_b/N |correct_b − confidence_b| (Guo et al., ICML 2017, eq. 3); NaN of nothing."""
    found = confidence_bins(results)
    total = sum(b.instances for b in found)
    return sum(b.instances * abs(b.correct - b.confidence) for b in found) / total if total else math.nan


def acceptances(results: Sequence[InstanceResult], shares: Sequence[float] = SHARES) -> list[Acceptance]:
    """What keeping the most confident ``shares`` (falling) gives: an entry a threshold, none of no results."""
    confidence, correct = _arrays(results)
    falling = np.sort(confidence)[::-1]
    found: list[Acceptance] = []
    for share in shares if len(falling) else ():
        threshold = float(falling[max(math.ceil(share * len(falling)), 1) - 1])
        if found and found[-1].threshold == threshold:
            continue
        kept = confidence >= threshold
        of_correct = float(kept[correct].mean()) if correct.any() else math.nan
        found.append(Acceptance(threshold, float(kept.mean()), float(correct[kept].mean()), of_correct))
    return found


def _arrays(results: Sequence[InstanceResult]) -> tuple[np.ndarray, np.ndarray]:
    answers = [(result.confidence, result.rotation_deg < CORRECT_DEG) for result in results if result.detected]
    confidence, correct = zip(*answers) if answers else ((), ())
    return np.array(confidence, dtype=np.float64), np.array(correct, dtype=bool)
