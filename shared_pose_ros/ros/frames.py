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
from shared_pose_ros.ros.conversions import Objects, camera_matrix_from_info, read_detections
from shared_pose_ros.ros.images import rgb_from_compressed, rgb_from_image
from shared_pose_ros.ros.statistics import Statistics

WARM_UP_SIZE = (480, 640)


def load_estimator(settings: SimpleNamespace) -> PoseEstimator:
    """The bundle that the parameters name, on their device, in their precision, warmed for every batch size.

    Precision, threads and the warmed batch sizes decide the last bits of an answer on a CPU, so the node and the replay
    both start here. Raises BundleError or ValueError for a bundle or device that cannot be used.
    """
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


class FrameEstimator:
    """Runs the estimator on pairs of messages and counts what is left out, by object and by note."""

    def __init__(self, estimator: Any, settings: Callable[[], SimpleNamespace], statistics: Statistics) -> None:
        """`settings()` gives the current parameters (parameters.read)."""
        self.estimator = estimator
        self.camera_info: Any = None
        """The latest CameraInfo, or None."""
        self.camera_state = "no camera_info yet"
        """For people: whether K is known, and if not, why."""
        self._settings = settings
        self._statistics = statistics

    def run(self, image_message: Any, detections: Any) -> Frame:
        """The estimate for one image and one Detection2DArray; objects that cannot be used are counted, not raised.

        Raises:
            ImageError: the image cannot be read.
            Exception: whatever the estimator raises.
        """
        settings, started = self._settings(), time.monotonic()
        decode = rgb_from_compressed if settings.image_transport == "compressed" else rgb_from_image
        image = decode(image_message)
        objects = read_detections(detections, self.estimator.object_index, image.shape[:2], settings.score_threshold)
        decoded = time.monotonic()
        camera_matrix = self._camera_matrix(image_message.header.frame_id, image.shape[:2], settings.image_is_rectified)
        objects, estimate = self._estimate(image, objects, camera_matrix, settings.max_batch)
        for counter, reason in objects.rejected:
            self._statistics.count(counter, 1, reason)
        self._statistics.latency("decode", decoded - started)
        self._statistics.latency("estimate", time.monotonic() - decoded)
        return Frame(image_message.header, image, objects, estimate, camera_matrix)

    def _estimate(
        self, image: np.ndarray, objects: Objects, camera_matrix: Optional[np.ndarray], max_batch: int
    ) -> tuple[Objects, Any]:
        """All objects in one batch, or in as few of at most max_batch as it takes; without those answered with NaN."""
        parts = []
        for start in range(0, max(len(objects.ids), 1), max_batch):
            part = slice(start, start + max_batch)
            parts.append(self.estimator.estimate(image, objects.boxes[part], objects.object_index[part], camera_matrix))
        arrays = {name: _joined([getattr(part, name) for part in parts]) for name in _ARRAYS}
        sound = np.isfinite(arrays["rotations"]).all(axis=(1, 2, 3)) & np.isfinite(arrays["confidences"]).all(axis=1)
        if arrays["translations"] is not None:
            sound &= np.isfinite(arrays["translations"]).all(axis=1)
        if not sound.all():
            objects = _without(objects, sound)
            arrays = {name: array if array is None else array[sound] for name, array in arrays.items()}
        return objects, dataclasses.replace(parts[0], **arrays)

    def _camera_matrix(self, frame_id: str, size: tuple[int, int], rectified: bool) -> Optional[np.ndarray]:
        """K if the latest CameraInfo fits the image, else None; says why in `camera_state` and in a counter."""
        info = self.camera_info
        counter, matrix = "", None
        if info is None:
            counter, state = "no_camera_info", "no camera_info"
        elif info.header.frame_id != frame_id or (info.height and (info.height, info.width) != tuple(size)):
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


_ARRAYS = ("rotations", "confidences", "translations")


def _joined(arrays: list[Optional[np.ndarray]]) -> Optional[np.ndarray]:
    return None if arrays[0] is None else np.concatenate(arrays)


def _without(objects: Objects, sound: np.ndarray) -> Objects:
    """Move the objects whose pose is not sound to the rejected ones."""
    rejected = [
        ("non_finite_pose", f"class '{objects.class_ids[i]}' (id '{objects.ids[i]}'): the network answered with NaN")
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
