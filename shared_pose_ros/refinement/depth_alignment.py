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

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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
_NEIGHBOURS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_FAR = np.float32(1e30)  # finite: times 1.02 it still is


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
        return cls(torch.from_numpy(_without_edges(depth.numpy())), own)


def _without_edges(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The depth image with 0 at edges, and where it is not finite.

    An unmeasured neighbour is no edge: at the border of a hole sensors are as good as elsewhere. By OpenCV, since it is
    a fixed cost of every image: a fifth of torch's time.
    """
    measured = (depth > 0) & (depth < np.inf)
    known = np.where(measured, depth, np.float32(0))
    farthest = cv2.dilate(known, _NEIGHBOURS)
    nearest = cv2.erode(np.where(measured, depth, _FAR), _NEIGHBOURS)
    return np.where(
        (farthest <= known * (1 + DEPTH_JUMP)) & (known <= nearest * (1 + DEPTH_JUMP)), known, np.float32(0)
    )


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
    image = _Lookup.of(view)
    model, seen, jacobian, support = _visible(points, index, rotations, centres, radii)
    for step in range(steps):
        share = step / max(steps - 1, 1)
        gate = (diameters * (gates[0] * (gates[1] / gates[0]) ** share)).clamp(min=2.0 * LEAST_TOLERANCE)
        if step % 2 == 0 and step:  # which points are seen changes slowly
            model, seen, jacobian, support = _visible(points, index, rotations, centres, radii)
        error, used = _errors(image, model, seen, support, rotations, centres, gate)
        increments = _increments(jacobian, error, used, radii, tolerance)
        centres = centres + torch.bmm(rotations, increments[:, 3:, None])[:, :, 0] * radii[:, None]
        rotations = rotations @ rotation_from_vector(increments[:, :3])
    model, seen = points.visible(index, _towards_camera(rotations, centres))
    surface = torch.baddbmm(centres[:, :, None], rotations, model[:, :3])
    measured = image.measured(surface)[2]
    seen = seen & (measured > 0)
    gap, count = measured - surface[:, 2], seen.sum(dim=1)
    limit = (AGREEMENT * diameters).clamp(min=LEAST_TOLERANCE)[:, None]
    kinds = (gap.abs() <= limit, gap > limit, gap < -limit)
    explained, violated, occluded = ((seen & kind).sum(dim=1) / count.clamp(min=1) for kind in kinds)
    return Alignment(rotations, centres, explained, violated, occluded, count)


def _towards_camera(rotations: Tensor, centres: Tensor) -> Tensor:
    """Unit vectors to the camera in the objects' axes, ``(H, 3)``."""
    return -F.normalize(torch.bmm(centres[:, None], rotations)[:, 0], dim=1)


def _visible(
    points: VisiblePoints, index: Tensor, rotations: Tensor, centres: Tensor, radii: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points and normals ``(H, 6, M)``, seen ``(H, M)``, and what steps need of them, all in the objects' axes.

    The latter: derivatives ``(H, 6, M)`` of the error by a rotation vector and by a translation in units of the radius;
    and point times normal ``(H, M)``.
    """
    model, seen = points.visible(index, _towards_camera(rotations, centres))
    x, y, z, a, b, c = model.unbind(dim=1)
    u, v, w = (model[:, :3] / radii[:, None, None]).unbind(dim=1)
    arms = [v * c - w * b, w * a - u * c, u * b - v * a]
    return model, seen, torch.stack([*arms, a, b, c], dim=1), x * a + y * b + z * c


@dataclass(frozen=True)
class _Lookup:
    """A depth image with a border of nothing, so that pixels outside need no test of their own."""

    depth: Tensor
    width: int
    height: int
    camera: tuple[float, float, float, float, float]
    """fx, skew, cx, fy, cy."""

    @classmethod
    def of(cls, view: DepthView) -> _Lookup:
        height, width = view.depth.shape
        first, second, _ = view.camera.tolist()
        return cls(F.pad(view.depth, (1, 1, 1, 1)).flatten(), width, height, (*first, *second[1:]))

    def measured(self, surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where points ``(H, 3, M)`` show: x and y of their pixels' rays (x, y, 1), and the depth there; ``(H, M)``."""
        fx, skew, cx, fy, cy = self.camera
        inverse = surface[:, 2].clamp(min=1e-6).reciprocal_()
        y = surface[:, 1] * inverse
        u = surface[:, 0] * inverse * fx + cx
        if skew:
            u = u + y * skew
        u, v = u.round_().clamp_(-1, self.width), (y * fy + cy).round_().clamp_(-1, self.height)
        # In integers: float32 has no odd number beyond 16 million pixels.
        place = (v.int() + 1) * (self.width + 2) + (u.int() + 1)
        y = (v - cy) * (1.0 / fy)
        x = (u - y * skew - cx if skew else u - cx) * (1.0 / fx)
        return x, y, self.depth.index_select(0, place.flatten()).unflatten(0, place.shape)


def _errors(
    image: _Lookup, model: Tensor, seen: Tensor, support: Tensor, rotations: Tensor, centres: Tensor, gate: Tensor
) -> tuple[Tensor, Tensor]:
    """Distance ``(H, M)`` along the normal from the point to what was measured at its pixel; which of them count."""
    surface = torch.baddbmm(centres[:, :, None], rotations, model[:, :3])
    outwards = torch.bmm(rotations, model[:, 3:])
    a, b, c = outwards.unbind(dim=1)
    x, y, measured = image.measured(surface)
    used = seen & (measured > 0) & ((measured - surface[:, 2]).abs() < gate[:, None])
    # What was measured lies on the ray of the pixel's centre, not of the model's point: on a slanted face this matters.
    along = torch.addcmul(torch.addcmul(c, a, x), b, y)
    return along * measured - support - torch.bmm(centres[:, None], outwards)[:, 0], used


def _increments(jacobian: Tensor, error: Tensor, used: Tensor, radii: Tensor, tolerance: Tensor) -> Tensor:
    """Of each hypothesis, in its own axes ``(H, 6)``: rotation vector, and translation in units of ``radii``."""
    limit = tolerance[:, None]
    weight = used * (limit / torch.maximum(error.abs(), limit))
    weighted = jacobian * weight[:, None]
    count = used.sum(dim=1)
    share = 1.0 / count.clamp(min=1)
    system = torch.bmm(weighted, jacobian.mT) * share[:, None, None]
    gradient = torch.bmm(weighted, error[:, :, None]) * (share / radii)[:, None, None]
    # A damped matrix is not singular: nothing to check.
    damped = system + DAMPING * torch.eye(6)
    increments = torch.linalg.solve_ex(damped, gradient).result[:, :, 0]
    increments = torch.where((count >= LEAST_POINTS)[:, None], increments, torch.zeros(()))
    halves = increments.reshape(-1, 2, 3)
    halves = halves * (LARGEST_STEP / halves.norm(dim=2, keepdim=True).clamp(min=LARGEST_STEP))
    return halves.flatten(1)
