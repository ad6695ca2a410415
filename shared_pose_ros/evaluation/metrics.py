"""Pose error functions, vectorised over estimates and thresholds.

VSD, MSSD and MSPD as the BOP benchmark defines them (Hodan et al., ECCV 2018 and ECCVW 2020; public bop_toolkit), ADD
and ADI (Hinterstoisser et al., ACCV 2012), and the symmetry-aware rotation error, which needs no translation.

Convention: metres, pixels, X_cam = R X_model + t; depth images hold z and 0 where there is nothing. All functions take
torch tensors and compute in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shared_pose_ros.geometry.rotations import axis_angle_rotation, rotation_angle
from shared_pose_ros.meshes.object_set import ObjectModel
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
    """Visible surface discrepancy with step cost, for every tau at once (Hodan et al., ECCVW 2020).

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
    tolerances, order = taus.to(depth_estimate.device, torch.float64).sort()
    truth, test = (distance_image(d, camera).reshape(-1) for d in (depth_truth, depth_test))
    unmeasured = test == 0

    def in_front(distance: Tensor, pixel: Tensor) -> Tensor:
        near_enough = (distance - test[pixel] <= delta) & ~unmeasured[pixel]
        return near_enough | unmeasured[pixel] if missing_visible else near_enough

    visible_truth = (truth > 0) & in_front(truth, torch.arange(len(truth), device=truth.device))
    # Only pixels that an estimate covers are looked at: the object is a small part of its images.
    batch, area = len(depth_estimate), len(truth)
    hit = depth_estimate.reshape(-1).nonzero().squeeze(1)
    image, pixel = torch.div(hit, area, rounding_mode="floor"), hit % area
    ray = distance_image(torch.ones_like(depth_truth), camera).reshape(-1)
    estimate = depth_estimate.reshape(-1)[hit].double() * ray[pixel]
    common = visible_truth[pixel]
    added = ~common & in_front(estimate, pixel)
    union = visible_truth.sum() + torch.bincount(image[added], minlength=batch)
    # How many tolerances a gap reaches, counted by image: column j of `reached` holds the pixels with |Δ| ≥ the j-th.
    level = torch.bucketize((truth[pixel] - estimate).abs()[common], tolerances, right=True)
    columns = len(tolerances) + 1
    counts = torch.bincount(image[common] * columns + level, minlength=batch * columns).reshape(batch, columns)
    reached = counts.flip(1).cumsum(1).flip(1)
    wrong = torch.empty_like(reached[:, 1:]).index_copy(1, order, reached[:, 1:])
    error = (wrong + (union - reached[:, 0])[:, None]).double() / union.clamp(min=1)[:, None]
    return torch.where(union[:, None] > 0, error, 1.0)


NearestPoints = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """N poses of an instance beside its annotation.

    Attributes:
        rotation: estimates ``(N, 3, 3)``.
        translation: ``(N, 3)``.
        rotation_truth: ``(3, 3)``.
        translation_truth: ``(3,)``.
        camera: K ``(3, 3)``.
        width: of the image.
        model: the object.
        points: of its surface ``(P, 3)``.
        symmetries: transforms ``(S, 4, 4)`` with the identity.
        outline: ``support_points`` of the points.
        nearest: gives ``nearest_points`` of the points, made at the first call.
    """

    rotation: Tensor
    translation: Tensor
    rotation_truth: Tensor
    translation_truth: Tensor
    camera: Tensor
    width: float
    model: ObjectModel
    points: Tensor
    symmetries: Tensor
    outline: Tensor
    nearest: Callable[[], NearestPoints]

    def chosen(self, places: Sequence[int]) -> Comparison:
        """Some of the N poses."""
        return replace(self, rotation=self.rotation[places], translation=self.translation[places])


def mssd(seen: Comparison) -> Tensor:
    """Maximum symmetry-aware surface distance: min over symmetries S of max over points of |P x − P_gt S x|, metres."""
    return _least_greatest_distance(seen, lambda x: x)


def mspd(seen: Comparison) -> Tensor:
    """Maximum symmetry-aware projection distance: as ``mssd``, measured between projections, pixels."""

    def project(x: Tensor) -> Tensor:
        image = x @ seen.camera.mT
        return image[..., :2] / image[..., 2:]

    return _least_greatest_distance(seen, project)


def add(seen: Comparison) -> Tensor:
    """Average distance of the model's points, ADD: mean over points of |P x − P_gt x|; blind to symmetries. Metres."""
    apart = seen.points @ (seen.rotation - seen.rotation_truth).mT
    return (apart + (seen.translation - seen.translation_truth)[:, None]).norm(dim=-1).mean(dim=-1)


def adi(seen: Comparison) -> Tensor:
    """Average distance to the nearest point, ADI or ADD-S: mean over x of the least |P y − P_gt x| over y, metres.

    The nearest point is looked for in the model's frame, where all estimates share one search tree.
    """
    truth = seen.points @ seen.rotation_truth.mT + seen.translation_truth
    local = (truth - seen.translation[:, None]) @ seen.rotation
    return seen.nearest()(local.reshape(-1, 3)).reshape(len(local), -1).mean(dim=-1)


def nearest_points(points: Tensor) -> NearestPoints:
    """A function from queries ``(Q, 3)`` to their distances ``(Q,)`` from the nearest of ``points (P, 3)``."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points.double().cpu().numpy())

    def distance(queries: Tensor) -> Tensor:
        return torch.from_numpy(tree.query(queries.cpu().numpy())[0]).to(queries.device)

    return distance


def symmetric_rotation_error(rotation: Tensor, rotation_truth: Tensor, symmetries: Symmetries) -> Tensor:
    """Smallest angle between an estimate and the truth rotated by any symmetry of the object; exact, without sampling.

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
        about_axis = axis_angle_rotation(u.expand_as(skew), torch.atan2(skew @ u, a))
        candidates = truth @ about_axis @ discrete
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


def support_points(points: Tensor) -> Tensor:
    """The points farthest out in directions spread over the sphere: few points that nearly bound any distance.

    Args:
        points: ``(P, 3)``.

    Returns:
        ``(Q, 3)`` float64, Q ≤ 256, a subset.
    """
    points = points.double()
    index = torch.arange(_SUPPORT_DIRECTIONS, dtype=torch.float64, device=points.device) + 0.5
    z = 1.0 - 2.0 * index / _SUPPORT_DIRECTIONS
    azimuth = index * (torch.pi * (3.0 - 5.0**0.5))
    radius = torch.sqrt(1.0 - z * z)
    directions = torch.stack([radius * torch.cos(azimuth), radius * torch.sin(azimuth), z], dim=-1)
    return points[(points @ directions.mT).argmax(dim=0).unique()]


def _least_greatest_distance(seen: Comparison, image_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Least over symmetries of the greatest distance over points ``(N,)``: exact, but few points are looked at.

    The greatest distance over a few points bounds that over all from below. Symmetries are tried from the lowest bound
    up, until no bound is below the best value found.
    """
    points, outline = seen.points, seen.outline
    rotated = seen.rotation_truth @ seen.symmetries[:, :3, :3]
    shifted = (seen.symmetries[:, :3, 3] @ seen.rotation_truth.mT + seen.translation_truth)[:, None]
    outline_truth = image_of(outline @ rotated.mT + shifted)
    errors = []
    for r, t in zip(seen.rotation, seen.translation):
        bounds = (image_of(outline @ r.mT + t) - outline_truth).norm(dim=-1).amax(dim=-1)
        estimate = image_of(points @ r.mT + t)
        best = torch.full((), torch.inf, dtype=torch.float64, device=points.device)
        for chosen in bounds.argsort():
            if bounds[chosen] >= best:
                break
            away = (estimate - image_of(points @ rotated[chosen].mT + shifted[chosen])).norm(dim=-1).amax()
            best = torch.minimum(best, away)
        errors.append(best)
    return torch.stack(errors) if errors else points.new_zeros(0)
