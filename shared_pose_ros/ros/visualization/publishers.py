"""What people and tools see of the poses: markers, debug image, transforms. Each is made in a thread of its own.

The worker only hands over what it has published. An error in a picture is reported and ends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Optional

from vision_msgs.msg import Detection3DArray

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.ros.pipeline import Frame
from shared_pose_ros.ros.visualization.drawing_thread import Painter, debug_image, image_message
from shared_pose_ros.ros.visualization.markers import MarkerWriter
from shared_pose_ros.ros.visualization.transforms import transforms, transforms_type

PERIOD = 0.1
"""Least time between two marker arrays, and between two debug images (s): enough for people, 0.7 MB of markers at 20
objects of 500 faces, and 11 ms of one core for an image of 8 objects."""


class Pictures:
    """Threads that publish pictures of the latest frame; markers and debug image only for subscribers."""

    def __init__(
        self,
        estimator: PoseEstimator,
        publishers: tuple[Any, Any, Optional[Any]],
        node_name: str,
        report: Callable[[Exception], None],
    ) -> None:
        """Start the threads.

        Args:
            estimator: its display meshes and class ids.
            publishers: of markers, debug image, and transforms (None for no transforms).
            node_name: first part of the transforms' child frames.
            report: gets the errors.
        """
        self._markers, self._debug_image, self._transforms = publishers
        self._meshes, writer = estimator.meshes, MarkerWriter(estimator.object_index, estimator.meshes)
        self._marker_painter = Painter(lambda poses: self._markers.publish(writer.write(poses)), report, PERIOD)
        self._image_painter = Painter(self._paint_image, report, PERIOD)
        self._transform_painter = None
        if self._transforms is not None:
            self._transform_painter = Painter(lambda poses: self._send_transforms(poses, node_name), report)

    def show(self, frame: Frame, poses: Detection3DArray, draw: bool = True) -> None:
        """Take a frame whose poses have just been published; returns at once. Without `draw`, transforms alone."""
        latency = None if frame.completed is None else time.monotonic() - frame.completed
        if self._transform_painter is not None:
            self._transform_painter.show(poses)
        if draw and self._markers.get_subscription_count():
            self._marker_painter.show(poses)
        if draw and self._debug_image.get_subscription_count():
            self._image_painter.show(frame, poses, latency)

    def stop(self) -> None:
        """End the threads after what they are at."""
        for painter in (self._marker_painter, self._image_painter, self._transform_painter):
            if painter is not None:
                painter.stop()

    def _send_transforms(self, poses: Detection3DArray, node_name: str) -> None:
        found = transforms(poses, node_name)
        if found:
            self._transforms.publish(transforms_type()(transforms=found))

    def _paint_image(self, frame: Frame, poses: Detection3DArray, latency: Optional[float]) -> None:
        picture = debug_image(frame, poses, self._meshes, latency)
        self._debug_image.publish(image_message(frame.header, picture))
