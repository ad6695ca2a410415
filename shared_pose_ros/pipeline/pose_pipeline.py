"""PosePipeline: estimate, refine, filter, select. Node, offline replay, evaluation and benchmarks build it here.

A stage takes a frame and the parameters of the moment and returns the frame with its part filled in. Frames enter as
arrays (the node decodes its messages in ros/message_pipeline.py) and leave as ``PublishedPoses``, which ros/messages
writes as a message.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.bundle import BundleMetadata, Refiner
from shared_pose_ros.estimator import PoseEstimate, PoseEstimator
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_symmetry
from shared_pose_ros.geometry.orientation_covariance import MEDIAN_ANGLE, orientation_covariance
from shared_pose_ros.geometry.rotations import quaternion_from_rotation
from shared_pose_ros.pipeline.frame import Frame, PublishedPoses
from shared_pose_ros.pipeline.memory import cause, is_out_of_memory, release_cached
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.refinement import Refinement, expected_errors
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.pipeline.temporal_filter import TemporalFilter

WARM_UP_SIZE = (480, 640)
REMEDY = "lower max_batch, free the GPU (nvidia-smi shows who holds it), or take device: cpu"
UNMEASURED_ERROR = 15.0
"""Degrees: median error taken for a bundle that was exported without validation figures; the demo's has 11.6."""
UNKNOWN = -1.0
"""A variance that nobody knows."""
REFERENCES: Mapping[str, NDArray[np.float64]] = {"facing": np.diag([1.0, -1.0, -1.0]), "camera": np.eye(3)}
"""R_m2c that representatives of symmetric objects are near to, by the parameter reference_orientation."""
_PER_OBJECT = ("rotations", "confidences", "translations", "position_covariances")


class Estimator(Protocol):
    """What estimates: ``estimator.PoseEstimator``, or a stand-in."""

    metadata: BundleMetadata
    meshes: tuple[DisplayMesh | None, ...]
    fine_meshes: tuple[DisplayMesh | None, ...]
    refiner: Refiner | None
    device: torch.device

    def object_index(self, class_id: str) -> int | None:
        """The network's index of a class id, as ``PoseEstimator.object_index``."""

    def estimate(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.floating[Any]],
        object_index: NDArray[np.integer[Any]],
        camera_matrix: NDArray[np.floating[Any]] | None = None,
        depth: NDArray[np.floating[Any]] | None = None,
    ) -> PoseEstimate:
        """Poses of all objects of one image, as ``PoseEstimator.estimate``."""

    def warm_up(self, image_size: tuple[int, int], batch_sizes: Sequence[int]) -> None:
        """Run every batch size, as ``PoseEstimator.warm_up``."""


class Stage(Protocol):
    """One step of the pipeline."""

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """The frame with this stage's part filled in; what is left out is counted, not raised."""


class PosePipeline:
    """The stages in their order. A new stage is a class (or a function) and a line in ``__init__``.

    Args:
        estimator: warmed to ``max_batch``.
        max_batch: of the parameters at the beginning.
        statistics: gets counters, reasons and batch sizes.
    """

    def __init__(self, estimator: Estimator, max_batch: int, statistics: Statistics | None = None) -> None:
        statistics = statistics or Statistics()
        self.estimator = estimator
        self.estimation = Estimation(estimator, statistics, max_batch)
        self.refinement = Refinement(
            estimator.metadata, estimator.meshes, statistics, estimator.refiner, estimator.fine_meshes, estimator.device
        )
        symmetries = SymmetryTable.from_dicts([item.symmetries for item in estimator.metadata.objects])
        self.temporal_filter = TemporalFilter(estimator.metadata, symmetries, statistics)
        self.stages: tuple[Stage, ...] = (
            self.estimation,
            self.temporal_filter.follow,
            self.refinement,
            self.temporal_filter,
            Selection(estimator.metadata, symmetries),
            self.temporal_filter.remember,
        )

    def run(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """All stages, one after the other.

        Raises:
            Exception: whatever the estimator raises.
        """
        for stage in self.stages:
            frame = stage(frame, parameters)
        return frame


def load_estimator(parameters: NodeParameters) -> PoseEstimator:
    """The bundle that the parameters name, on their device, in their precision, warmed for every batch size.

    Precision, threads and the warmed batch sizes decide the last bits of an estimate on a CPU, so the node and the
    replay both start here.

    Raises:
        BundleError, ValueError: a bundle or device that cannot be used.
        MemoryError: it does not fit; with the remedy.
    """
    try:
        return _warm_estimator(parameters)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = cause(error)
    # Outside of `except`: the first error's traceback holds the network.
    release_cached(cycles=True)
    raise MemoryError(f"not enough memory for the bundle with max_batch {parameters.max_batch} ({problem}); {REMEDY}")


def _warm_estimator(parameters: NodeParameters) -> PoseEstimator:
    if parameters.cpu_threads:
        torch.set_num_threads(parameters.cpu_threads)
    estimator = PoseEstimator.load(Path(parameters.bundle).expanduser(), parameters.device, parameters.precision)
    estimator.warm_up(WARM_UP_SIZE, range(1, parameters.max_batch + 1))
    return estimator


class Estimation:
    """Stage: all objects of a frame through the estimator, in as few batches as ``max_batch`` allows.

    Batch sizes are warmed before they are needed, and halved when memory is short.

    Args:
        estimator: its batch sizes up to ``warmed`` are warm.
        statistics: gets batch sizes and what is counted.
        warmed: greatest of them.
    """

    def __init__(self, estimator: Estimator, statistics: Statistics, warmed: int) -> None:
        self._estimator, self._statistics, self._warmed = estimator, statistics, warmed

    def prepare(self, max_batch: int) -> None:
        """Warm the sizes that a raised max_batch has added; a failure is counted, and the sizes are not tried again."""
        if max_batch <= self._warmed:
            return
        sizes, self._warmed, problem = range(self._warmed + 1, max_batch + 1), max_batch, ""
        # Too large a batch is no reason to lose the frames with fewer objects.
        try:
            self._estimator.warm_up(WARM_UP_SIZE, sizes)
        except Exception as error:
            problem = f"batches of {sizes[0]} to {max_batch} objects: {cause(error)}"
        if problem:
            self._statistics.count("warm_up_error", 1, problem)
            release_cached()

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """Fill in the estimate; objects whose pose is not finite are counted and left out.

        Raises:
            Exception: whatever the estimator raises; for lack of memory only with a single object.
        """
        parts = self._batches(frame, parameters.max_batch)
        arrays: dict[str, Any] = {name: _joined([getattr(part, name) for part in parts]) for name in _PER_OBJECT}
        problems = tuple(problem for part in parts for problem in part.depth_problems)
        detections, sound = frame.detections, _sound(arrays)
        if not sound.all():
            kept = np.flatnonzero(sound)
            lost = [(detections.class_ids[row], detections.ids[row]) for row in np.flatnonzero(~sound)]
            reasons = [("non_finite_pose", f"class '{c}' (id '{i}'): the pose is not finite") for c, i in lost]
            detections = detections.take(kept, reasons)
            arrays = {name: None if array is None else array[kept] for name, array in arrays.items()}
            problems = tuple(problems[row] for row in kept) if problems else ()
        for name, problem in zip(detections.ids, problems):
            if problem:
                self._statistics.count("depth_rejected", 1, f"id '{name}': {problem}")
        estimate = PoseEstimate(**arrays, ray_corrected=parts[0].ray_corrected, depth_problems=problems)
        return dataclasses.replace(frame, detections=detections, estimate=estimate)

    def _batches(self, frame: Frame, size: int) -> list[PoseEstimate]:
        """PoseEstimates that together cover all objects, in their order; one, with B = 0, for none.

        A batch that memory does not suffice for is halved, and so are the frame's following ones (counter
        batch_halved); the next frame begins with max_batch again.
        """
        parts: list[PoseEstimate] = []
        start = 0
        while not parts or start < len(frame.detections):
            chosen = slice(start, start + size)
            estimate, problem = self._attempt(frame, chosen)
            count = len(frame.detections.boxes[chosen])
            if estimate is None:
                size = count // 2
                self._statistics.count("batch_halved", 1, f"to {size}: {problem}")
                release_cached()
                continue
            parts.append(estimate)
            if count:
                self._statistics.batch(count)
            start += size
        return parts

    def _attempt(self, frame: Frame, chosen: slice) -> tuple[PoseEstimate | None, str]:
        """(estimate, ''), or (None, why) when memory is short for more than one object."""
        boxes, index = frame.detections.boxes[chosen], frame.detections.object_index[chosen]
        try:
            return self._estimator.estimate(frame.image, boxes, index, frame.camera_matrix, frame.depth), ""
        except Exception as error:
            if len(boxes) < 2 or not is_out_of_memory(error):
                raise
            return None, cause(error)


def _joined(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None


def _sound(arrays: Mapping[str, NDArray[Any] | None]) -> NDArray[np.bool_]:
    """``(B,)``: all numbers of the object are finite."""
    finite = [np.isfinite(a).all(axis=tuple(range(1, a.ndim))) for a in arrays.values() if a is not None]
    return np.logical_and.reduce(finite)


class Selection:
    """Stage: from estimates to what is published: how many hypotheses, which of equivalent poses, with covariances.

    Args:
        metadata: of the bundle; its facts are kept as arrays.
        symmetries: of its objects.
    """

    def __init__(self, metadata: BundleMetadata, symmetries: SymmetryTable) -> None:
        self._extents = np.array([item.extents for item in metadata.objects], dtype=np.float64).reshape(-1, 3)
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float64).reshape(-1, 3)
        self._symmetries = symmetries
        self._deviation = hypothesis_deviation(metadata.metrics)

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """Fill in the poses to publish, see ``PublishedPoses``.

        Hypotheses share the position of the centre of the CAD's bounding box, so the CAD origin of hypothesis i is
        t_0 + (R_0 − R_i) c. With symmetric_representative "reference" each is then replaced by the pose among its
        equivalent ones that is rotated nearest to the reference (``geometry.equivalent_poses.nearest_symmetry``), with
        "last" by the one nearest to what was published last. The covariance of the position is the estimate's
        (``geometry.positions``), that of the orientation comes from all hypotheses, published or not
        (``geometry.orientation_covariance``), and needs no camera.
        """
        index, estimate = frame.detections.object_index, frame.estimated
        rotations, centres = np.asarray(estimate.rotations, dtype=np.float64), self._centres[index]
        count = parameters.hypotheses or rotations.shape[1]
        table = self._symmetries.take(torch.from_numpy(index))
        covariances = self._covariances(rotations, estimate, table)[:, :count]
        offsets = np.einsum("bnij,bj->bni", rotations, centres)
        boxes = np.full((len(rotations), 3), np.nan)
        if estimate.translations is not None:
            boxes = np.asarray(estimate.translations, dtype=np.float64) + offsets[:, 0]
        positions = boxes[:, None] - offsets
        if parameters.symmetric_representative != "any" and len(rotations):
            reference = np.tile(REFERENCES[parameters.reference_orientation], (len(rotations), 1, 1))
            if parameters.symmetric_representative == "last" and frame.last is not None:
                reference = np.where(np.isnan(frame.last), reference, frame.last)
            relative = torch.from_numpy(reference.swapaxes(1, 2)[:, None] @ rotations)
            motions = nearest_symmetry(relative, table).numpy()
            positions = positions + (rotations @ motions[..., :3, 3:])[..., 0]
            rotations = rotations @ motions[..., :3, :3]
            boxes = positions[:, 0] + np.einsum("bij,bj->bi", rotations[:, 0], centres)
        published = PublishedPoses(
            stamp=frame.stamp,
            frame_id=frame.frame_id,
            ids=frame.detections.ids,
            class_ids=frame.detections.class_ids,
            quaternions=quaternion_from_rotation(torch.from_numpy(rotations[:, :count])).numpy(),
            positions=positions[:, :count],
            confidences=np.asarray(estimate.confidences)[:, :count],
            covariances=covariances,
            centres=boxes,
            extents=self._extents[index],
            expected_errors=expected_errors(estimate),
        )
        return dataclasses.replace(frame, published=published)

    def _covariances(
        self, rotations: NDArray[np.float64], estimate: PoseEstimate, table: SymmetryTable
    ) -> NDArray[np.float64]:
        """Of each hypothesis, ``(B, n, 6, 6)``: position and orientation, taken as independent."""
        found = np.zeros((*rotations.shape[:2], 6, 6))
        if not len(rotations):
            return found
        found[..., :3, :3] = UNKNOWN * np.eye(3)
        if estimate.translations is not None and estimate.position_covariances is not None:
            found[..., :3, :3] = estimate.position_covariances[:, None]
        deviations = np.full(len(rotations), self._deviation)
        if estimate.deviations is not None:
            deviations = np.where(np.isnan(estimate.deviations), deviations, estimate.deviations)
        found[..., 3:, 3:] = orientation_covariance(
            torch.from_numpy(rotations),
            torch.from_numpy(np.asarray(estimate.confidences)),
            torch.from_numpy(deviations),
            table,
        ).numpy()
        return found


def hypothesis_deviation(metrics: Mapping[str, Any]) -> float:
    """Standard deviation (radians) of one component of the rotation vector by which a hypothesis misses its own pose.

    From the median error of the best hypothesis on synthetic validation crops, `oracle_median` (degrees) of the
    bundle's metrics: which hypothesis is right is the part of their spread, how well it hits is this one's. A rotation
    vector of three normal components of deviation σ has a median length of 1.538 σ
    (``geometry.orientation_covariance.MEDIAN_ANGLE``). Without the figure, ``UNMEASURED_ERROR``. Real images differ
    from synthetic ones: it is a lower bound.
    """
    median = metrics.get("validation", {}).get("oracle_median")
    if not (isinstance(median, (int, float)) and math.isfinite(median) and median > 0.0):
        median = UNMEASURED_ERROR
    return math.radians(median) / MEDIAN_ANGLE
