"""Which of the poses that a symmetric object cannot be told apart in is nearest to a reference, by rotation.

Convention: metres, CAD frame; a symmetry S = (S_R, s) maps the surface onto itself, X' = S X, so the pose (R, t) shows
the same as (R S_R, t + R s). Symmetries come as ``meshes.symmetries.Symmetries.to_dict`` writes them. float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_PARALLEL = 1e-6
# Equally near members must not take turns with the last digit of a rotation: the earlier one in the list wins.
_TIE = 1e-9


@dataclass(frozen=True)
class SymmetryTable:
    """The symmetry groups of k objects as arrays of one size.

    Attributes:
        members: discrete symmetries ``(k, D, 4, 4)``, the identity first and wherever an object has fewer.
        axes: unit axis of the continuous symmetry ``(k, 3)``, zero without one.
        points: a point on that axis, or the point about which every rotation is a symmetry, ``(k, 3)``.
        free: ``(k,)`` bool, every rotation is a symmetry: two continuous axes that are not parallel generate them all.
    """

    members: Tensor
    axes: Tensor
    points: Tensor
    free: Tensor

    @classmethod
    def from_dicts(cls, symmetries: Sequence[Mapping[str, Any]]) -> SymmetryTable:
        """Of the objects' symmetries; an empty mapping is an object without any. Matrices are made orthonormal."""
        discrete = [
            torch.tensor(entry.get("discrete", []), dtype=torch.float64).reshape(-1, 16) for entry in symmetries
        ]
        width = 1 + max((len(matrices) for matrices in discrete), default=0)
        members = torch.eye(4, dtype=torch.float64).repeat(len(discrete), width, 1, 1)
        for row, matrices in zip(members, discrete):
            row[1 : 1 + len(matrices)] = matrices.reshape(-1, 4, 4)
        u, _, vt = torch.linalg.svd(members[..., :3, :3])
        members[..., :3, :3] = u @ vt
        continuous = [_continuous(entry.get("continuous", [])) for entry in symmetries]
        axes = torch.stack([axis for axis, _, _ in continuous]) if continuous else torch.zeros(0, 3).double()
        points = torch.stack([point for _, point, _ in continuous]) if continuous else torch.zeros(0, 3).double()
        return cls(members, axes, points, torch.tensor([free for _, _, free in continuous], dtype=torch.bool))

    def take(self, index: Tensor) -> SymmetryTable:
        """The groups of the objects ``index (B,)``."""
        return SymmetryTable(self.members[index], self.axes[index], self.points[index], self.free[index])


def _continuous(entries: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor, bool]:
    """Axis, point, and whether the axes generate every rotation (then the point is the one nearest to all axes)."""
    if not entries:
        return torch.zeros(3).double(), torch.zeros(3).double(), False
    axes = torch.tensor([entry["axis"] for entry in entries], dtype=torch.float64)
    axes = axes / axes.norm(dim=1, keepdim=True)
    points = torch.tensor([entry["offset"] for entry in entries], dtype=torch.float64)
    if not (torch.linalg.cross(axes[:1].expand_as(axes), axes).norm(dim=1) > _PARALLEL).any():
        return axes[0], points[0], False
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    return axes[0], torch.linalg.solve(across.sum(0), (across @ points[:, :, None]).sum(0))[:, 0], True


def nearest_symmetry(relative: Tensor, table: SymmetryTable) -> Tensor:
    """The symmetry S that brings each rotation R nearest to its reference, the smallest angle from R S_R to it; exact.

    With N = R_refᵀ R the angle is smallest where tr(N S_R) is greatest. S = C(θ) D with D a discrete member and C the
    rotation about the axis u: tr(M C(θ)) = a cos θ + b sin θ + uᵀMu for M = D N, a = tr M − uᵀMu, b = tr([u]ₓ M),
    greatest at θ = atan2(b, a) with uᵀMu + √(a² + b²) (Rodrigues' formula). Where the axis points away from
    the reference's, a = b = 0: every rotation about it is as near, and a small change of R changes θ much.

    Args:
        relative: N ``(B, P, 3, 3)``, any float type.
        table: of the B objects.

    Returns:
        ``(B, P, 4, 4)`` float64 motions in the CAD frame: the equivalent pose is (R S_R, t + R s).
    """
    n = relative.double()
    about_axis, chosen = _axis_rotation_and_member(n, table)
    found = _about(about_axis, table.points) @ chosen
    return torch.where(table.free[:, None, None, None], _about(n.mT, table.points), found)


def nearest_equivalents(first: Tensor, second: Tensor, table: SymmetryTable) -> Tensor:
    """Of each rotation of the second the equivalent one nearest to each of the first.

    Args:
        first: ``(B, a, 3, 3)``, float64.
        second: ``(B, b, 3, 3)``, float64.
        table: of the B objects.

    Returns:
        ``(B, a, b, 3, 3)``.
    """
    relative = first.mT[:, :, None] @ second[:, None]
    n = relative.flatten(1, 2)
    about_axis, chosen = _axis_rotation_and_member(n, table)
    symmetries = torch.where(table.free[:, None, None, None], n.mT, about_axis @ chosen[..., :3, :3])
    return second[:, None] @ symmetries.reshape_as(relative)


def _axis_rotation_and_member(n: Tensor, table: SymmetryTable) -> tuple[Tensor, Tensor]:
    """C(θ) ``(B, P, 3, 3)`` and D ``(B, P, 4, 4)`` of ``nearest_symmetry``, for objects that are not free."""
    u, members = table.axes, table.members[..., :3, :3]
    x, y, z = u.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).reshape(-1, 1, 3, 3)
    has_axis = (u != 0).any(dim=1)[:, None, None]
    # tr(D N) is the product of D, row by row, and N, column by column; all (B, D, P).
    columns = n.mT.flatten(2).mT
    trace = members.flatten(2) @ columns
    along = (u[:, None, None] @ members)[:, :, 0] @ (n @ u[:, None, :, None])[..., 0].mT
    a, b = trace - along, (cross @ members).flatten(2) @ columns
    size = torch.hypot(a, b)
    nearness = torch.where(has_axis, along + size, trace) - _TIE * torch.arange(members.shape[1])[:, None]
    best = nearness.argmax(dim=1, keepdim=True)
    a, b, size = (values.gather(1, best)[:, 0, :, None, None] for values in (a, b, size))
    rotates = has_axis[..., None] & (size > 0.0)
    cosine, sine = torch.where(rotates, a / size, 1.0), torch.where(rotates, b / size, 0.0)
    axis = (u[:, :, None] * u[:, None])[:, None]
    # Without an axis the identity: u is zero, the cosine one.
    about_axis = axis + cosine * (torch.eye(3, dtype=torch.float64) - axis) + sine * cross
    return about_axis, table.members[torch.arange(len(u))[:, None], best[:, 0]]


def _about(rotations: Tensor, points: Tensor) -> Tensor:
    """Motions ``(B, P, 4, 4)`` that rotate by ``rotations (B, P, 3, 3)`` about ``points (B, 3)``."""
    motions = torch.zeros(*rotations.shape[:2], 4, 4, dtype=torch.float64)
    motions[..., :3, :3] = rotations
    motions[..., :3, 3] = points[:, None] - (rotations @ points[:, None, :, None])[..., 0]
    motions[..., 3, 3] = 1.0
    return motions
