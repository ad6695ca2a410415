"""From an image message and a detection array to poses to publish: decode, then the stages of the pose pipeline.

No thread and no node here: the node's worker and an offline replay run the same class. Messages are read by their
fields, so that those of `rosbags` serve as well as those of rclpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.geometry.depth_window import same_view
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros.messages.detections import (
    camera_info_fits,
    camera_matrix_from_info,
    image_key,
    read_detections,
)
from shared_pose_ros.ros.messages.images import (
    UNUSABLE_DEPTH,
    ImageError,
    depth_from_image,
    rgb_from_compressed,
    rgb_from_image,
)

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image
    from vision_msgs.msg import Detection2DArray


class MessagePipeline:
    """Runs the pose pipeline on messages and counts what is left out, per object and per frame.

    Args:
        estimator: warmed to max_batch of ``parameters()``.
        parameters: the current ones.
        statistics: gets counters, reasons and latencies.
    """

    def __init__(
        self, estimator: PoseEstimator, parameters: Callable[[], NodeParameters], statistics: Statistics
    ) -> None:
        self.estimator = estimator
        self.poses = PosePipeline(estimator, parameters().max_batch, statistics)
        self.camera_info: CameraInfo | None = None
        """The latest."""
        self.camera_state = "no camera_info yet"
        """For people: whether K is known, and if not, why."""
        self._parameters, self._statistics = parameters, statistics
        self._class_ids = tuple(entry.class_id for entry in estimator.metadata.objects)

    def prepare(self) -> None:
        """Warm what the parameters need; the worker calls it between frames, so that none pays for it."""
        parameters = self._parameters()
        self.poses.estimation.prepare(parameters.max_batch)
        self.poses.refinement.prepare(parameters)

    def run(self, image: Image | CompressedImage, detections: Detection2DArray, depth: Image | None = None) -> Frame:
        """The poses for one image and one array; objects and depth that cannot be used are counted, not raised.

        Args:
            image: of the type that the parameter image_transport names.
            detections: on this image.
            depth: the depth image of the same stamp, or None.

        Raises:
            ImageError: the image cannot be read.
            Exception: whatever the estimator raises.
        """
        parameters, started = self._parameters(), time.monotonic()
        frame = self._decode(image, detections, depth, parameters)
        decoded = time.monotonic()
        frame = self.poses.run(frame, parameters)
        for counter, reason in frame.detections.rejected:
            self._statistics.count(counter, 1, reason)
        self._statistics.latency("decode", decoded - started)
        self._statistics.latency("estimate", time.monotonic() - decoded)
        return frame

    def _decode(
        self,
        image: Image | CompressedImage,
        detections: Detection2DArray,
        depth: Image | None,
        parameters: NodeParameters,
    ) -> Frame:
        decode = rgb_from_compressed if parameters.image_transport == "compressed" else rgb_from_image
        pixels = decode(image)
        size, (stamp, frame_id) = pixels.shape[:2], image_key(image)
        return Frame(
            stamp=stamp,
            frame_id=frame_id,
            image=pixels,
            detections=read_detections(
                detections, self.estimator.object_index, size, parameters.score_threshold, self._class_ids
            ),
            camera_matrix=self._camera_matrix(frame_id, size, parameters.image_is_rectified),
            depth=self._depth(depth, size) if parameters.use_depth else None,
        )

    def _depth(self, message: Image | None, size: tuple[int, int]) -> NDArray[np.float32] | None:
        """Depth (h, w) in metres that shows the same view as an image of this (height, width), or None, counted."""
        if message is None:
            self._statistics.count("no_depth", 1, "no depth image of the image's stamp and frame_id was there")
            return None
        try:
            depth = depth_from_image(message)
            if not same_view(depth.shape, size):
                shape = f"{depth.shape[1]}x{depth.shape[0]}, image of {size[1]}x{size[0]}"
                raise ImageError(UNUSABLE_DEPTH, f"depth image of {shape}: not the same view")
        except ImageError as error:
            self._statistics.count(error.counter, 1, str(error))
            return None
        return depth

    def _camera_matrix(self, frame_id: str, size: tuple[int, int], rectified: bool) -> NDArray[np.float32] | None:
        """K if the latest CameraInfo fits the image, else None; says why in ``camera_state`` and in a counter."""
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
