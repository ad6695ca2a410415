"""Rotation test-time augmentation: a crop in its four quarter rotations, the hypotheses of all four merged. Scriptable.

An object on the optical axis that rotates about it by a quarter gives the same crop rotated by a quarter, exactly: no
pixel is interpolated. The network answers each of the four a little differently; where they agree is a better answer
than any one of them. Convention: R_m2c, camera x right, y down, z forward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.geometry.rotations import rotation_from_6d


def quarter_rotations(crops: Tensor) -> Tensor:
    """Crops ``(B, 3, S, S)`` and their three quarter rotations, ``(4·B, 3, S, S)``, rotation by rotation."""
    return torch.cat([torch.rot90(crops, count, [2, 3]) for count in range(4)])


def rotate_back(rotations: Tensor) -> Tensor:
    """Rotations ``(4·B, n, 3, 3)`` found in ``quarter_rotations(crops)`` as of upright crops, ``(B, 4·n, 3, 3)``."""
    batch, n = rotations.shape[0] // 4, rotations.shape[1]
    x, y, z = rotations.reshape(4, batch, n, 3, 3).unbind(dim=3)
    upright = [
        torch.stack([x[0], y[0], z[0]], dim=2),
        torch.stack([-y[1], x[1], z[1]], dim=2),
        torch.stack([-x[2], -y[2], z[2]], dim=2),
        torch.stack([y[3], -x[3], z[3]], dim=2),
    ]
    return torch.cat(upright, dim=1)


def merge_hypotheses(rotations: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The places on SO(3) where weighted hypotheses gather, by subtractive clustering (Chiu 1994).

    With the kernel k_ij = exp(−d_ij²/2a²), d = |R_i − R_j|_F/√2 ≈ the angle between them: take the hypothesis with the
    greatest density Σ_j w_j·k_ij; the place is the mean of all, weighted by w_j·k_ij, its confidence the sum of these;
    what it explains is taken from the weights, w_j·(1 − k_ij); and so on.

    Args:
        rotations: ``(B, m, 3, 3)``.
        weights: ``(B, m)``, not negative.
        count: number of places.

    Returns:
        ``(B, count, 3, 3)`` rotations and ``(B, count)`` confidences that sum to 1, greatest first.
    """
    # Width of the kernel, radians: flat over the network's own scatter, small at 60°.
    width = 0.5
    squared = (rotations[:, :, None] - rotations[:, None, :]).square().sum(dim=(-2, -1)) / 2.0
    kernel = torch.exp(-squared / (2.0 * width * width))
    columns = rotations[:, :, :, :2].transpose(2, 3).flatten(2)  # (B, m, 6): x, then y
    means: list[Tensor] = []
    confidences: list[Tensor] = []
    for _ in range(count):
        best = torch.bmm(kernel, weights[:, :, None]).squeeze(2).argmax(dim=1)
        near = kernel.gather(1, best[:, None, None].expand(-1, 1, kernel.shape[2])).squeeze(1)
        share = weights * near
        means.append(torch.bmm(share[:, None, :], columns).squeeze(1))
        confidences.append(share.sum(dim=1))
        weights = weights * (1.0 - near)
    confidence = torch.stack(confidences, dim=1)
    confidence, order = torch.sort(confidence / confidence.sum(dim=1, keepdim=True), dim=1, descending=True)
    found = rotation_from_6d(torch.stack(means, dim=1))
    return found.gather(1, order[:, :, None, None].expand_as(found)), confidence
