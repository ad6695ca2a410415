"""How uncertain an orientation is, from the spread of its weighted hypotheses.

Convention: R_m2c; rotation vectors (axis times angle, radians) about the camera's fixed x, y, z axes, as in
geometry_msgs/PoseWithCovariance. float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_equivalents
from shared_pose_ros.geometry.rotations import quaternion_from_rotation

ANGLE_VARIANCE = math.pi**2 / 3.0
"""Of an angle that is uniform on −π…π, rad²."""
FREE_VARIANCE = math.pi**2 / 9.0 + 2.0 / 3.0
"""Of each component of the rotation vector of a uniform rotation, rad²: a third of ∫θ²(1 − cos θ)/π over 0…π."""
MEDIAN_ANGLE = 1.5382
"""Median length of three normal numbers of deviation 1 (the root of the χ² distribution's median, 2.366)."""


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle of rotations, the logarithm of SO(3); stable at 0 and at π (there the axis' sign is either).

    From the quaternion (v, w), w ≥ 0: v · 2 atan2(|v|, w) / |v|.

    Args:
        rotation: ``(..., 3, 3)``.

    Returns:
        ``(..., 3)`` radians, float64, of length 0…π.
    """
    quaternion = quaternion_from_rotation(rotation.double())
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    length = vector.norm(dim=-1, keepdim=True)
    # The limit of 2 atan2(|v|, w)/|v| at 0 is 2.
    factor = torch.where(length > 1e-12, 2.0 * torch.atan2(length, w) / length.clamp(min=1e-12), 2.0)
    return vector * factor


def orientation_covariance(
    rotations: Tensor, confidences: Tensor, deviation: Tensor, symmetries: SymmetryTable
) -> Tensor:
    """Covariance of each hypothesis' orientation: its error if the truth lies near hypothesis j with confidence p_j.

    Σ_i = Σ_j p_j v_ij v_ijᵀ + σ² I, the second moment of a Gaussian mixture about one of its means (the "spread of the
    means", Bar-Shalom, Li and Kirubarajan 2001, 1.4.16). v_ij is the rotation vector of R_j S R_iᵀ with S the symmetry
    that makes it shortest, so that hypotheses that are the same pose of a symmetric object add nothing.

    The rotation about the axis a = R_i u of a continuous symmetry cannot be known: Σ_i becomes P Σ_i P + π²/3 a aᵀ with
    P = I − a aᵀ, a uniform angle. Where every rotation is a symmetry, Σ_i is that of a uniform rotation.

    Args:
        rotations: ``(B, n, 3, 3)``.
        confidences: ``(B, n)``, not negative, of any sum greater than 0.
        deviation: σ ``(B,)`` of one component of a hypothesis' own error, radians.
        symmetries: of the B objects.

    Returns:
        ``(B, n, 3, 3)`` rad², symmetric, positive definite where σ > 0.
    """
    r, p = rotations.double(), confidences.double()
    identity = torch.eye(3, dtype=torch.float64)
    apart = nearest_equivalents(r, r, symmetries) @ r.mT[:, :, None]
    vectors = rotation_vector(apart) * (p / p.sum(dim=1, keepdim=True)).sqrt()[:, None, :, None]
    covariance = vectors.mT @ vectors + deviation.double().square()[:, None, None, None] * identity
    axis = (r @ symmetries.axes[:, None, :, None])[..., 0]
    along = axis[..., :, None] * axis[..., None, :]
    # Without an axis `along` is zero and this changes nothing.
    across = identity - along
    covariance = across @ covariance @ across + ANGLE_VARIANCE * along
    covariance = torch.where(symmetries.free[:, None, None, None], FREE_VARIANCE * identity, covariance)
    return (covariance + covariance.mT) / 2.0
