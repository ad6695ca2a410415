"""What the refiner learns: to rotate a hypothesis to the nearest equivalent truth, and its error before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.training.config import RefinerConfig
from shared_pose_ros.training.objective import LossTerms

# Under the root: keeps the gradient finite where a rotation is exact, and is 0.06° there.
_CHORD_EPSILON = 1e-6


@dataclass(frozen=True)
class RefinerErrors:
    """Angles in radians, ``(H,)``: of each hypothesis, and of what the refiner made of it."""

    before: Tensor
    after: Tensor


def chordal_distance(first: Tensor, second: Tensor) -> Tensor:
    """|R1 − R2|_F / √2 = 2 sin(θ/2), ``(...)`` of rotations ``(..., 3, 3)``: the angle θ for small ones."""
    return ((first - second).square().sum(dim=(-2, -1)) / 2 + _CHORD_EPSILON).sqrt()


def laplace_likelihood(log_scale: Tensor, error: Tensor) -> Tensor:
    """Negative logarithm of Laplace's density of an error of scale b, without its constant: log b + error / b.

    It is smallest where b is the mean error, so b is an expected error.

    Args:
        log_scale: log b, ``(H,)``.
        error: at least 0, ``(H,)``.
    """
    return log_scale + error * torch.exp(-log_scale)


def refiner_losses(
    refined: Tensor, log_errors: Tensor, nearest_truth: Tensor, errors: RefinerErrors, config: RefinerConfig
) -> LossTerms:
    """The loss of H hypotheses.

    Args:
        refined: ``(H, 3, 3)``, increments times hypotheses.
        log_errors: ``(H, 2)``, expected before and after, see ``PoseRefiner``.
        nearest_truth: ``(H, 3, 3)``, of the hypotheses as they were.
        errors: the true ones, without graph.
        config: weights, and within which error an increment is learnt: where the object is upside down, no increment
            leads out, and which way is the shortest is chance.

    Returns:
        Terms ``increment``, ``before`` and ``after``.
    """
    near = (errors.before < math.radians(config.within)).float()
    increment = (chordal_distance(refined, nearest_truth) * near).sum() / near.sum().clamp(min=1.0)
    before = laplace_likelihood(log_errors[:, 0], errors.before).mean()
    after = laplace_likelihood(log_errors[:, 1], errors.after).mean()
    total = config.increment_weight * increment + config.before_weight * before + config.after_weight * after
    parts = {"increment": increment.detach(), "before": before.detach(), "after": after.detach()}
    return LossTerms(total, parts)


def rotation_errors(
    hypotheses: Tensor, nearest_truth: Tensor, refined: Tensor, nearest_refined: Tensor
) -> RefinerErrors:
    """Angles to the equivalent truths that are nearest to hypotheses and to refined ones; all ``(H, 3, 3)``."""
    return RefinerErrors(rotation_angle(hypotheses, nearest_truth), rotation_angle(refined.detach(), nearest_refined))
