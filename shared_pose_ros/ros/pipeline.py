"""One frame from messages to an estimate: decode, read the boxes, find the camera, one batch through the estimator.

No thread and no node here; worker.py calls it, and a replay can. Shapes and units are those of images.py and
conversions.py.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.geometry.depth_window import same_view
from shared_pose_ros.ros.batches import REMEDY, WARM_UP_SIZE, Batches
from shared_pose_ros.ros.diagnostics.memory import cause, is_out_of_memory, release_cached
from shared_pose_ros.ros.diagnostics.statistics import Statistics
from shared_pose_ros.ros.messages.depth_images import UNUSABLE, depth_from_image
from shared_pose_ros.ros.messages.detections import Objects, camera_info_fits, camera_matrix_from_info, read_detections
from shared_pose_ros.ros.messages.images import ImageError, rgb_from_compressed, rgb_from_image
from shared_pose_ros.ros.temporal_filter import Tracked, Tracks


def load_estimator(settings: SimpleNamespace) -> PoseEstimator:
    """The bundle that the parameters name, on their device, in their precision, warmed for every batch size.

    Precision, threads and the warmed batch sizes decide the last bits of an answer on a CPU, so the node and the replay
    both start here. Raises BundleError or ValueError for a bundle or device that cannot be used, MemoryError (with the
    remedy) where it does not fit.
    """
    try:
        return _warm_estimator(settings)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = cause(error)
    # Outside of `except`: the first error's traceback holds the network.
    release_cached(cycles=True)
    raise MemoryError(f"not enough memory for the bundle with max_batch {settings.max_batch} ({problem}); {REMEDY}")


def _warm_estimator(settings: SimpleNamespace) -> PoseEstimator:
    if settings.cpu_threads:
        torch.set_num_threads(settings.cpu_threads)
    estimator = PoseEstimator.load(Path(settings.bundle).expanduser(), settings.device, settings.precision)
    estimator.warm_up(WARM_UP_SIZE, range(1, settings.max_batch + 1))
    return estimator


@dataclass(frozen=True)
class Frame:
    """A frame after the estimate: RGB image (H, W, 3), usable objects (B), their PoseEstimate, K (3, 3) or None."""

    header: Any
    image: np.ndarray
    objects: Objects
    estimate: Any
    camera_matrix: Optional[np.ndarray]
    tracked: Optional[Tracked] = None
    """What its objects have to do with the tracks; None without a memory."""
    completed: Optional[float] = None
    """When its pair was complete (s, the worker's clock)."""


class FrameEstimator:
    """Runs the estimator on pairs of messages and counts what is left out, by object and by note."""

    def __init__(
        self,
        estimator: Any,
        settings: Callable[[], SimpleNamespace],
        statistics: Statistics,
        tracks: Optional[Tracks] = None,
    ) -> None:
        """The estimator is warmed to max_batch of `settings()`, the current parameters (parameters.read).

        Without `tracks` there is no memory between frames.
        """
        self.estimator = estimator
        self.tracks = tracks
        self.camera_info: Any = None
        """The latest CameraInfo, or None."""
        self.camera_state = "no camera_info yet"
        """For people: whether K is known, and if not, why."""
        self._settings = settings
        self._statistics = statistics
        self._batches = Batches(estimator, statistics, settings().max_batch)
        self._class_ids = tuple(entry.class_id for entry in estimator.metadata.objects)

    def prepare(self) -> None:
        """Warm what a changed max_batch needs; the worker calls it between frames, so that none pays for it."""
        self._batches.prepare(self._settings().max_batch)

    def run(self, image_message: Any, detections: Any, depth_message: Any = None) -> Frame:
        """The estimate for one image and one Detection2DArray; objects that cannot be used are counted, not raised.

        `depth_message`: the depth image of the same stamp, or None. One that cannot be used is counted, not raised.

        Raises:
            ImageError: the image cannot be read.
            Exception: whatever the estimator raises.
        """
        settings, started = self._settings(), time.monotonic()
        decode = rgb_from_compressed if settings.image_transport == "compressed" else rgb_from_image
        image = decode(image_message)
        objects = read_detections(
            detections, self.estimator.object_index, image.shape[:2], settings.score_threshold, self._class_ids
        )
        depth = self._depth(depth_message, image.shape[:2]) if settings.use_depth else None
        decoded = time.monotonic()
        camera_matrix = self._camera_matrix(image_message.header.frame_id, image.shape[:2], settings.image_is_rectified)
        objects, estimate = self._estimate(image, objects, camera_matrix, depth, settings.max_batch)
        tracked = None
        if self.tracks is not None:
            estimate, tracked = self.tracks.update(image_message.header, objects, estimate, settings)
        for counter, reason in objects.rejected + (tracked.notes if tracked else []):
            self._statistics.count(counter, 1, reason)
        for name, problem in zip(objects.ids, estimate.depth_problems):
            if problem:
                self._statistics.count("depth_rejected", 1, f"id '{name}': {problem}")
        self._statistics.latency("decode", decoded - started)
        self._statistics.latency("estimate", time.monotonic() - decoded)
        return Frame(image_message.header, image, objects, estimate, camera_matrix, tracked)

    def _depth(self, message: Any, size: tuple[int, int]) -> Optional[np.ndarray]:
        """Depth (h, w) in metres that shows the same view as an image of this (height, width), or None, counted."""
        if message is None:
            self._statistics.count("no_depth", 1, "no depth image of the image's stamp and frame_id was there")
            return None
        try:
            depth = depth_from_image(message)
            if not same_view(depth.shape, size):
                shape = f"{depth.shape[1]}x{depth.shape[0]}, image of {size[1]}x{size[0]}"
                raise ImageError(UNUSABLE, f"depth image of {shape}: not the same view")
        except ImageError as error:
            self._statistics.count(error.counter, 1, str(error))
            return None
        return depth

    def _estimate(
        self,
        image: np.ndarray,
        objects: Objects,
        camera_matrix: Optional[np.ndarray],
        depth: Optional[np.ndarray],
        max_batch: int,
    ) -> tuple[Objects, Any]:
        """All objects in one batch, or in as few of at most max_batch as it takes; without infinite poses."""
        parts = self._batches.run(image, objects.boxes, objects.object_index, (camera_matrix, depth), max_batch)
        arrays = {name: _joined([getattr(part, name) for part in parts]) for name in _ARRAYS}
        problems = [problem for part in parts for problem in part.depth_problems]
        sound = np.isfinite(arrays["rotations"]).all(axis=(1, 2, 3)) & np.isfinite(arrays["confidences"]).all(axis=1)
        if arrays["translations"] is not None:
            sound &= np.isfinite(arrays["translations"]).all(axis=1)
            sound &= np.isfinite(arrays["position_covariances"]).all(axis=(1, 2))
        if not sound.all():
            objects = _without(objects, sound)
            arrays = {name: array if array is None else array[sound] for name, array in arrays.items()}
            problems = [problem for problem, kept in zip(problems, sound) if kept]
        return objects, dataclasses.replace(parts[0], **arrays, depth_problems=tuple(problems))

    def _camera_matrix(self, frame_id: str, size: tuple[int, int], rectified: bool) -> Optional[np.ndarray]:
        """K if the latest CameraInfo fits the image, else None; says why in `camera_state` and in a counter."""
        info = self.camera_info
        counter, matrix = "", None
        if info is None:
            counter, state = "no_camera_info", "no camera_info"
        elif not camera_info_fits(info, frame_id, size):
            counter = "camera_info_mismatch"
            state = (
                f"camera_info of '{info.header.frame_id}' {info.width}x{info.height}, "
                f"image of '{frame_id}' {size[1]}x{size[0]}"
            )
        else:
            try:
                matrix = camera_matrix_from_info(info, rectified)
                state = "K known" if matrix is not None else "camera_info is all zero (not calibrated)"
            except ValueError as error:
                state = str(error)
            counter = "" if matrix is not None else "invalid_camera_info"
        self.camera_state = state
        if counter:
            self._statistics.count(counter, 1, f"{state}; no position, orientation not corrected for the viewing ray")
        return matrix


_ARRAYS = ("rotations", "confidences", "translations", "position_covariances")


def _joined(arrays: list[Optional[np.ndarray]]) -> Optional[np.ndarray]:
    return None if arrays[0] is None else np.concatenate(arrays)


def _without(objects: Objects, sound: np.ndarray) -> Objects:
    """Move the objects whose pose is not sound to the rejected ones."""
    rejected = [
        ("non_finite_pose", f"class '{objects.class_ids[i]}' (id '{objects.ids[i]}'): the pose is not finite")
        for i in np.flatnonzero(~sound)
    ]
    kept = np.flatnonzero(sound)
    return Objects(
        objects.boxes[kept],
        objects.object_index[kept],
        [objects.class_ids[i] for i in kept],
        [objects.ids[i] for i in kept],
        objects.rejected + rejected,
    )
