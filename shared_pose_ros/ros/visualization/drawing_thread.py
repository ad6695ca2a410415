"""The debug image, and the threads in which pictures are drawn: each for the latest frame only, never in the way.

Images are (H, W, 3) uint8 RGB. Markers are written by markers.py.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shared_pose_ros.drawing import draw_estimates
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.pipeline.frame import Frame


class DrawingThread:
    """Calls `draw` in its own thread with what was shown latest; what came in between is skipped."""

    def __init__(
        self,
        draw: Callable[..., None],
        report: Callable[[Exception], None],
        period: float = 0.0,
    ) -> None:
        """Start the thread; errors of `draw` go to `report`. Drawn is at most every `period` seconds."""
        self._draw, self._report, self._period = draw, report, period
        self._condition = threading.Condition()
        self._next: tuple[Any, ...] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="shared_pose drawing")
        self._thread.start()

    def show(self, *what: Any) -> None:
        """Have `draw(*what)` called; returns at once."""
        with self._condition:
            self._next = what
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
                what, self._next = self._next or (), None
            started = time.monotonic()
            # A drawing is never worth the node's life.
            try:
                self._draw(*what)
            except Exception as error:
                self._report(error)
            with self._condition:
                # The last frame is drawn too, when its time has come.
                self._condition.wait_for(lambda: self._stopping, max(0.0, started + self._period - time.monotonic()))


def debug_image(frame: Frame, meshes: Sequence[DisplayMesh | None], latency: float | None = None) -> np.ndarray:
    """Copy of the frame's image (H, W, 3) RGB with each object's first pose as published, class and confidence.

    Outlines of the bundle's `meshes` where K and position are known, else boxes and axes. In the corner the number of
    objects and the frame's `latency` (s).
    """
    detections, note = frame.detections, f"{len(frame.poses)} objects"
    if latency is not None:
        note += f"  {1e3 * latency:.0f} ms"
    return draw_estimates(
        frame.image, detections.boxes, detections.class_ids, frame.poses.first(), detections.object_index, meshes,
        frame.camera_matrix, note,
    )  # fmt: skip


def image_message(header: Header, picture: np.ndarray) -> Image:
    """sensor_msgs/Image, rgb8, of an RGB array (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    return Image(
        header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", picture.tobytes())
    )
