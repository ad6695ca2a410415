"""Estimated poses drawn over an image, from what the bundle alone knows: box, class, confidence, axes.

Axes are x red, y green, z blue. CAD outlines are drawn by ``evaluation.report.draw_poses``, which needs the CAD.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.estimator import PoseEstimate

AXIS_COLOURS = ((255, 40, 40), (40, 220, 40), (60, 90, 255))
BOX_COLOUR = (255, 200, 0)
_FAR = 1e4  # OpenCV draws with 16-bit coordinates


def draw_estimates(
    image: NDArray[np.uint8], boxes: NDArray[np.floating], class_ids: Sequence[str], estimate: PoseEstimate
) -> NDArray[np.uint8]:
    """A copy of the image with each object's box, class, confidence and the axes of its best hypothesis.

    The axes start at the box's centre and are seen from far away (no perspective), as long as half the box.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: ``(B, 4)`` (cx, cy, w, h).
        class_ids: B names.
        estimate: of the B objects.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    picture = np.ascontiguousarray(image).copy()
    for number, (box, class_id) in enumerate(zip(boxes, class_ids)):
        centre, side = box[:2], float(box[2:].max())
        low, high = (_pixel(centre + sign * box[2:] / 2) for sign in (-1, 1))
        cv2.rectangle(picture, low, high, BOX_COLOUR, 1)
        label = f"{class_id} {estimate.confidences[number, 0]:.2f}"
        cv2.putText(picture, label, (low[0], low[1] - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, BOX_COLOUR, 1, cv2.LINE_AA)
        rotation = estimate.rotations[number, 0]
        # Far axes first, so that the near ones lie on top.
        for axis in np.argsort(-rotation[2]):
            tip = centre + rotation[:2, axis] * side / 2
            cv2.line(picture, _pixel(centre), _pixel(tip), AXIS_COLOURS[axis], 2, cv2.LINE_AA)
    return picture


def _pixel(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.clip(point, -_FAR, _FAR).round().astype(int).tolist()
    return x, y
