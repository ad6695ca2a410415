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

from shared_pose_ros.geometry.rotations import axis_angle_rotation

_PARALLEL = 1e-6
# Equally near members must not take turns with the last digit of a rotation: the earlier one in the list wins.
_TIE = 1e-9


@dataclass(frozen=True)
class SymmetryTable:
    """The symmetry groups of k objects as arrays of one size.

    Attributes:
        members: discrete symmetries ``(k, D, 4, 4)``, the identity first and wherever an object has fewer.
        axes: unit axis of the continuous symmetry ``(k, 3)``, zero without one.
        points: a point on that axis, or the point about which every turn is a symmetry, ``(k, 3)``.
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
    turn about the axis u: tr(M C(θ)) = a cos θ + b sin θ + uᵀMu for M = D N, a = tr M − uᵀMu, b = tr([u]ₓ M), greatest
    at θ = atan2(b, a) with uᵀMu + √(a² + b²) (Rodrigues' formula). Where the axis points away from the reference's,
    a = b = 0: every turn is as near, and a small change of R changes θ much.

    Args:
        relative: N ``(B, P, 3, 3)``, any float type.
        table: of the B objects.

    Returns:
        ``(B, P, 4, 4)`` float64 motions in the CAD frame: the equivalent pose is (R S_R, t + R s).
    """
    n, members = relative.double(), table.members[..., :3, :3]
    u, has_axis = table.axes, (table.axes != 0).any(dim=1)
    x, y, z = u.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).reshape(-1, 1, 3, 3)
    # Traces of all D N, D in the second place of the result.
    trace = torch.einsum("bdij,bpji->bpd", members, n)
    along = torch.einsum("bdi,bpi->bpd", torch.einsum("bi,bdij->bdj", u, members), torch.einsum("bpij,bj->bpi", n, u))
    a, b = trace - along, torch.einsum("bdij,bpji->bpd", cross @ members, n)
    nearness = torch.where(has_axis[:, None, None], along + torch.hypot(a, b), trace)
    best = (nearness - _TIE * torch.arange(members.shape[1])).argmax(dim=-1)
    angle = torch.atan2(b, a).gather(-1, best[..., None])[..., 0] * has_axis[:, None]
    axis = torch.where(has_axis[:, None], u, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    turn = axis_angle_rotation(axis[:, None].expand(*angle.shape, 3), angle)
    chosen = table.members[torch.arange(len(best))[:, None], best]
    found = _about(turn, table.points) @ chosen
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
    symmetries = nearest_symmetry(relative.flatten(1, 2), table)[..., :3, :3]
    return second[:, None] @ symmetries.reshape_as(relative)


def _about(rotations: Tensor, points: Tensor) -> Tensor:
    """Motions ``(B, P, 4, 4)`` that turn by ``rotations (B, P, 3, 3)`` about ``points (B, 3)``."""
    motions = torch.zeros(*rotations.shape[:2], 4, 4, dtype=torch.float64)
    motions[..., :3, :3] = rotations
    motions[..., :3, 3] = points[:, None] - torch.einsum("bpij,bj->bpi", rotations, points)
    motions[..., 3, 3] = 1.0
    return motions
