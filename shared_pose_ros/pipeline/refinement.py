"""The stage between estimate and temporal filter: hypotheses refined by rendering, and aligned to a depth image."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.bundle import BundleMetadata
from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.refinement.depth_alignment import DepthView
from shared_pose_ros.refinement.depth_refinement import DepthRefinement, refine_with_depth
from shared_pose_ros.refinement.visible_points import VisiblePoints, visible_points

ALIGNED_DEVIATION, LEAST_DEVIATION = 0.01, 0.001
"""Standard deviation of an aligned centre, each axis: fraction of the diameter; and the least, metres."""
ALIGNED_ROTATION = 0.03
"""Standard deviation of one component of an aligned rotation's error, radians."""


class Refinement:
    """Stage: align the hypotheses to the depth image, where the frame has one.

    An object without a mesh, or that the depth image shows nowhere near its hypotheses, keeps the network's answer and
    is counted (``no_mesh``, ``alignment_rejected``). Alignment takes place on the CPU, whatever the network's device.

    Args:
        metadata: of the bundle.
        meshes: of its objects, None where there is none.
        statistics: gets what is counted.
    """

    def __init__(
        self, metadata: BundleMetadata, meshes: tuple[DisplayMesh | None, ...], statistics: Statistics
    ) -> None:
        self._meshes, self._statistics = meshes, statistics
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float32).reshape(-1, 3)
        self._diameters = torch.tensor([item.diameter for item in metadata.objects], dtype=torch.float32)
        self._points: VisiblePoints | None = None

    def prepare(self) -> None:
        """Make the table of visible points, once: some 0.1 s an object, which no frame should wait for."""
        if self._points is None:
            self._points = visible_points(self._meshes, self._centres)

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """The frame with aligned hypotheses; without camera, depth or detections it is returned as it is."""
        estimate = frame.estimated
        if frame.depth is None or frame.camera_matrix is None or estimate.translations is None:
            return frame
        if not len(frame.detections):
            return frame
        self.prepare()
        assert self._points is not None
        index = torch.from_numpy(frame.detections.object_index)
        known = self._points.known[index].numpy()
        if not known.all():
            names = [frame.detections.class_ids[row] for row in np.flatnonzero(~known)]
            remedy = "add its CAD with `shared_pose export BUNDLE --objects CAD`"
            self._statistics.count("no_mesh", len(names), f"class '{names[0]}': no mesh in the bundle; {remedy}")
        rows = np.flatnonzero(known)
        if not len(rows):
            return frame
        aligned = self._align(frame, estimate, rows)
        accepted = aligned.accepted.numpy()
        for row in rows[~accepted]:
            self._statistics.count(
                "alignment_rejected", 1, f"id '{frame.detections.ids[row]}': depth shows the object in no hypothesis"
            )
        changed = self._changed(estimate, aligned, rows, accepted, frame.detections.object_index)
        return dataclasses.replace(frame, estimate=changed)

    def _align(self, frame: Frame, estimate: PoseEstimate, rows: NDArray[np.intp]) -> DepthRefinement:
        assert self._points is not None and frame.depth is not None and estimate.translations is not None
        index = frame.detections.object_index[rows]
        rotations = np.asarray(estimate.rotations, dtype=np.float32)[rows]
        centres = estimate.translations[rows] + np.einsum("bij,bj->bi", rotations[:, 0], self._centres[index])
        with torch.inference_mode():
            view = DepthView.of(
                torch.from_numpy(np.asarray(frame.depth, dtype=np.float32)),
                torch.from_numpy(np.asarray(frame.camera_matrix, dtype=np.float32)),
                frame.image.shape[:2],
            )
            which = torch.from_numpy(index)
            return refine_with_depth(
                view, which, torch.from_numpy(rotations), torch.from_numpy(np.asarray(centres, np.float32)),
                self._diameters[which], self._points,
            )  # fmt: skip

    def _changed(
        self,
        estimate: PoseEstimate,
        aligned: DepthRefinement,
        rows: NDArray[np.intp],
        accepted: NDArray[np.bool_],
        object_index: NDArray[np.int64],
    ) -> PoseEstimate:
        """The estimate with the accepted objects' poses in place of the network's."""
        assert estimate.translations is not None and estimate.position_covariances is not None
        chosen = rows[accepted]
        rotations, confidences = np.array(estimate.rotations), np.array(estimate.confidences)
        translations, covariances = np.array(estimate.translations), np.array(estimate.position_covariances)
        rotations[chosen] = aligned.rotations.numpy()[accepted]
        confidences[chosen] = aligned.confidences.numpy()[accepted]
        index = object_index[chosen]
        offsets = np.einsum("bij,bj->bi", rotations[chosen, 0], self._centres[index])
        translations[chosen] = aligned.centres.numpy()[accepted, 0] - offsets
        deviations = np.maximum(ALIGNED_DEVIATION * self._diameters.numpy()[index], LEAST_DEVIATION)
        covariances[chosen] = deviations[:, None, None] ** 2 * np.eye(3)
        known = np.full(len(rotations), np.nan) if estimate.deviations is None else np.array(estimate.deviations)
        known[chosen] = ALIGNED_ROTATION
        problems = list(estimate.depth_problems)
        for row in chosen:
            if problems:
                problems[row] = ""
        return dataclasses.replace(
            estimate,
            rotations=rotations,
            confidences=confidences,
            translations=translations,
            position_covariances=covariances,
            deviations=known,
            depth_problems=tuple(problems),
        )
