"""Where an object is: its centre from box, K and CAD size, refined by a depth image, with a covariance along the ray.

Convention: OpenCV optical frame, x right, y down, z forward; pixel centres at integer coordinates; boxes (cx, cy, w, h)
in pixels; metres; the centre is that of the CAD's bounding box. Rotations are as the crop shows the object, before the
viewing-ray correction C: there the object stands on the optical axis, so the viewing ray is the third row of R in the
object's axes (Rᵀ ẑ = (C R)ᵀ ray), and its silhouette's sides are those along the image's axes.

The constants were chosen on renders of T-LESS and of the demo parts; benchmark/depth.py measures how well they hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_pose_ros.geometry.cameras import viewing_ray

BOX_DEVIATION = 0.13
"""Standard deviation of the distance from a box alone, as a fraction of it."""
LATERAL_DEVIATION = 0.09
"""Standard deviation of a centre across the viewing ray, each way, as a fraction of the side that its box shows."""
WINDOW = 0.6
"""Share of the box's sides that is looked at, in the middle."""
SAMPLES = 24
"""Depths are read on a grid of so many times so many points of the window."""
SURFACE_QUANTILE = 0.25
"""Of the window's distances: an object's edge shows more of the background behind than of neighbours in front."""
LEAST_VALID = 0.1
"""Share of the samples that must have a depth."""
THICKNESS_DEVIATION = 0.3
"""Standard deviation of the distance from surface to centre, as a fraction of it: parts are no ellipsoids."""
SPREAD_DEVIATION = 0.4
"""Standard deviation of the surface's distance, as a fraction of the window's interquartile range."""
LEAST_DEVIATION = 0.002
"""Metres: the least standard deviation of a distance from depth, for a sensor's own error."""
FARTHEST = 1.0 + 3.0 * BOX_DEVIATION
"""Depth that puts the centre beyond so many times the box's distance is not the object's."""
NEAREST = 1.0 / 3.0
"""The same for too near: far from 3 deviations, since an occluded object's box is small and its distance too great."""


@dataclass(frozen=True)
class Positions:
    """Centres of B objects.

    Attributes:
        centres: ``(B, 3)`` metres.
        covariances: ``(B, 3, 3)`` m², symmetric, positive definite.
        problems: why depth was not used, for each object, empty where it was; ``()`` without a depth image.
    """

    centres: Tensor
    covariances: Tensor
    problems: tuple[str, ...] = ()


def estimate_positions(
    boxes: Tensor,
    camera: Tensor,
    rotations: Tensor,
    extents: Tensor,
    depth: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> Positions:
    """Centre and covariance of each object: from depth where that is plausible, else from the box alone.

    It lies on the viewing ray u through the box's centre; Σ = σ_lat² (I − u uᵀ) + σ_rad² u uᵀ (``ray_covariance``) with

        σ_lat = 0.09 · distance · √((w/fx)² + (h/fy)²)/√2
        σ_rad = 0.13 · distance                                    from the box
        σ_rad = √((0.3 t)² + (0.4 (q₇₅ − q₂₅))²), at least 2 mm    from depth

    where t is the distance from surface to centre (``half_thickness``) and q are quantiles of the distances in the
    window (``surface_distances``); the centre is q₂₅ + t away.

    Args:
        boxes: ``(B, 4)``.
        camera: K ``(3, 3)``.
        rotations: ``(B, 3, 3)`` as the crop shows the object.
        extents: ``(B, 3)`` edges of the CAD's bounding box, metres.
        depth: ``(h, w)`` metres along z, 0 where nothing was measured, registered to the image; None without.
        image_size: (height, width) of the image that boxes and K belong to; the depth image's by default.
    """
    ray = viewing_ray(camera, boxes[:, :2])
    focal = torch.stack([camera[0, 0], camera[1, 1]])
    side = (boxes[:, 2:] / focal).norm(dim=1) / math.sqrt(2.0)
    distance = distance_from_box(boxes, camera, rotations, extents)
    radial, problems = BOX_DEVIATION * distance, ()
    if depth is not None:
        size = (depth.shape[0], depth.shape[1]) if image_size is None else image_size
        surface, spread, valid = surface_distances(depth, boxes, camera, size)
        thickness = half_thickness(rotations, extents)
        found = surface + thickness
        problems = tuple(map(_problem, valid.tolist(), found.tolist(), distance.tolist()))
        used = torch.tensor([not problem for problem in problems], dtype=torch.bool)
        deviation = torch.hypot(THICKNESS_DEVIATION * thickness, SPREAD_DEVIATION * spread).clamp(min=LEAST_DEVIATION)
        distance, radial = torch.where(used, found, distance), torch.where(used, deviation, radial)
    return Positions(
        ray * distance[:, None], ray_covariance(ray, radial, LATERAL_DEVIATION * side * distance), problems
    )


def distance_from_box(boxes: Tensor, camera: Tensor, rotations: Tensor, extents: Tensor) -> Tensor:
    """Distance of each centre from the camera, from its box alone (METHOD 7, after Sundermeyer et al., ECCV 2018).

    z = (diagonal of the object's box at distance 1) / (diagonal of the box seen), instead of a stored render's by the
    CAD's extents e: the geometric mean of the box around the turned CAD box, Σ_j |R_ij| e_j wide, and that around the
    ellipsoid in it, √(Σ_j (R_ij e_j)²) wide. Few parts fill the corners of their boxes: with the CAD box alone T-LESS
    objects and the demo's parts come out 22 to 26 % too far in the median, with the mean 2 to 5 %.

    Args:
        boxes: ``(B, 4)``.
        camera: K ``(3, 3)``.
        rotations: ``(B, 3, 3)`` as the crop shows the object.
        extents: ``(B, 3)``, metres.

    Returns:
        ``(B,)`` metres along the viewing ray.
    """
    turned = rotations[:, :2] * extents[:, None]
    span = (turned.abs().sum(dim=2) * turned.norm(dim=2)).sqrt()
    reference = torch.hypot(camera[0, 0] * span[:, 0], camera[1, 1] * span[:, 1])
    z = reference / torch.hypot(boxes[:, 2], boxes[:, 3])
    return z / viewing_ray(camera, boxes[:, :2])[:, 2]


def half_thickness(rotations: Tensor, extents: Tensor) -> Tensor:
    """Distance along the viewing ray from surface to centre of the ellipsoid in the CAD's box: 1/√(Σ (d_i/(e_i/2))²).

    Args:
        rotations: ``(B, 3, 3)`` as the crop shows the object; d is their third row.
        extents: e ``(B, 3)``, metres.

    Returns:
        ``(B,)`` metres.
    """
    return 1.0 / (rotations[:, 2] / (extents / 2.0).clamp(min=1e-6)).norm(dim=1)


def surface_distances(
    depth: Tensor, boxes: Tensor, camera: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of the surface in the middle of each box, how much it varies, and how much of it was measured.

    Read on a grid, the nearest pixel of each point, so that boxes of all sizes are one batch. A depth image of another
    size shows the same view: pixel u of the image lies at (u + ½) w_depth/w_image − ½.

    Args:
        depth: ``(h, w)`` metres, 0 where nothing was measured.
        boxes: ``(B, 4)`` in pixels of the image.
        camera: its K ``(3, 3)``.
        image_size: its (height, width).

    Returns:
        Lower quartile and interquartile range of the distances from the camera (along each point's own ray), not finite
        without any, and the share of the points that have one; each ``(B,)``.
    """
    grid = WINDOW * ((torch.arange(SAMPLES, dtype=boxes.dtype) + 0.5) / SAMPLES - 0.5)
    u, v = (boxes[:, axis, None] + boxes[:, axis + 2, None] * grid for axis in (0, 1))
    columns, inside_columns = _pixels(u, depth.shape[1], image_size[1])
    rows, inside_rows = _pixels(v, depth.shape[0], image_size[0])
    points = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1)
    values = depth[rows[:, :, None], columns[:, None, :]] / viewing_ray(camera, points)[..., 2]
    valid = (values > 0) & values.isfinite() & inside_rows[:, :, None] & inside_columns[:, None, :]
    count = valid.flatten(1).sum(dim=1)
    ordered = values.masked_fill(~valid, math.inf).flatten(1).sort(dim=1).values
    # Distances that were measured, not values between a surface and what is behind it.
    low, high = (
        ordered.gather(1, (q * (count - 1).clamp(min=0)).long()[:, None])[:, 0]
        for q in (SURFACE_QUANTILE, 1.0 - SURFACE_QUANTILE)
    )
    return low, high - low, count / SAMPLES**2


def ray_covariance(ray: Tensor, radial: Tensor, lateral: Tensor) -> Tensor:
    """Σ = σ_lat² (I − u uᵀ) + σ_rad² u uᵀ.

    Args:
        ray: u ``(B, 3)``, unit vectors.
        radial: σ_rad ``(B,)``.
        lateral: σ_lat ``(B,)``.

    Returns:
        ``(B, 3, 3)``.
    """
    along = ray[:, :, None] * ray[:, None, :]
    across = torch.eye(3, dtype=ray.dtype) - along
    return lateral.square()[:, None, None] * across + radial.square()[:, None, None] * along


def _pixels(points: Tensor, count: int, image_count: int) -> tuple[Tensor, Tensor]:
    """Of points ``(B, S)`` along one axis the depth image's indices, clamped to it, and which of them were inside."""
    index = ((points + 0.5) * (count / image_count) - 0.5).round()
    return index.clamp(0, count - 1).long(), (index >= 0) & (index < count)


def _problem(valid: float, found: float, expected: float) -> str:
    if valid < LEAST_VALID:
        return f"only {100 * valid:.0f} % of the box's middle has a depth; {100 * LEAST_VALID:.0f} % are needed"
    if not NEAREST * expected <= found <= FARTHEST * expected:
        return (
            f"depth puts it at {found:.3f} m, its box at {expected:.3f} m; "
            f"between {NEAREST * expected:.3f} and {FARTHEST * expected:.3f} m is plausible"
        )
    return ""
