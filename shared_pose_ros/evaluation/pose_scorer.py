"""Scores poses of known objects: renders what the metrics compare, inside the object's region of the image only.

Convention: metres, pixels with centres at integers, X_cam = R X_model + t. VSD looks at no pixel outside the renders,
so cropping the image to the region that holds them changes no figure.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.metrics import Comparison, NearestPoints, nearest_points, recall, support_points, vsd
from shared_pose_ros.evaluation.pose_metrics import METRICS
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.meshes.mesh import simplify
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.depth import render_depth
from shared_pose_ros.rendering.rasterizer import Rasterizer, make_rasterizer, pack_meshes

# Pixels rendered at once: bounds memory to some hundred MB whatever the image and the number of poses.
_PIXELS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class View:
    """The image in which poses are compared.

    Attributes:
        camera: K ``(3, 3)``.
        size: (height, width), pixels.
        depth: the scene's depth ``(H, W)`` float32, metres, 0 where not measured.
    """

    camera: np.ndarray
    size: tuple[int, int]
    depth: np.ndarray


@dataclass(frozen=True)
class PoseErrors:
    """Errors and scores of N poses of one instance, all float64.

    Attributes:
        vsd: ``(N, T)`` for the protocol's tolerances.
        metrics: ``(N,)`` by the name of the metric; NaN where not asked for.
        scaled: errors ``(N, T)`` by the names of ``Protocol.thresholds``, as these mean them.
        score: ``(N,)`` the protocol's score in 0…1.
    """

    vsd: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]
    scaled: Mapping[str, NDArray[np.float64]]
    score: NDArray[np.float64]


class PoseScorer:
    """Holds the CAD of an object set on a device and scores poses against ground truth.

    Example:
        >>> scorer = PoseScorer(ObjectSet.load("models/parts"))  # doctest: +SKIP
        >>> scorer.errors(truth, view, rotations, translations, get_protocol("paper")).score  # doctest: +SKIP
    """

    def __init__(
        self,
        objects: ObjectSet,
        max_faces: int | None = None,
        device: str | torch.device = "cpu",
        rasterizer: Rasterizer | None = None,
        points: Sequence[np.ndarray] | None = None,
        pixel_offset: float = 0.0,
    ) -> None:
        """Pack the meshes.

        Args:
            objects: the CAD.
            max_faces: simplify finer meshes to this many faces; None renders the CAD as it is.
            device: where to render.
            rasterizer: backend, Warp by default.
            points: for MSSD and MSPD, ``(P, 3)`` metres of each object; its mesh's vertices by default.
            pixel_offset: where in a pixel surfaces are looked at, 0 at its centre (integer coordinates). An OpenGL
                renderer that takes K as it is, such as bop_toolkit's, looks at 0.5.
        """
        self.objects = objects
        self.device = torch.device(device)
        self.rasterizer = rasterizer or make_rasterizer()
        self.pixel_offset = pixel_offset
        self.cad = "as loaded" if max_faces is None else f"of at most {max_faces} faces"
        coarse = max_faces or sys.maxsize
        drawn = [m.mesh if len(m.mesh.faces) <= coarse else simplify(m.mesh, coarse) for m in objects]
        self.meshes = pack_meshes([(mesh.vertices, mesh.faces) for mesh in drawn], self.device)
        self._corners = [_bounding_corners(mesh.vertices) for mesh in drawn]
        given = [m.mesh.vertices for m in objects] if points is None else points
        self._points = [torch.as_tensor(own).to(self.device, torch.float64) for own in given]
        self._trees: dict[int, NearestPoints] = {}
        self._outlines = [support_points(points) for points in self._points]
        self._symmetries = [torch.from_numpy(m.symmetries.transforms()).to(self.device) for m in objects]

    def depth(self, instances: Sequence[Instance], camera: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Depth image of a whole scene ``(H, W)`` float32, metres: the nearest surface of the given objects.

        Stands in for a sensor where the data has none. Objects without CAD are left out.
        """
        nearest = np.zeros(size, dtype=np.float32)
        for instance in instances:
            index = self.objects.index(instance.class_id)
            if index is None:
                continue
            r, t = self._tensor(instance.rotation)[None], self._tensor(instance.translation)[None]
            x0, y0, x1, y1 = self._region(index, r, t, camera, size)
            if x1 <= x0 or y1 <= y0:
                continue
            drawn = self._render(index, r, t, camera, (x0, y0, x1, y1))[0].cpu().numpy()
            window = nearest[y0:y1, x0:x1]
            closer = (drawn > 0) & ((window == 0) | (drawn < window))
            window[closer] = drawn[closer]
        return nearest

    def errors(
        self,
        truth: Instance,
        view: View,
        rotations: np.ndarray,
        translations: np.ndarray,
        protocol: Protocol,
        estimates: Sequence[int] | None = None,
        asked: Collection[str] = (),
    ) -> PoseErrors:
        """Errors of N poses of one instance.

        Args:
            truth: the annotation.
            view: the image.
            rotations: R_m2c ``(N, 3, 3)``.
            translations: ``(N, 3)`` metres, of the CAD origin.
            protocol: tolerances and score.
            estimates: the poses for which every metric is computed; None for all. Those that tables sum up and those of
                the protocol's score are computed for all.
            asked: names of metrics that are computed on request alone.

        Raises:
            ValueError: the object set has no such class.
        """
        index = self.objects.place(truth.class_id)
        r, t = self._tensor(rotations).reshape(-1, 3, 3), self._tensor(translations).reshape(-1, 3)
        r_truth, t_truth = self._tensor(truth.rotation), self._tensor(truth.translation)
        scaled = {"vsd": self._vsd(index, r, t, r_truth, t_truth, view, protocol)}
        seen = Comparison(
            r, t, r_truth, t_truth, self._tensor(view.camera), view.size[1], self.objects[index], self._points[index],
            self._symmetries[index], self._outlines[index], partial(self._nearest, index),
        )  # fmt: skip
        found: dict[str, Tensor] = {}
        for name, metric in METRICS.items():
            if metric.on_request and name not in asked:
                continue
            some = None if metric.summary or name in protocol.recalls else estimates
            places = list(range(len(r)) if some is None else some)
            found[name] = torch.full((len(r),), torch.nan, dtype=torch.float64, device=self.device)
            found[name][places] = metric.error(seen.chosen(places))
            if name in protocol.recalls:
                scaled[name] = metric.scaled(found[name], seen)[:, None]
        limits = {name: torch.tensor(values, dtype=torch.float64) for name, values in protocol.thresholds().items()}
        score = reduce(torch.add, (recall(scaled[name], limit) for name, limit in limits.items())) / len(limits)
        return PoseErrors(
            scaled["vsd"].cpu().numpy(),
            {name: values.cpu().numpy() for name, values in found.items()},
            {name: scaled[name].cpu().numpy() for name in limits},
            score.cpu().numpy(),
        )

    def _nearest(self, index: int) -> NearestPoints:
        if index not in self._trees:
            self._trees[index] = nearest_points(self._points[index])
        return self._trees[index]

    def _vsd(
        self, index: int, r: Tensor, t: Tensor, r_truth: Tensor, t_truth: Tensor, view: View, protocol: Protocol
    ) -> Tensor:
        taus = protocol.tolerances(self.objects[index].diameter)
        everything = torch.cat([r_truth[None], r]), torch.cat([t_truth[None], t])
        x0, y0, x1, y1 = region = self._region(index, *everything, view.camera, view.size)
        if x1 <= x0 or y1 <= y0:
            return torch.ones(len(r), len(taus), dtype=torch.float64, device=self.device)
        truth = self._render(index, everything[0][:1], everything[1][:1], view.camera, region)[0]
        test = torch.from_numpy(np.ascontiguousarray(view.depth[y0:y1, x0:x1])).to(self.device)
        camera = self._tensor(_shifted(view.camera, x0, y0))
        step = max(1, _PIXELS_AT_ONCE // ((y1 - y0) * (x1 - x0)))
        parts = []
        for start in range(0, len(r), step):
            estimate = self._render(index, r[start : start + step], t[start : start + step], view.camera, region)
            parts.append(vsd(estimate, truth, test, camera, taus, protocol.delta, protocol.missing_visible))
        return torch.cat(parts) if parts else torch.zeros(0, len(taus), dtype=torch.float64, device=self.device)

    def _render(
        self, index: int, r: Tensor, t: Tensor, camera: np.ndarray, region: tuple[int, int, int, int]
    ) -> Tensor:
        x0, y0, x1, y1 = region
        objects = torch.full((len(r),), index, dtype=torch.int64, device=self.device)
        # Rounded before the shift by whole pixels, which is then exact: the region's render is the image's bit for bit.
        rounded = np.asarray(camera, dtype=np.float32)
        k = self._tensor(_shifted(rounded, x0 + self.pixel_offset, y0 + self.pixel_offset)).float()
        return render_depth(self.meshes, objects, r.float(), t.float(), k, (y1 - y0, x1 - x0), self.rasterizer)

    def _region(
        self, index: int, r: Tensor, t: Tensor, camera: np.ndarray, size: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """Pixels x0 ≤ x < x1, y0 ≤ y < y1 outside which no pose shows; the whole image if a pose reaches the camera."""
        height, width = size
        corners = self._corners[index].to(self.device) @ r.mT + t[:, None]
        # The hull of the corners holds the mesh, and so does its projection while it is in front of the camera.
        if corners[..., 2].min() <= 1e-6:
            return 0, 0, width, height
        image = corners @ self._tensor(camera).mT
        # Far outside is as good as just outside, and fits into an integer.
        pixels = (image[..., :2] / image[..., 2:]).reshape(-1, 2).clamp(-2, max(size) + 2)
        low = (pixels - self.pixel_offset).amin(dim=0).floor().long().tolist()
        high = pixels.amax(dim=0).ceil().long().tolist()
        return max(low[0], 0), max(low[1], 0), min(high[0] + 1, width), min(high[1] + 1, height)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float64)).to(self.device)


def _bounding_corners(vertices: np.ndarray) -> Tensor:
    x, y, z = zip(vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist())
    return torch.cartesian_prod(*(torch.tensor(side, dtype=torch.float64) for side in (x, y, z)))


def _shifted(camera: np.ndarray, x0: float, y0: float) -> np.ndarray:
    moved = np.array(camera, dtype=np.float64)
    moved[:2, 2] -= (x0, y0)
    return moved
