"""Rotations as batched torch functions.

Convention: a rotation is R_m2c, X_cam = R X_model + t, an array ``(..., 3, 3)`` whose columns are the model axes in the
camera frame. The 6D representation (Zhou et al., CVPR 2019) holds a and b, from which the columns of R follow as
x = a/|a|, z = (x×b)/|x×b|, y = z×x (METHOD: Bengtson et al. 2022 regress the same two vectors). Quaternions are
(x, y, z, w) with w >= 0, as ROS orders them. Angles are radians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Beyond this cosine acos has an unbounded gradient; the paper's code clamps at the same place.
ACOS_LIMIT = 1.0 - 1e-5
_CROSS_PRODUCTS = torch.tensor([
    [0, 0, 0, 0, 0, -1, 0, 1, 0],
    [0, 0, 1, 0, 0, 0, -1, 0, 0],
    [0, -1, 0, 1, 0, 0, 0, 0, 0],
])  # fmt: skip
"""A vector times this is its cross-product matrix, row by row."""
# How R's entries, row by row, enter 4 q qᵀ − I, row by row, with q = (x, y, z, w).
_QUATERNION_PRODUCTS = torch.tensor([
    [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1],
    [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, -1, 0, 0, -1, 0],
    [0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0],
    [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0],
    [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1],
    [0, 0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 0],
    [0, 0, 1, 0, 0, 0, 0, -1, 1, 0, 0, 0, 0, -1, 0, 0],
    [0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0],
    [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
])  # fmt: skip


def rotation_from_6d(vectors: Tensor) -> Tensor:
    """Turn 6D vectors into rotations by Gram-Schmidt (Zhou et al. 2019, eq. 4).

    A zero first vector is replaced by the x axis and a second vector parallel to the first by the axis least aligned
    with it, so that the result is always a rotation and gradients stay finite. Scriptable by TorchScript.

    Args:
        vectors: ``(..., 6)``, a then b.

    Returns:
        ``(..., 3, 3)`` rotations with columns x, y, z.

    Example:
        >>> rotation_from_6d(torch.tensor([2.0, 0.0, 0.0, 1.0, 3.0, 0.0])).diagonal()
        tensor([1., 1., 1.])
    """
    tiny = 1e-6
    a = vectors[..., 0:3]
    b = vectors[..., 3:6]
    x_axis = torch.zeros_like(a)
    x_axis[..., 0] = 1.0
    a_norm = torch.sqrt((a * a).sum(dim=-1, keepdim=True).clamp(min=1e-24))
    x = torch.where(a_norm > tiny, a / a_norm, x_axis)
    # The coordinate axis least aligned with x can never be parallel to it.
    least = torch.zeros_like(a).scatter(-1, x.abs().argmin(dim=-1, keepdim=True), 1.0)
    cross = torch.cross(x, b, dim=-1)
    b_norm = torch.sqrt((b * b).sum(dim=-1, keepdim=True).clamp(min=1e-24))
    cross_norm = torch.sqrt((cross * cross).sum(dim=-1, keepdim=True).clamp(min=1e-24))
    usable = (cross_norm > tiny * b_norm) & (b_norm > tiny)
    fallback = torch.cross(x, least, dim=-1)
    fallback = fallback / torch.sqrt((fallback * fallback).sum(dim=-1, keepdim=True).clamp(min=1e-24))
    z = torch.where(usable, cross / cross_norm, fallback)
    # Rounding tilts the product of nearly parallel vectors towards x; a second projection removes that.
    z = z - x * (x * z).sum(dim=-1, keepdim=True)
    z = z / torch.sqrt((z * z).sum(dim=-1, keepdim=True).clamp(min=1e-24))
    y = torch.cross(z, x, dim=-1)
    return torch.stack([x, y, z], dim=-1)


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle of the rotation between two rotations, radians, with a clamped acos as in Bengtson et al., 2022.

    Args:
        first: ``(..., 3, 3)``.
        second: ``(..., 3, 3)``, broadcast against ``first``.

    Returns:
        ``(...)`` angles in [0.0045, 3.1371]: the clamp keeps the gradient finite and costs 0.26° at the ends.
        Use ``rotation_angle`` to measure errors.
    """
    cosine = ((first * second).sum(dim=(-2, -1)) - 1.0) * 0.5
    return torch.acos(cosine.clamp(-ACOS_LIMIT, ACOS_LIMIT))


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle between rotations, radians, exact near 0 and to 1e-3 near π in float32 (no gradient guard; for measuring).

    Uses |R1 − R2|_F = 2√2 sin(θ/2).

    Args:
        first: ``(..., 3, 3)``.
        second: ``(..., 3, 3)``, broadcast against ``first``.

    Returns:
        ``(...)`` angles in [0, π].
    """
    chord = (first - second).square().sum(dim=(-2, -1)).sqrt() / (2.0 * math.sqrt(2.0))
    return 2.0 * torch.asin(chord.clamp(max=1.0))


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation of a quaternion (x, y, z, w); the input need not be normalised.

    Args:
        quaternion: ``(..., 4)``, not zero.

    Returns:
        ``(..., 3, 3)``.
    """
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation (Shepperd 1978: the largest component is taken as the pivot).

    Args:
        rotation: ``(..., 3, 3)``.

    Returns:
        ``(..., 4)``.
    """
    # Row p of `candidates` is 4·q_p·(x, y, z, w), stable where component p is large.
    candidates = (rotation.flatten(-2) @ _QUATERNION_PRODUCTS.to(rotation)).unflatten(-1, (4, 4))
    candidates = candidates + torch.eye(4, dtype=rotation.dtype, device=rotation.device)
    pivot = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    chosen = candidates.gather(-2, pivot[..., None, None].expand(*pivot.shape, 1, 4)).squeeze(-2)
    unit = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., 3:] < 0, -unit, unit)


def axis_angle_rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation by ``angle`` about ``axis`` (Rodrigues' formula).

    Args:
        axis: ``(..., 3)``, any non-zero length.
        angle: ``(...)`` radians, broadcast against the axes.

    Returns:
        ``(..., 3, 3)``.
    """
    half = angle[..., None] * 0.5
    vector = axis / axis.norm(dim=-1, keepdim=True) * torch.sin(half)
    return rotation_from_quaternion(torch.cat([vector, torch.cos(half).expand(*vector.shape[:-1], 1)], dim=-1))


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotation by |v| about v: the exponential map (Rodrigues' formula), exact at zero too.

    Args:
        vector: ``(..., 3)`` radians.

    Returns:
        ``(..., 3, 3)``.
    """
    angle = vector.norm(dim=-1, keepdim=True)
    # Of the unit quaternion (u, w), in few operations, for it is called in every step of an alignment: R is
    # (2w² − 1) I + 2 u uᵀ + 2w [u]×. sin(a/2)/a by sinc: no division by zero.
    u, w = 0.5 * torch.sinc(angle / (2.0 * math.pi)) * vector, torch.cos(0.5 * angle)
    cross = (u @ _CROSS_PRODUCTS.to(u)).unflatten(-1, (3, 3))
    w = w[..., None]
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return 2.0 * (u[..., :, None] * u[..., None, :] + w * cross) + (2.0 * w * w - 1.0) * eye


def random_rotations(
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Rotations uniform on SO(3) (Shoemake 1992: a normalised 4D Gaussian is a uniform quaternion).

    Args:
        count: number of rotations.
        generator: source of randomness, on ``device``.
        device: where the result lives.
        dtype: floating-point type.

    Returns:
        ``(count, 3, 3)``.
    """
    gauss = torch.randn(count, 4, generator=generator, device=device, dtype=dtype)
    return rotation_from_quaternion(gauss)
