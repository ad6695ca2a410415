"""The stage between estimate and temporal filter: hypotheses refined by rendering, and aligned to a depth image."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from shared_pose_ros.bundle import BundleMetadata, Refiner
from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.refinement.depth_alignment import DepthView
from shared_pose_ros.refinement.depth_refinement import DepthRefinement, refine_with_depth
from shared_pose_ros.refinement.rendered import RefinementError, RenderRefiner
from shared_pose_ros.refinement.visible_points import VisiblePoints, visible_points

ALIGNED_DEVIATION, LEAST_DEVIATION = 0.01, 0.001
"""Standard deviation of an aligned centre, each axis: fraction of the diameter; and the least, metres."""
ALIGNED_ROTATION = 0.03
"""Standard deviation of one component of an aligned rotation's error, radians."""
MEAN_ANGLE = 2.0 * math.sqrt(2.0 / math.pi)
"""Mean length of a vector of three normal components of deviation 1."""
RENDERED = "rendering"
"""What ``PoseEstimate.refined_by`` says of objects that the refiner had last."""
DEFAULT_STEPS = 2
"""Refinement steps with the parameter refine at -1: more gain less than they cost."""
ADD_MESHES = "add its CAD with `shared_pose export BUNDLE --objects CAD`"


def expected_errors(estimate: PoseEstimate) -> NDArray[np.float64]:
    """Rotation errors that the refiner expects of the first hypotheses, ``(B,)`` radians.

    NaN for what it did not refine, and for what was aligned to depth, whose deviation is the same for all.
    """
    found = np.full(len(estimate.rotations), np.nan)
    if estimate.deviations is not None and estimate.refined_by:
        refined = np.array([name == RENDERED for name in estimate.refined_by], dtype=bool)
        found[refined] = MEAN_ANGLE * estimate.deviations[refined]
    return found


def _remembered(frame: Frame, parameters: NodeParameters) -> NDArray[np.float32]:
    """The pose published last of each object whose track the frame continues, ``(B, 3, 3)``; NaN for the others."""
    found = np.full((len(frame.detections), 3, 3), np.nan, dtype=np.float32)
    if parameters.refine_memory and frame.last is not None:
        followed = [row for row, key in enumerate(frame.tracks) if key is not None]
        found[followed] = frame.last[followed]
    return found


class Refinement:
    """Stage: refine the hypotheses by rendering (parameter ``refine``), then align them to the frame's depth image.

    An object without a mesh, or that the depth image shows nowhere near its hypotheses, keeps the answer that it had
    and is counted (``no_mesh``, ``alignment_rejected``). Alignment takes place on the CPU, whatever the device.

    With ``refine_memory`` the pose published last of a followed object (``frame.last``) is one more hypothesis that is
    rendered. It is kept in the camera's axes: while part or camera shift without rotating, it is the same there, and
    the crop sees it rotate with the viewing ray.

    Args:
        metadata: of the bundle.
        meshes: of its objects, None where there is none.
        statistics: gets what is counted.
        refiner: of the bundle, None without one.
        fine_meshes: that it draws; by default the same.
        device: where the refiner runs.
    """

    def __init__(
        self,
        metadata: BundleMetadata,
        meshes: tuple[DisplayMesh | None, ...],
        statistics: Statistics,
        refiner: Refiner | None = None,
        fine_meshes: tuple[DisplayMesh | None, ...] = (),
        device: torch.device | None = None,
    ) -> None:
        self._meshes, self._statistics, self._refiner = meshes, statistics, refiner
        self._drawn = fine_meshes or meshes
        self._device = device or torch.device("cpu")
        self._known = np.array([mesh is not None for mesh in meshes], dtype=bool)
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float32).reshape(-1, 3)
        self._diameters = torch.tensor([item.diameter for item in metadata.objects], dtype=torch.float32)
        self._points: VisiblePoints | None = None
        self._renderer: RenderRefiner | None = None
        self._problem = ""

    def prepare(self, parameters: NodeParameters) -> None:
        """Make once what the parameters need and no frame should wait for.

        The table of visible points takes some 0.1 s an object, the compilation of the renderer seconds.
        """
        if parameters.use_depth:
            self._table()
        if self.steps(parameters):
            self._refiner_or_none()

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """The frame with refined hypotheses, or as it is where nothing is to be refined."""
        index = frame.detections.object_index
        if not len(index):
            return frame
        # What alignment begins with: without a camera there is no position either.
        needed = (frame.depth, frame.camera_matrix, frame.estimated.translations, frame.estimated.position_covariances)
        depth = all(item is not None for item in needed)
        steps = self.steps(parameters)
        if not (depth or steps):
            return frame
        known = self._known[index]
        if not known.all():
            names = [frame.detections.class_ids[row] for row in np.flatnonzero(~known)]
            self._statistics.count("no_mesh", len(names), f"class '{names[0]}': no mesh in the bundle; {ADD_MESHES}")
        rows = np.flatnonzero(known)
        if not len(rows):
            return frame
        if steps:
            # The remembered have one hypothesis more, so they are a batch of their own.
            last = _remembered(frame, parameters)
            followed = np.isfinite(last[rows, 0, 0])
            for chosen, poses in ((rows[~followed], None), (rows[followed], last[rows[followed]])):
                if len(chosen):
                    frame = self._rendered(frame, parameters.refine_hypotheses, steps, chosen, poses)
        return self._aligned(frame, rows) if depth else frame

    def steps(self, parameters: NodeParameters) -> int:
        """Refinement steps, where -1 leaves it to what the bundle has."""
        if parameters.refine >= 0:
            return parameters.refine
        return DEFAULT_STEPS if self._refiner is not None and self._known.any() else 0

    def _table(self) -> VisiblePoints:
        if self._points is None:
            self._points = visible_points(self._meshes, self._centres)
        return self._points

    def _refiner_or_none(self) -> RenderRefiner | None:
        if self._renderer is None and not self._problem:
            try:
                if self._refiner is None:
                    raise RefinementError("the bundle has no refiner: export it again, or set refine to 0")
                self._renderer = RenderRefiner(self._refiner, self._drawn, self._centres, self._device)
                self._renderer.warm_up()
            except RefinementError as error:
                self._problem = str(error)
        return self._renderer

    def _rendered(
        self, frame: Frame, count: int, steps: int, rows: NDArray[np.intp], last: NDArray[np.float32] | None
    ) -> Frame:
        """With the poses that the refiner gives for the first ``count`` hypotheses, and for ``last (R, 3, 3)``."""
        refiner = self._refiner_or_none()
        if refiner is None:
            self._statistics.count("not_refined", len(rows), self._problem)
            return frame
        estimate, index = frame.estimated, torch.from_numpy(frame.detections.object_index[rows])
        boxes = torch.from_numpy(np.asarray(frame.detections.boxes, dtype=np.float32)[rows])
        egocentric = torch.from_numpy(np.asarray(estimate.rotations, dtype=np.float32)[rows])
        correction, distances = None, None
        if estimate.ray_corrected and frame.camera_matrix is not None:
            camera = torch.from_numpy(np.array(frame.camera_matrix, dtype=np.float32))
            correction = ray_rotation(viewing_ray(camera, boxes[:, :2]))[:, None]
        if estimate.translations is not None:
            distances = torch.from_numpy(np.linalg.norm(self._box_centres(estimate, frame)[rows], axis=1)).float()
        chosen, others = egocentric[:, : count or None], egocentric[:, count or len(egocentric[0]) :]
        if last is not None:
            chosen = torch.cat([chosen, torch.from_numpy(last)[:, None]], dim=1)
        allocentric = chosen if correction is None else correction.mT @ chosen
        with torch.inference_mode():
            found = refiner.refine(
                torch.from_numpy(np.require(frame.image, requirements=["C", "W"])).to(self._device),
                boxes.to(self._device),
                index.to(self._device),
                allocentric.to(self._device),
                None if distances is None else distances.to(self._device),
                steps,
            )
        refined = found.rotations.cpu()
        refined = refined if correction is None else correction @ refined
        # Those that were not refined stay behind, without confidence; with a remembered one the last has no place.
        places = egocentric.shape[1]
        ordered = torch.cat([refined, others], dim=1)[:, :places]
        shares = F.pad(found.confidences.cpu(), (0, others.shape[1]))[:, :places]
        if last is not None:
            shares = F.normalize(shares, p=1.0, dim=1)
        arrays = [item.numpy() for item in (ordered, shares, found.expected_errors[:, 0].cpu())]
        return dataclasses.replace(frame, estimate=self._with_refined(frame, rows, *arrays))

    def _with_refined(
        self, frame: Frame, rows: NDArray[np.intp], refined: NDArray[np.float32], shares: NDArray[np.float32],
        expected: NDArray[np.float32],
    ) -> PoseEstimate:  # fmt: skip
        """The estimate with these hypotheses and confidences of some objects, and the first ones' expected errors."""
        estimate = frame.estimated
        rotations, confidences = np.array(estimate.rotations), np.array(estimate.confidences)
        centres = None if estimate.translations is None else self._box_centres(estimate, frame)
        rotations[rows], confidences[rows] = refined, shares
        deviations, refined_by = np.full(len(rotations), np.nan), np.full(len(rotations), "", dtype=object)
        if estimate.deviations is not None:
            deviations[:], refined_by[:] = estimate.deviations, estimate.refined_by
        refined_by[rows] = RENDERED
        deviations[rows] = expected / MEAN_ANGLE
        translations = estimate.translations
        if centres is not None:
            index = frame.detections.object_index
            translations = centres - np.einsum("bij,bj->bi", rotations[:, 0], self._centres[index])
        return dataclasses.replace(
            estimate,
            rotations=rotations,
            confidences=confidences,
            translations=translations,
            deviations=deviations,
            refined_by=tuple(refined_by),
        )

    def _aligned(self, frame: Frame, rows: NDArray[np.intp]) -> Frame:
        """With the poses that the depth image gives."""
        estimate = frame.estimated
        if estimate.translations is None or estimate.position_covariances is None or frame.depth is None:
            return frame
        centres = self._box_centres(estimate, frame)
        index = frame.detections.object_index
        with torch.inference_mode():
            view = DepthView.of(
                torch.from_numpy(np.asarray(frame.depth, dtype=np.float32)),
                torch.from_numpy(np.asarray(frame.camera_matrix, dtype=np.float32)),
                frame.image.shape[:2],
            )
            which = torch.from_numpy(index[rows])
            found = refine_with_depth(
                view,
                which,
                torch.from_numpy(np.asarray(estimate.rotations, dtype=np.float32)[rows]),
                torch.from_numpy(centres[rows]),
                self._diameters[which],
                self._table(),
            )
        accepted = found.accepted.numpy()
        for row in rows[~accepted]:
            self._statistics.count(
                "alignment_rejected", 1, f"id '{frame.detections.ids[row]}': depth shows the object in no hypothesis"
            )
        return dataclasses.replace(frame, estimate=self._with_aligned(estimate, found, rows, accepted, index))

    def _with_aligned(
        self,
        estimate: PoseEstimate,
        found: DepthRefinement,
        rows: NDArray[np.intp],
        accepted: NDArray[np.bool_],
        object_index: NDArray[np.int64],
    ) -> PoseEstimate:
        """The estimate with the accepted objects' poses in place of those that they had."""
        chosen = rows[accepted]
        index = object_index[chosen]
        rotations, confidences = np.array(estimate.rotations), np.array(estimate.confidences)
        translations, covariances = np.array(estimate.translations), np.array(estimate.position_covariances)
        rotations[chosen] = found.rotations.numpy()[accepted]
        confidences[chosen] = found.confidences.numpy()[accepted]
        offsets = np.einsum("bij,bj->bi", rotations[chosen, 0], self._centres[index])
        translations[chosen] = found.centres.numpy()[accepted, 0] - offsets
        deviation = np.maximum(ALIGNED_DEVIATION * self._diameters.numpy()[index], LEAST_DEVIATION)
        covariances[chosen] = deviation[:, None, None] ** 2 * np.eye(3)
        deviations = np.full(len(rotations), np.nan) if estimate.deviations is None else np.array(estimate.deviations)
        deviations[chosen] = ALIGNED_ROTATION
        refined_by = list(estimate.refined_by) or [""] * len(rotations)
        problems = list(estimate.depth_problems)
        for row in chosen:
            refined_by[row] = "depth"
            if problems:
                problems[row] = ""
        return dataclasses.replace(
            estimate,
            rotations=rotations,
            confidences=confidences,
            translations=translations,
            position_covariances=covariances,
            deviations=deviations,
            refined_by=tuple(refined_by),
            depth_problems=tuple(problems),
        )

    def _box_centres(self, estimate: PoseEstimate, frame: Frame) -> NDArray[np.float32]:
        """Of the CAD's boxes in the camera's frame, ``(B, 3)``."""
        centres = self._centres[frame.detections.object_index]
        offsets = np.einsum("bij,bj->bi", np.asarray(estimate.rotations)[:, 0], centres)
        return np.asarray(estimate.translations + offsets, dtype=np.float32)
