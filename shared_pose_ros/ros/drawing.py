"""Pictures for people: markers for RViz and a debug image. Drawn in a thread of its own, for the latest frame only.

Axes are x red, y green, z blue; lengths in metres, pixels at integer centres.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from shared_pose_ros.drawing import AXIS_COLOURS, BOX_COLOUR, draw_estimates
from shared_pose_ros.ros.frames import Frame
from shared_pose_ros.ros.poses import published_estimate

MARKER_SECONDS = 1


class Painter:
    """Calls `paint(frame, poses)` in its own thread for the latest frame shown; frames in between are skipped."""

    def __init__(self, paint: Callable[[Frame, Detection3DArray], None], report: Callable[[Exception], None]) -> None:
        """Start the thread; errors of `paint` go to `report`."""
        self._paint, self._report = paint, report
        self._condition = threading.Condition()
        self._next: Optional[tuple[Frame, Detection3DArray]] = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="shared_pose painter")
        self._thread.start()

    def show(self, frame: Frame, poses: Detection3DArray) -> None:
        """Have the frame drawn; returns at once."""
        with self._condition:
            self._next = (frame, poses)
            self._condition.notify()

    def stop(self) -> None:
        """End the thread after the frame it is drawing."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._next is not None)
                if self._stopping:
                    return
                (frame, poses), self._next = self._next, None
            # A picture is never worth the node's life.
            try:
                self._paint(frame, poses)
            except Exception as error:
                self._report(error)


def marker_array(frame: Frame, poses: Detection3DArray) -> MarkerArray:
    """A translucent bounding box and three axes per object; only a delete-all where positions are unknown."""
    markers = MarkerArray(markers=[Marker(header=poses.header, action=Marker.DELETEALL)])
    if frame.estimate.translations is None:
        return markers
    for number, detection in enumerate(poses.detections):
        common = {"header": poses.header, "id": number, "lifetime": Duration(sec=MARKER_SECONDS), "action": Marker.ADD}
        box = Marker(ns="box", type=Marker.CUBE, pose=detection.bbox.center, scale=detection.bbox.size, **common)
        box.color = _colour(BOX_COLOUR, 0.35)
        axes = Marker(ns="axes", type=Marker.LINE_LIST, pose=detection.bbox.center, **common)
        length = _longest(detection.bbox.size)
        axes.scale = Vector3(x=length / 25)
        axes.pose = detection.results[0].pose.pose
        for axis, colour in enumerate(AXIS_COLOURS):
            tip = [0.0, 0.0, 0.0]
            tip[axis] = length
            axes.points += [Point(), Point(x=tip[0], y=tip[1], z=tip[2])]
            axes.colors += [_colour(colour, 1.0)] * 2
        markers.markers += [box, axes]
    return markers


def debug_image(frame: Frame, poses: Detection3DArray) -> np.ndarray:
    """Copy of the frame's image (H, W, 3) RGB with each object's box, class, confidence and axes as published."""
    return draw_estimates(frame.image, frame.objects.boxes, frame.objects.class_ids, published_estimate(poses))


def image_message(header: Any, picture: np.ndarray) -> Image:
    """sensor_msgs/Image, rgb8, of an RGB array (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    return Image(
        header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", picture.tobytes())
    )


def _colour(rgb: tuple[int, int, int], alpha: float) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255, g=rgb[1] / 255, b=rgb[2] / 255, a=alpha)


def _longest(size: Vector3) -> float:
    return max(size.x, size.y, size.z, 1e-6)
