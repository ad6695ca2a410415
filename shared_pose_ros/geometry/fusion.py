"""The hypotheses of successive frames of one object, fused: a recursive Bayes filter over densities on SO(3).

Convention: R_m2c, float64, batched over B objects with n hypotheses each. The new frame has rotations R_i with
confidences p_i, the frames before it P_j with q_j. Distances are taken between equivalent poses (``equivalents``), so
that hypotheses that show a symmetric object alike support each other.

Both are densities, of the shape that the network is trained with (``training.losses.mixture_losses``), on a floor ε
for everything that no hypothesis names:

    m(R) = ε + Σ_i p_i k(R, R_i)    f(R) = ε + Σ_j q_j k(R, P_j)    k = exp(−κ d), d = |R − R_i|_F/√2 = 2 sin(θ/2)

Bayes' rule with a prior that is flattened by an exponent s, 0 < s < 1, the exponential forgetting of Kulhavý and
Zarrop (1993): fused(R) ∝ m(R) f(R)^s. It weighs a frame by s^age, and the new one most. There is no motion model: what
moves in the camera's frame is met with the pose that it had.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_equivalents

CONCENTRATION = 5.0
"""κ, 1/radian: half the density at 8°. Frames err alike, so it is not sharpened where they agree."""
FLOOR = 0.05
"""ε, of a certain hypothesis' peak."""
LEAST_AGREEMENT = 0.05
"""Below this the new frame contradicts the old ones; how often it does: docs/explanation/temporal-filtering.md."""


def fuse(
    earlier: Tensor, earlier_confidences: Tensor, rotations: Tensor, confidences: Tensor, forgetting: float,
    symmetries: SymmetryTable,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Fuse what was known with the hypotheses of a new frame.

    m f^s is evaluated by importance sampling (Doucet, de Freitas, Gordon 2001, ch. 1): the samples are all 2n
    hypotheses, of weight p_i and s q_j, as from (m + s f)/(1 + s), each weighed by m f^s/(m + s f). ``gather`` makes n
    hypotheses of them. Where the agreement

        a = Σ_ij p_i k(R_i, P_j) q_j / Σ_ii' p_i k(R_i, R_i') p_i'

    is below ``LEAST_AGREEMENT`` (1: the same density; the likelihood of the new frame under the old ones, in relation
    to its own: an innovation gate), the new frame is taken as it is.

    Args:
        earlier: P ``(B, n, 3, 3)``.
        earlier_confidences: q ``(B, n)``, rows sum to 1.
        rotations: R ``(B, n, 3, 3)``.
        confidences: p ``(B, n)``, not negative, rows of a sum greater than 0.
        forgetting: s, 0 (earlier frames count nothing: the new one as it is) up to 1.
        symmetries: of the B objects.

    Returns:
        Rotations ``(B, n, 3, 3)`` and confidences ``(B, n)`` that sum to 1, greatest first, and the agreement ``(B,)``.
    """
    if not 0.0 <= forgetting < 1.0:
        raise ValueError(f"forgetting is {forgetting}; give 0 (no memory) or more and less than 1")
    r, p = rotations.double(), confidences.double()
    p, n = p / p.sum(dim=1, keepdim=True), rotations.shape[1]
    both = torch.cat([r, earlier], dim=1)
    near = nearest_equivalents(both, both, symmetries)
    kernel = _kernel(both, near)
    by_new = (kernel[:, :, :n] * p[:, None]).sum(dim=2)
    by_old = (kernel[:, :, n:] * earlier_confidences[:, None]).sum(dim=2)
    agreement = (p * by_old[:, :n]).sum(dim=1) / (p * by_new[:, :n]).sum(dim=1)
    if forgetting == 0.0:
        return r, p, agreement
    m, f = by_new + FLOOR, by_old + FLOOR
    weights = torch.cat([p, forgetting * earlier_confidences], dim=1) * m * f**forgetting / (m + forgetting * f)
    places, shares = gather(near, kernel, weights, n)
    contradicted = agreement < LEAST_AGREEMENT
    return (
        torch.where(contradicted[:, None, None, None], r, places),
        torch.where(contradicted[:, None], p, shares),
        agreement,
    )


def gather(near: Tensor, kernel: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The places where weighted rotations gather, by subtractive clustering.

    As ``network.test_time_augmentation.merge_hypotheses`` does it.

    Here a place is the chordal mean of its members (Hartley et al. 2013, 5.3), each in the equivalent pose that is
    nearest to the densest one.

    Args:
        near: ``(B, m, m, 3, 3)``, of the second the equivalent rotation nearest to the first.
        kernel: their likeness ``(B, m, m)``, 0…1.
        weights: ``(B, m)``, not negative, rows of a sum greater than 0.
        count: number of places.

    Returns:
        ``(B, count, 3, 3)`` rotations and ``(B, count)`` confidences that sum to 1, greatest first.
    """
    objects = torch.arange(len(weights))
    sums, shares = [], []
    for _ in range(count):
        seed = (kernel * weights[:, None]).sum(dim=2).argmax(dim=1)
        likeness = kernel[objects, seed]
        share = weights * likeness
        # With no weight left the place is the seed itself.
        kept = near[objects, seed, seed] * 1e-12
        sums.append((share[:, :, None, None] * near[objects, seed]).sum(dim=1) + kept)
        shares.append(share.sum(dim=1))
        weights = weights * (1.0 - likeness)
    u, _, vt = torch.linalg.svd(torch.stack(sums, dim=1))
    handedness = torch.ones(*u.shape[:-1], dtype=u.dtype)
    handedness[..., 2] = torch.linalg.det(u @ vt)
    places = (u * handedness[..., None, :]) @ vt
    confidences, order = torch.sort(torch.stack(shares, dim=1), dim=1, descending=True, stable=True)
    places = places.gather(1, order[:, :, None, None].expand_as(places))
    return places, confidences / confidences.sum(dim=1, keepdim=True)


def _kernel(rotations: Tensor, near: Tensor) -> Tensor:
    """Likeness k of each rotation ``(B, m, 3, 3)`` and the equivalents ``(B, m, m, 3, 3)`` nearest to it."""
    distance = (rotations[:, :, None] - near).square().sum(dim=(-2, -1)).sqrt() / math.sqrt(2.0)
    return torch.exp(-CONCENTRATION * distance)
