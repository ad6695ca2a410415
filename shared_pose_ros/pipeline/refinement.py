"""The stage between estimate and temporal filter: hypotheses refined by rendering, and aligned to a depth image."""

from __future__ import annotations

import dataclasses
from typing import Any

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

    def prepare(self) -> VisiblePoints:
        """Make the table of visible points, once: some 0.1 s per object, which no frame should wait for."""
        if self._points is None:
            self._points = visible_points(self._meshes, self._centres)
        return self._points

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """The frame with aligned hypotheses; without camera, depth or detections it is returned as it is."""
        estimate = frame.estimated
        if frame.depth is None or frame.camera_matrix is None or not len(frame.detections):
            return frame
        if estimate.translations is None or estimate.position_covariances is None:
            return frame
        points, object_index = self.prepare(), frame.detections.object_index
        known = points.known[torch.from_numpy(object_index)].numpy()
        if not known.all():
            names = [frame.detections.class_ids[row] for row in np.flatnonzero(~known)]
            remedy = "add its CAD with `shared_pose export BUNDLE --objects CAD`"
            self._statistics.count("no_mesh", len(names), f"class '{names[0]}': no mesh in the bundle; {remedy}")
        rows = np.flatnonzero(known)
        if not len(rows):
            return frame
        index, rotations = object_index[rows], np.asarray(estimate.rotations, dtype=np.float32)[rows]
        offsets = np.einsum("bij,bj->bi", rotations[:, 0], self._centres[index])
        centres = np.asarray(estimate.translations[rows] + offsets, dtype=np.float32)
        which = torch.from_numpy(index)
        with torch.inference_mode():
            aligned = refine_with_depth(
                _depth_view(frame.depth, frame.camera_matrix, frame.image), which, torch.from_numpy(rotations),
                torch.from_numpy(centres), self._diameters[which], points,
            )  # fmt: skip
        accepted = aligned.accepted.numpy()
        for row in rows[~accepted]:
            self._statistics.count(
                "alignment_rejected", 1, f"id '{frame.detections.ids[row]}': depth shows the object in no hypothesis"
            )
        changed = self._changed(estimate, aligned, rows, accepted, object_index)
        return dataclasses.replace(frame, estimate=changed)

    def _changed(
        self,
        estimate: PoseEstimate,
        aligned: DepthRefinement,
        rows: NDArray[np.intp],
        accepted: NDArray[np.bool_],
        object_index: NDArray[np.int64],
    ) -> PoseEstimate:
        """The estimate with the accepted objects' poses in place of the network's."""
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


def _depth_view(
    depth: NDArray[np.floating[Any]], camera: NDArray[np.floating[Any]], image: NDArray[np.uint8]
) -> DepthView:
    shown = torch.from_numpy(np.asarray(depth, dtype=np.float32))
    return DepthView.of(shown, torch.from_numpy(np.asarray(camera, dtype=np.float32)), image.shape[:2])
