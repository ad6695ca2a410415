"""Pose error functions, vectorised over estimates and thresholds (METHOD 8).

VSD, MSSD and MSPD as the BOP benchmark defines them (Hodan et al., ECCV 2018 and ECCVW 2020; public bop_toolkit), and
the symmetry-aware rotation error, which needs no translation.

Convention: metres, pixels, X_cam = R X_model + t; depth images hold z and 0 where there is nothing. All functions take
torch tensors and compute in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared_pose_ros.geometry.rotations import axis_angle_rotation, rotation_angle
from shared_pose_ros.meshes.symmetries import Symmetries

_SUPPORT_DIRECTIONS = 256


def distance_image(depth: Tensor, camera: Tensor) -> Tensor:
    """Distances from the camera centre instead of depths along z.

    Args:
        depth: ``(..., H, W)`` metres.
        camera: K ``(3, 3)``.

    Returns:
        ``(..., H, W)`` float64, 0 where depth is 0.
    """
    k = camera.double()
    rows = torch.arange(depth.shape[-2], device=depth.device, dtype=torch.float64)
    columns = torch.arange(depth.shape[-1], device=depth.device, dtype=torch.float64)
    y = (rows[:, None] - k[1, 2]) / k[1, 1]
    x = (columns - k[0, 2]) / k[0, 0]
    return depth.double() * torch.sqrt(x * x + y * y + 1.0)


def vsd(
    depth_estimate: Tensor,
    depth_truth: Tensor,
    depth_test: Tensor,
    camera: Tensor,
    taus: Tensor,
    delta: float = 0.015,
    missing_visible: bool = True,
) -> Tensor:
    """Visible surface discrepancy with step cost, for every tau at once (METHOD 8).

    e = (Σ over ∩ [|Δ| ≥ τ] + |∪| − |∩|) / |∪| over the visible parts of both renders. A pixel of the estimate is
    visible too where the true object is, whatever the scene's depth says there.

    Args:
        depth_estimate: renders in the estimated poses ``(N, H, W)``.
        depth_truth: render in the true pose ``(H, W)``.
        depth_test: the scene's depth ``(H, W)``, 0 where not measured.
        camera: K ``(3, 3)`` of these images.
        taus: misalignment tolerances ``(T,)``, metres.
        delta: tolerance of the visibility test, metres.
        missing_visible: whether a surface is visible where the scene's depth is missing (BOP'19) or not (BOP'18).

    Returns:
        ``(N, T)`` errors in 0…1; 1 where nothing is visible in either pose.
    """
    estimate, truth, test = (distance_image(d, camera) for d in (depth_estimate, depth_truth, depth_test))
    unmeasured = test == 0

    def visible(distance: Tensor) -> Tensor:
        near_enough = (distance - test <= delta) & ~unmeasured
        return (distance > 0) & (near_enough | unmeasured if missing_visible else near_enough)

    visible_truth = visible(truth)
    visible_estimate = visible(estimate) | (visible_truth & (estimate > 0))
    both = visible_truth & visible_estimate
    union = (visible_truth | visible_estimate).sum(dim=(-2, -1))
    common = both.sum(dim=(-2, -1))
    # Outside the intersection the gap is −1, below every tau.
    gap = torch.where(both, (truth - estimate).abs(), -1.0)
    wrong = torch.stack([(gap >= tau).sum(dim=(-2, -1)) for tau in taus.double()], dim=-1)
    error = (wrong + (union - common)[:, None]).double() / union.clamp(min=1)[:, None]
    return torch.where(union[:, None] > 0, error, 1.0)


def mssd(
    rotation: Tensor,
    translation: Tensor,
    rotation_truth: Tensor,
    translation_truth: Tensor,
    points: Tensor,
    symmetries: Tensor,
) -> Tensor:
    """Maximum symmetry-aware surface distance: min over symmetries S of max over points of |P x − P_gt S x|.

    Args:
        rotation: estimates ``(N, 3, 3)``.
        translation: ``(N, 3)`` metres.
        rotation_truth: ``(3, 3)``.
        translation_truth: ``(3,)`` metres.
        points: the model's vertices ``(P, 3)``, metres.
        symmetries: transforms ``(S, 4, 4)`` with the identity, metres (``Symmetries.transforms``).

    Returns:
        ``(N,)`` metres.
    """
    points, symmetries = points.double(), symmetries.double()
    turned, shifted = _symmetric_truths(rotation_truth, translation_truth, symmetries)
    outline = _support_points(points)
    errors = []
    for r, t in zip(rotation.double(), translation.double()):

        def distance(x: Tensor, chosen: Tensor, r: Tensor = r, t: Tensor = t) -> Tensor:
            # P x − P_gt S x is one affine map of x.
            return (x @ (r - turned[chosen]).mT + (t - shifted[chosen])[:, None]).norm(dim=-1).amax(dim=-1)

        errors.append(_least_over_symmetries(distance, points, outline, len(symmetries)))
    return torch.stack(errors) if errors else points.new_zeros(0)


def mspd(
    rotation: Tensor,
    translation: Tensor,
    rotation_truth: Tensor,
    translation_truth: Tensor,
    camera: Tensor,
    points: Tensor,
    symmetries: Tensor,
) -> Tensor:
    """Maximum symmetry-aware projection distance: as ``mssd``, measured between projections.

    Args:
        rotation: estimates ``(N, 3, 3)``.
        translation: ``(N, 3)`` metres.
        rotation_truth: ``(3, 3)``.
        translation_truth: ``(3,)`` metres.
        camera: K ``(3, 3)``.
        points: the model's vertices ``(P, 3)``, metres.
        symmetries: transforms ``(S, 4, 4)`` with the identity, metres.

    Returns:
        ``(N,)`` pixels.
    """
    points, symmetries, k = points.double(), symmetries.double(), camera.double()
    turned, shifted = _symmetric_truths(rotation_truth, translation_truth, symmetries)
    outline = _support_points(points)

    def project(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        image = (x @ r.mT + t[..., None, :]) @ k.mT
        return image[..., :2] / image[..., 2:]

    errors = []
    for r, t in zip(rotation.double(), translation.double()):

        def distance(x: Tensor, chosen: Tensor, r: Tensor = r, t: Tensor = t) -> Tensor:
            return (project(x, r, t) - project(x, turned[chosen], shifted[chosen])).norm(dim=-1).amax(dim=-1)

        errors.append(_least_over_symmetries(distance, points, outline, len(symmetries)))
    return torch.stack(errors) if errors else points.new_zeros(0)


def symmetric_rotation_error(rotation: Tensor, rotation_truth: Tensor, symmetries: Symmetries) -> Tensor:
    """Smallest angle between an estimate and the truth turned by any symmetry of the object; exact, without sampling.

    For a continuous symmetry about u the best angle maximises tr(M C(θ)) = a cos θ + b sin θ + uᵀMu, so θ = atan2(b, a)
    with a = tr M − uᵀMu and b = Σ u_i (M_jk − M_kj), M = D R_estᵀ R_gt for each discrete symmetry D. Two axes that are
    not parallel generate every rotation: the error is zero.

    Args:
        rotation: estimates ``(N, 3, 3)``.
        rotation_truth: ``(3, 3)``.
        symmetries: the object's.

    Returns:
        ``(N,)`` degrees, 0…180, float64.
    """
    estimate, truth = rotation.double(), rotation_truth.double()
    identity = torch.eye(3, dtype=torch.float64, device=estimate.device)[None]
    given = torch.as_tensor(symmetries.discrete, dtype=torch.float64, device=estimate.device).reshape(-1, 4, 4)
    discrete = torch.cat([identity, given[:, :3, :3]])
    axes = [torch.as_tensor(axis, dtype=torch.float64, device=estimate.device) for axis, _ in symmetries.continuous]
    axes = [axis / axis.norm() for axis in axes]
    if any(torch.linalg.cross(axes[0], axis).norm() > 1e-6 for axis in axes[1:]):
        return torch.zeros(len(estimate), dtype=torch.float64, device=estimate.device)
    candidates = (truth @ discrete)[None].expand(len(estimate), -1, -1, -1)
    if axes:
        u = axes[0]
        m = discrete @ (estimate.mT @ truth)[:, None]
        along = torch.einsum("i,ndij,j->nd", u, m, u)
        a = m.diagonal(dim1=-2, dim2=-1).sum(-1) - along
        skew = torch.stack(
            [m[..., 1, 2] - m[..., 2, 1], m[..., 2, 0] - m[..., 0, 2], m[..., 0, 1] - m[..., 1, 0]], dim=-1
        )
        turn = axis_angle_rotation(u.expand_as(skew), torch.atan2(skew @ u, a))
        candidates = truth @ turn @ discrete
    return torch.rad2deg(rotation_angle(estimate[:, None], candidates)).amin(dim=1)


def recall(errors: Tensor, thresholds: Tensor) -> Tensor:
    """Share of (tolerance, threshold) pairs at which a pose is correct, error < threshold: BOP's average recall.

    Args:
        errors: ``(N,)``, or ``(N, T)`` for T tolerances.
        thresholds: ``(K,)``.

    Returns:
        ``(N,)`` in 0…1.
    """
    errors = errors.reshape(len(errors), -1, 1)
    return (errors < thresholds.to(errors)).double().mean(dim=(1, 2))


def _symmetric_truths(rotation: Tensor, translation: Tensor, symmetries: Tensor) -> tuple[Tensor, Tensor]:
    turned = rotation.double() @ symmetries[:, :3, :3]
    return turned, symmetries[:, :3, 3] @ rotation.double().mT + translation.double()


def _support_points(points: Tensor) -> Tensor:
    """The points farthest out in directions spread over the sphere: a small set that nearly bounds any distance."""
    index = torch.arange(_SUPPORT_DIRECTIONS, dtype=torch.float64, device=points.device) + 0.5
    z = 1.0 - 2.0 * index / _SUPPORT_DIRECTIONS
    azimuth = index * (torch.pi * (3.0 - 5.0**0.5))
    radius = torch.sqrt(1.0 - z * z)
    directions = torch.stack([radius * torch.cos(azimuth), radius * torch.sin(azimuth), z], dim=-1)
    return points[(points @ directions.mT).argmax(dim=0).unique()]


def _least_over_symmetries(
    distance: Callable[[Tensor, Tensor], Tensor], points: Tensor, outline: Tensor, count: int
) -> Tensor:
    """Least over symmetries of a maximum over all points, exact but seldom evaluated in full.

    The maximum over a few points bounds the maximum over all from below; symmetries are tried from the lowest bound up,
    until no bound is below the best value found.
    """
    bounds = distance(outline, torch.arange(count, device=points.device))
    order = bounds.argsort()
    best = distance(points, order[:1])[0]
    for chosen in order[1:]:
        if bounds[chosen] >= best:
            break
        best = torch.minimum(best, distance(points, chosen[None])[0])
    return best
