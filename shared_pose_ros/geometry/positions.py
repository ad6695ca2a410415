"""Where an object is: its centre from its box and its shape, refined by a depth image, with a covariance along the ray.

Convention: OpenCV optical frame, x right, y down, z forward; pixel centres at integer coordinates; boxes (cx, cy, w, h)
in pixels; metres; the centre is that of the CAD's bounding box. Rotations are as the crop shows the object, before the
viewing-ray correction C: there the object stands on the optical axis, so the viewing ray is the third row of R in the
object's axes (Rᵀ ẑ = (C R)ᵀ ray), and its silhouette's sides are those along the image's axes.

The shape is the bundle's mesh where it has one, else what the CAD's bounding box says. The constants were chosen on
renders of T-LESS and of the demo parts; benchmark/depth.py measures how well they hold.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_pose_ros.geometry.box_fit import fit_box, projected_sides
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.depth_window import mesh_distances, surface_distances
from shared_pose_ros.geometry.mesh_points import MeshPoints

BOX_DEVIATION = 0.13
"""Standard deviation of the distance from a box and the CAD's extents, as a fraction of it."""
LATERAL_DEVIATION = 0.09
"""Standard deviation of a centre across the viewing ray, each way, as a fraction of the side that its box shows."""
MESH_DEVIATION, MESH_MISMATCH = 0.07, 0.3
"""The same of the distance from a box and a mesh; its growth with the mismatch of their sides' ratios (occlusion, wrong
rotation)."""
MOST_MISMATCH = 2.0
"""It counts up to here: a factor of seven."""
MESH_LATERAL, LATERAL_MISMATCH = 0.05, 0.25
"""The same across the ray."""
DEPTH_LATERAL, LATERAL_HIDDEN = 0.04, 0.5
"""The same with depth; its growth with the share by which the mesh at depth's distance is larger than its box: so much
is hidden, and so far may the box's middle be from the object's."""
LEAST_VALID = 0.1
"""Share of the samples that must have a depth."""
THICKNESS_DEVIATION = 0.3
"""Standard deviation of the distance from surface to centre, as a fraction of it: parts are no ellipsoids."""
SPREAD_DEVIATION = 0.4
"""Standard deviation of the surface's distance, as a fraction of the window's interquartile range."""
MESH_SPREAD_DEVIATION = 0.25
"""Standard deviation of the distance from depth and mesh, as a fraction of the interquartile range of the cells'."""
SPREAD_LATERAL = 0.2
"""The same across the ray: where depth and mesh disagree, the rotation is wrong, or something is before it."""
LEAST_DEVIATION = 0.002
"""Metres: the least standard deviation of a distance from depth, for a sensor's own error."""
FARTHEST = 3.0
"""Depth that puts the centre so many deviations beyond the box's distance is not the object's."""
NEAREST = 1.0 / 3.0
"""Nor is one that puts it at less than this of that distance: far from 3 deviations, since an occluded object's box is
small and its distance too great."""


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
    meshes: MeshPoints | None = None,
) -> Positions:
    """Centre and covariance of each object: from depth where that is plausible, else from the box alone.

    It lies on a ray u, with a mesh that of the place from which the mesh fills the box (``box_fit.fit_box``), else that
    through the box's centre; Σ = σ_lat² (I − u uᵀ) + σ_rad² u uᵀ (``ray_covariance``) with

        s = distance · √((w/fx)² + (h/fy)²)/√2                     the side that the box shows
        without a mesh
            σ_lat = 0.09 s
            σ_rad = 0.13 · distance                                from the box
            σ_rad = √((0.3 t)² + (0.4 (q₇₅ − q₂₅))²), at least 2 mm  from depth, which puts the centre q₂₅ + t away
        with a mesh
            σ_lat = √(0.05² + (0.25 m)²) s                         from the box
            σ_rad = √(0.07² + (0.3 m)²) · distance
            σ_lat = √((0.04² + (0.5 h)²) s² + (0.2 (p₇₅ − p₂₅))²)  from depth, which puts the centre p₅₀ away
            σ_rad = √((0.25 (p₇₅ − p₂₅))² + (2 mm)²)

    where t is the distance from surface to centre (``half_thickness``), q are quantiles of the distances in the window
    (``surface_distances``), p are quantiles of the distances in the window minus how much nearer than the centre the
    mesh is there (``mesh_distances``), m is the difference of the logarithms of width by height of box and projected
    mesh, and h = box's distance / depth's distance − 1, at least 0.

    Args:
        boxes: ``(B, 4)``.
        camera: K ``(3, 3)``.
        rotations: ``(B, 3, 3)`` as the crop shows the object.
        extents: ``(B, 3)`` edges of the CAD's bounding box, metres.
        depth: ``(h, w)`` metres along z, 0 where nothing was measured, registered to the image; None without.
        image_size: (height, width) of the image that boxes and K belong to; the depth image's by default.
        meshes: points of the B objects; None: no object has a mesh.
    """
    scene = _Scene(boxes, camera, rotations, extents, meshes)
    ray, box = _from_box(scene)
    if depth is None:
        return Positions(ray * box.distance[:, None], ray_covariance(ray, box.radial, box.lateral))
    size = (depth.shape[0], depth.shape[1]) if image_size is None else image_size
    seen, share = _from_depth(scene, ray, box.distance, depth, size)
    problems = tuple(map(_problem, share.tolist(), seen.distance.tolist(), box.distance.tolist(), box.radial.tolist()))
    used = torch.tensor([not problem for problem in problems], dtype=torch.bool)
    best = box.replaced(used, seen)
    return Positions(ray * best.distance[:, None], ray_covariance(ray, best.radial, best.lateral), problems)


def distance_from_box(boxes: Tensor, camera: Tensor, rotations: Tensor, extents: Tensor) -> Tensor:
    """Distance of each centre from the camera, from its box alone (after Sundermeyer et al., ECCV 2018).

    z = (diagonal of the object's box at distance 1) / (diagonal of the box seen), instead of a stored render's by the
    CAD's extents e: the geometric mean of the box around the rotated CAD box, Σ_j |R_ij| e_j wide, and that around the
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
    rotated = rotations[:, :2] * extents[:, None]
    span = (rotated.abs().sum(dim=2) * rotated.norm(dim=2)).sqrt()
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


@dataclass(frozen=True)
class _Scene:
    """What ``estimate_positions`` was given but depth."""

    boxes: Tensor
    camera: Tensor
    rotations: Tensor
    extents: Tensor
    meshes: MeshPoints | None

    @functools.cached_property
    def ray(self) -> Tensor:
        """``(B, 3)`` unit vectors through the boxes' centres."""
        return viewing_ray(self.camera, self.boxes[:, :2])

    @functools.cached_property
    def rotated(self) -> Tensor:
        """``(B, 3, 3)`` R_m2c, with the viewing-ray correction."""
        return ray_rotation(self.ray) @ self.rotations

    @functools.cached_property
    def side(self) -> Tensor:
        """``(B,)`` the side that a box shows, at distance 1."""
        focal = torch.stack([self.camera[0, 0], self.camera[1, 1]])
        return (self.boxes[:, 2:] / focal).norm(dim=1) / math.sqrt(2.0)


@dataclass(frozen=True)
class _Along:
    """Distances along the rays and standard deviations along and across them, each ``(B,)`` metres."""

    distance: Tensor
    radial: Tensor
    lateral: Tensor

    def replaced(self, where: Tensor, other: _Along) -> _Along:
        """That of the other where ``where (B,)`` says so."""
        return _Along(
            torch.where(where, other.distance, self.distance),
            torch.where(where, other.radial, self.radial),
            torch.where(where, other.lateral, self.lateral),
        )


def _from_box(scene: _Scene) -> tuple[Tensor, _Along]:
    """Rays ``(B, 3)`` and what is along them, without depth."""
    boxes, camera, meshes = scene.boxes, scene.camera, scene.meshes
    ray, distance = scene.ray, distance_from_box(boxes, camera, scene.rotations, scene.extents)
    rough = _Along(distance, BOX_DEVIATION * distance, LATERAL_DEVIATION * scene.side * distance)
    if meshes is None or not bool(meshes.known.any()):
        return ray, rough
    rotated = scene.rotated
    fitted = fit_box(boxes, camera, rotated, ray * distance[:, None], meshes.vertices)
    ratio = (projected_sides(fitted, camera, rotated, meshes.vertices) / boxes[:, 2:]).clamp(min=1e-6).log()
    mismatch = (ratio[:, 0] - ratio[:, 1]).abs().clamp(max=MOST_MISMATCH)
    away = fitted.norm(dim=1)
    radial = _hypot(MESH_MISMATCH * mismatch, MESH_DEVIATION) * away
    lateral = _hypot(LATERAL_MISMATCH * mismatch, MESH_LATERAL) * scene.side * away
    fitted_ray = torch.where(meshes.known[:, None], fitted / away[:, None], ray)
    return fitted_ray, rough.replaced(meshes.known, _Along(away, radial, lateral))


def _from_depth(
    scene: _Scene, ray: Tensor, expected: Tensor, depth: Tensor, size: tuple[int, int]
) -> tuple[_Along, Tensor]:
    """What depth says, and the share of the window that was measured; ``expected (B,)`` is the box's distance."""
    boxes, camera, meshes = scene.boxes, scene.camera, scene.meshes
    surface, spread, share = surface_distances(depth, boxes, camera, size)
    thickness = half_thickness(scene.rotations, scene.extents)
    radial = torch.hypot(THICKNESS_DEVIATION * thickness, SPREAD_DEVIATION * spread).clamp(min=LEAST_DEVIATION)
    found = surface + thickness
    rough = _Along(found, radial, LATERAL_DEVIATION * scene.side * found)
    if meshes is None or not bool(meshes.known.any()):
        return rough, share
    place = ray * expected[:, None]
    found, spread, covered = mesh_distances(depth, boxes, camera, size, place, scene.rotated, meshes)
    hidden = (expected / found - 1.0).clamp(min=0.0)
    across = _hypot(LATERAL_HIDDEN * hidden, DEPTH_LATERAL) * scene.side * found
    fine = _Along(
        found, _hypot(MESH_SPREAD_DEVIATION * spread, LEAST_DEVIATION), torch.hypot(across, SPREAD_LATERAL * spread)
    )
    return rough.replaced(meshes.known, fine), torch.where(meshes.known, covered, share)


def _hypot(values: Tensor, constant: float) -> Tensor:
    return torch.hypot(values, torch.tensor(constant, dtype=values.dtype))


def _problem(share: float, found: float, expected: float, deviation: float) -> str:
    if share < LEAST_VALID:
        return f"only {100 * share:.0f} % of the box's middle has a depth; {100 * LEAST_VALID:.0f} % are needed"
    nearest, farthest = NEAREST * expected, expected + FARTHEST * deviation
    if not nearest <= found <= farthest:
        return (
            f"depth puts it at {found:.3f} m, its box at {expected:.3f} m; "
            f"between {nearest:.3f} and {farthest:.3f} m is plausible"
        )
    return ""
