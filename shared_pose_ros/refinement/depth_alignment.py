"""Hypotheses aligned to a depth image and scored against it: no training, any object whose mesh the bundle carries.

Point-to-plane ICP with projective data association (Chen and Medioni 1991; Rusinkiewicz and Levoy 2001), all hypotheses
of all objects in one batch: visible points of the mesh are projected into the depth image, what was measured there
gives the error along the point's normal, and a robust, damped Gauss-Newton step moves rotation and position together.
The gate shrinks from step to step. Convention: OpenCV optical frame, metres; rotations are R_m2c in the camera's frame
(with the viewing-ray correction); centres are those of the CAD's boxes. The constants were chosen on half of
the frames of T-LESS's rendered scenes; benchmark/refinement.py measures what each is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.geometry.rotations import rotation_from_vector
from shared_pose_ros.refinement.visible_points import VisiblePoints

GATES = (0.25, 0.05)
"""A measured depth further from the point's than this is not the object's: fraction of the diameter, first and last."""
ROBUST = 0.02
"""Errors up to here count squared, larger ones linearly (Huber): fraction of the diameter, for a large object."""
AGREEMENT = 0.03
"""A measured depth is the point's own within this: fraction of the diameter."""
LEAST_TOLERANCE = 0.003
"""Metres: ``ROBUST`` and ``AGREEMENT`` of a small object, for a sensor's own error."""
DAMPING = 3e-3
"""Of each step (Levenberg), as a fraction of what one well-determined direction has: directions that the surface does
not determine, such as about the axis of a round part or along a plane, stay where the network put them."""
LARGEST_STEP = 0.35
"""Radians, and fraction of half the diameter, that one step may go."""
LEAST_POINTS = 12
"""Points that a step or a score needs."""
DEPTH_JUMP = 0.02
"""Relative change to a neighbouring pixel beyond which a depth lies on an edge, where sensors mix two surfaces."""


@dataclass(frozen=True)
class Alignment:
    """H hypotheses after alignment.

    Attributes:
        rotations: ``(H, 3, 3)`` R_m2c.
        centres: ``(H, 3)`` metres.
        explained: ``(H,)`` share of the visible points whose depth was measured where the pose puts them.
        violated: ``(H,)`` share at which the camera sees through to something behind.
        occluded: ``(H,)`` share before which something else lies.
        measured: ``(H,)`` number of the visible points at which anything was measured.
    """

    rotations: Tensor
    centres: Tensor
    explained: Tensor
    violated: Tensor
    occluded: Tensor
    measured: Tensor

    @property
    def scores(self) -> Tensor:
        """``(H,)`` in −1…1: explained − violated, per what is not occluded (half); −1 without enough points."""
        seen = (self.explained + self.violated + 0.5 * self.occluded).clamp(min=1e-6)
        found = (self.explained - self.violated) / seen
        return torch.where(self.measured >= LEAST_POINTS, found, torch.full((), -1.0))


@dataclass(frozen=True)
class DepthView:
    """A depth image, prepared: ``depth (h, w)`` metres, 0 where nothing usable was measured; ``camera`` its own K."""

    depth: Tensor
    camera: Tensor

    @classmethod
    def of(cls, depth: Tensor, camera: Tensor, image_size: tuple[int, int]) -> DepthView:
        """Of a registered depth image, maybe of another size than the image that the camera matrix is of.

        Pixels at depth edges are dropped: sensors put values between the two surfaces there.

        Args:
            depth: ``(h, w)`` metres along z, 0 or not finite where nothing was measured.
            camera: K ``(3, 3)`` of the colour image.
            image_size: its (height, width).
        """
        scale = torch.tensor([depth.shape[1] / image_size[1], depth.shape[0] / image_size[0]])
        own = camera.clone().float()
        own[:2] *= scale[:, None]
        own[:2, 2] += 0.5 * scale - 0.5
        depth = torch.where(depth.isfinite() & (depth > 0), depth, torch.zeros(()))
        # An unmeasured neighbour is no edge: at the border of a hole sensors are as good as elsewhere.
        limit = DEPTH_JUMP * depth
        edge = torch.zeros_like(depth, dtype=torch.bool)
        for axis in (0, 1):
            near, far = depth.narrow(axis, 0, depth.shape[axis] - 1), depth.narrow(axis, 1, depth.shape[axis] - 1)
            jump = ((near - far).abs() > limit.narrow(axis, 1, depth.shape[axis] - 1)) & (near > 0) & (far > 0)
            edge.narrow(axis, 0, depth.shape[axis] - 1).logical_or_(jump)
            edge.narrow(axis, 1, depth.shape[axis] - 1).logical_or_(jump)
        return cls(torch.where(edge, torch.zeros(()), depth), own)


@dataclass(frozen=True)
class Starts:
    """H hypotheses to align.

    Attributes:
        index: object_index ``(H,)``.
        rotations: ``(H, 3, 3)`` float32 R_m2c.
        centres: ``(H, 3)`` float32 metres.
        diameters: ``(H,)`` metres, of the objects.
    """

    index: Tensor
    rotations: Tensor
    centres: Tensor
    diameters: Tensor


def align(view: DepthView, starts: Starts, points: VisiblePoints, steps: int, gates: tuple[float, float]) -> Alignment:
    """Move hypotheses to where the depth image is explained best, and score them there.

    Args:
        view: the depth image.
        starts: the hypotheses.
        points: of all objects' meshes.
        steps: Gauss-Newton steps; 0 only scores.
        gates: of the first and of the last step, see ``GATES``.
    """
    index, rotations, centres, diameters = starts.index, starts.rotations, starts.centres, starts.diameters
    radii, tolerance = 0.5 * diameters, (ROBUST * diameters).clamp(min=LEAST_TOLERANCE)
    model, normals = points.points[index].mT.contiguous(), points.normals[index].mT.contiguous()
    seen = torch.zeros(0)
    for step in range(steps):
        share = step / max(steps - 1, 1)
        gate = (diameters * (gates[0] * (gates[1] / gates[0]) ** share)).clamp(min=2.0 * LEAST_TOLERANCE)
        if step % 2 == 0:  # which points are seen changes slowly
            seen = points.seen(index, _towards_camera(rotations, centres))
        increments = _step(view, model, normals, seen, rotations, centres, radii, gate, tolerance)
        rotations = rotation_from_vector(increments[:, :3]) @ rotations
        centres = centres + increments[:, 3:] * radii[:, None]
    surface = torch.baddbmm(centres[:, :, None], rotations, model)
    measured = _pixels(view, surface)[2]
    seen = points.seen(index, _towards_camera(rotations, centres)) & (measured > 0)
    gap, count = measured - surface[:, 2], seen.sum(dim=1)
    limit = (AGREEMENT * diameters).clamp(min=LEAST_TOLERANCE)[:, None]
    kinds = (gap.abs() <= limit, gap > limit, gap < -limit)
    explained, violated, occluded = ((seen & kind).sum(dim=1) / count.clamp(min=1) for kind in kinds)
    return Alignment(rotations, centres, explained, violated, occluded, count)


def _towards_camera(rotations: Tensor, centres: Tensor) -> Tensor:
    """Unit vectors to the camera in the objects' axes, ``(H, 3)``."""
    return -F.normalize(torch.bmm(centres[:, None], rotations)[:, 0], dim=1)


def _pixels(view: DepthView, surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row ``(H, P)`` of the pixels where points ``(H, 3, P)`` show, and the depth measured there, else 0."""
    height, width = view.depth.shape
    k = view.camera
    z = surface[:, 2].clamp(min=1e-6)
    y = surface[:, 1] / z
    u = (k[0, 0] * surface[:, 0] / z + k[0, 1] * y + k[0, 2]).round()
    v = (k[1, 1] * y + k[1, 2]).round()
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (surface[:, 2] > 1e-6)
    u, v = (torch.where(inside, pixel, torch.zeros(())) for pixel in (u, v))
    place = v.long() * width + u.long()  # in integers: float32 has no odd number beyond 16 million pixels
    return u, v, torch.where(inside, view.depth.flatten()[place], torch.zeros(()))


def _step(
    view: DepthView,
    model: Tensor,
    normals: Tensor,
    seen: Tensor,
    rotations: Tensor,
    centres: Tensor,
    radii: Tensor,
    gate: Tensor,
    tolerance: Tensor,
) -> Tensor:
    """Increment of each hypothesis ``(H, 6)``: rotation vector, and translation in units of ``radii``."""
    offsets = torch.bmm(rotations, model)
    surface = offsets + centres[:, :, None]
    outwards = torch.bmm(rotations, normals)
    u, v, measured = _pixels(view, surface)
    gap = measured - surface[:, 2]
    used = seen & (measured > 0) & (gap.abs() < gate[:, None])
    # What was measured lies on the ray of the pixel's centre, not of the model's point: on a slanted face this matters.
    k = view.camera
    y = (v - k[1, 2]) / k[1, 1]
    x = (u - k[0, 2] - k[0, 1] * y) / k[0, 0]
    along = outwards[:, 0] * x + outwards[:, 1] * y + outwards[:, 2]
    error = along * measured - (surface * outwards).sum(dim=1)
    limit = tolerance[:, None]
    weight = used * (limit / torch.maximum(error.abs(), limit))
    arms = torch.linalg.cross(offsets, outwards, dim=1) / radii[:, None, None]
    jacobian = torch.cat([arms, outwards], dim=1)
    weighted = jacobian * weight[:, None]
    count = used.sum(dim=1)
    share = 1.0 / count.clamp(min=1)
    system = torch.bmm(weighted, jacobian.mT) * share[:, None, None]
    gradient = torch.bmm(weighted, error[:, :, None])[:, :, 0] * (share / radii)[:, None]
    damped = system + DAMPING * torch.eye(6, device=model.device)
    increments = torch.linalg.solve(damped, gradient)
    increments = torch.where((count >= LEAST_POINTS)[:, None], increments, torch.zeros(()))
    halves = increments.reshape(-1, 2, 3)
    halves = halves * (LARGEST_STEP / halves.norm(dim=2, keepdim=True).clamp(min=LARGEST_STEP))
    return halves.flatten(1)
