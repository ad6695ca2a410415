"""What people and tools see of the poses: markers, debug image, transforms. Each is made in a thread of its own.

The worker only hands over what it has published. An error in a drawing is reported and ends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecyclePublisher

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.pipeline.frame import Frame, PublishedPoses
from shared_pose_ros.ros.messages.poses import message_header
from shared_pose_ros.ros.visualization.drawing_thread import DrawingThread, debug_image, image_message
from shared_pose_ros.ros.visualization.markers import MarkerWriter
from shared_pose_ros.ros.visualization.transforms import transforms, transforms_type

PERIOD = 0.1
"""Least time between two marker arrays, and between two debug images (s): enough for people, 0.7 MB of markers at 20
objects of 500 faces, and 11 ms of one core for an image of 8 objects."""


class Visualization:
    """Threads that publish drawings of the latest frame; markers and debug image only for subscribers.

    Args:
        estimator: its display meshes and class ids.
        markers: publisher of the markers.
        debug: publisher of the debug image.
        tf: publisher of the transforms, None for no transforms.
        node_name: first part of the transforms' child frames.
        report: gets the errors.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        markers: LifecyclePublisher,
        debug: LifecyclePublisher,
        tf: LifecyclePublisher | None,
        node_name: str,
        report: Callable[[Exception], None],
    ) -> None:
        writer = MarkerWriter(estimator.object_index, estimator.meshes)

        def draw_image(frame: Frame, latency: float | None) -> None:
            picture = debug_image(frame, estimator.meshes, latency)
            debug.publish(image_message(message_header(frame.stamp, frame.frame_id), picture))

        def send_transforms(poses: PublishedPoses) -> None:
            found = transforms(poses, node_name)
            if found and tf is not None:
                tf.publish(transforms_type()(transforms=found))

        self._markers, self._debug = markers, debug
        self._marker_thread = DrawingThread(lambda poses: markers.publish(writer.write(poses)), report, PERIOD)
        self._image_thread = DrawingThread(draw_image, report, PERIOD)
        self._transform_thread = None if tf is None else DrawingThread(send_transforms, report)

    def show(self, frame: Frame, draw: bool = True) -> None:
        """Take a frame whose poses have just been published; returns at once. Without `draw`, transforms alone."""
        latency = None if frame.completed is None else time.monotonic() - frame.completed
        if self._transform_thread is not None:
            self._transform_thread.show(frame.poses)
        if draw and self._markers.get_subscription_count():
            self._marker_thread.show(frame.poses)
        if draw and self._debug.get_subscription_count():
            self._image_thread.show(frame, latency)

    def stop(self) -> None:
        """End the threads after what they are at."""
        for thread in (self._marker_thread, self._image_thread, self._transform_thread):
            if thread is not None:
                thread.stop()
