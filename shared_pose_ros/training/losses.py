"""The losses: the paper's multi-hypothesis depth loss, and the mixture losses that start training from scratch.

The paper is Bengtson et al., SITIS 2022. Convention: rotations R_m2c ``(B, n, 3, 3)``, depth in normalised mesh units
(half the largest extent is 100), the paper's loss camera (field of view 15°, object at (0, 0, 1000)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared_pose_ros.geometry.cameras import camera_matrix
from shared_pose_ros.geometry.rotations import geodesic_distance
from shared_pose_ros.rendering.depth import render_depth
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer

LOSS_DISTANCE = 1000.0
LOSS_FIELD_OF_VIEW = math.radians(15.0)
DIVERSITY_LIMIT = math.radians(40.0)


def loss_camera(size: int) -> Tensor:
    """K ``(3, 3)`` of the loss renders: 15° across ``size`` pixels (f = 243.06 at 64), centred."""
    focal = size / 2 / math.tan(LOSS_FIELD_OF_VIEW / 2)
    return camera_matrix(focal, focal, (size - 1) / 2, (size - 1) / 2)


def hypothesis_depth_losses(truth: Tensor, hypotheses: Tensor, d_max: float) -> Tensor:
    """l_i of the paper's depth loss: mean clipped depth difference over the union of the two silhouettes.

    Args:
        truth: ``(B, H, W)`` depth, 0 at background.
        hypotheses: ``(B, n, H, W)`` depth, 0 at background.
        d_max: clip in mesh units; a pixel in one silhouette only counts 1.

    Returns:
        ``(B, n)`` in [0, 1]. (The IROS code divided by all pixels; the paper's text, and this, by the union.)
    """
    seen, guessed = truth[:, None] > 0, hypotheses > 0
    both = seen & guessed
    difference = (hypotheses - truth[:, None]).abs().clamp(max=d_max) / d_max
    only_one = (seen ^ guessed).sum(dim=(-2, -1))
    union = (seen | guessed).sum(dim=(-2, -1)).clamp(min=1)
    return (torch.where(both, difference, 0.0).sum(dim=(-2, -1)) + only_one) / union


def depth_loss(losses: Tensor, confidences: Tensor, gamma: float) -> Tensor:
    """L_d of the paper: Σ_i (w_i·l_i + γ·l_i)/2, confidences not detached.

    Args:
        losses: ``(B, n)``.
        confidences: ``(B, n)``, rows sum to 1.
        gamma: weight that keeps unlikely hypotheses learning.

    Returns:
        ``(B,)``.
    """
    return ((confidences + gamma) * losses).sum(dim=1) / 2


def diversity_loss(rotations: Tensor) -> Tensor:
    """L_pose of the paper: mean over pairs of 1 − min(θ_ij, 40°)/40°, which keeps hypotheses apart.

    Args:
        rotations: ``(B, n, 3, 3)``.

    Returns:
        ``(B,)``, zero when n = 1.
    """
    n = rotations.shape[1]
    if n < 2:
        return rotations.new_zeros(rotations.shape[0])
    i, j = torch.triu_indices(n, n, offset=1, device=rotations.device)
    angle = geodesic_distance(rotations[:, i], rotations[:, j])
    return (1 - angle.clamp(max=DIVERSITY_LIMIT) / DIVERSITY_LIMIT).mean(dim=1)


def mixture_losses(rotations: Tensor, logits: Tensor, truth: Tensor, concentration: float) -> tuple[Tensor, Tensor]:
    """Warm-up losses: likelihood of a mixture on SO(3), and cross-entropy of the confidences against its shares.

    Every hypothesis is the mode of a density ∝ exp(−κ d), d = |R_i − R|_F/√2 = 2 sin(θ/2): nearly a Laplace density of
    the angle θ, so that a small error still pulls with full force and a far mode does not outweigh it. The likelihood
    is −(1/κ)·log Σ w_i·exp(−κ d_i). The soft assignment is what the depth loss lacks far from a solution: a gradient
    that does not need overlap, symmetric objects included, since modes may share the equivalent poses.

    The likelihood weighs confidences by 1/κ, so little once κ is large. The cross-entropy −Σ s_i·log w_i with the
    hypotheses' shares of the truth, s = softmax(−κ d), detached, keeps them learning.

    Args:
        rotations: ``(B, n, 3, 3)``.
        logits: ``(B, n)``.
        truth: ``(B, 3, 3)``.
        concentration: κ > 0, 1/radian; small blurs the assignment over hypotheses, large is winner-take-all.

    Returns:
        Likelihood term, 0 for a certain and exact prediction, 2 for one rotated by 180°, and cross-entropy, ``(B,)``.
    """
    # The constant keeps the root's gradient finite at an exact hit; it adds 0.4° there.
    distance = torch.sqrt((rotations - truth[:, None]).square().sum(dim=(-2, -1)) / 2 + 5e-5)
    log_weights = torch.log_softmax(logits, dim=1)
    likelihood = -torch.logsumexp(log_weights - concentration * distance, dim=1) / concentration
    share = torch.softmax(-concentration * distance.detach(), dim=1)
    return likelihood, -(share * log_weights).sum(dim=1)


def render_hypotheses(
    meshes: PackedMeshes, object_index: Tensor, rotations: Tensor, size: int, rasterizer: Rasterizer
) -> Tensor:
    """Depth of every hypothesis under the loss camera, differentiable in the rotations; one launch.

    Args:
        meshes: normalised meshes.
        object_index: ``(B,)``.
        rotations: ``(B, n, 3, 3)``.
        size: side of the renders, pixels.
        rasterizer: the backend.

    Returns:
        ``(B, n, size, size)``.
    """
    batch, n = rotations.shape[:2]
    translation = rotations.new_tensor([0.0, 0.0, LOSS_DISTANCE]).expand(batch * n, 3)
    depth = render_depth(
        meshes,
        object_index.repeat_interleave(n),
        rotations.reshape(-1, 3, 3),
        translation,
        loss_camera(size).to(rotations.device),
        (size, size),
        rasterizer,
    )
    return depth.reshape(batch, n, size, size)
