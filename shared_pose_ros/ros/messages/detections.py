"""Detections and camera information from ROS messages to arrays; pure functions.

Messages are read by their fields only, so that those of `rosbags` serve as well as those of rclpy: a replayed bag goes
through the same functions as the node's topics. Poses are written by poses.py.

Convention: boxes (cx, cy, w, h) in pixels with pixel centres at integers, as vision_msgs; metres.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shared_pose_ros.geometry.cameras import check_camera_matrix
from shared_pose_ros.pipeline.frame import Detections, Key

if TYPE_CHECKING:
    from vision_msgs.msg import Detection2D, Detection2DArray

LARGEST_BOX = 8.0
"""A box side above this many times the image's longer side is an error of the detector (or a number gone wild)."""

MOST_NAMED = 12
"""Class ids that one reason lists."""

SMALLEST_BOX = float(np.finfo(np.float32).tiny)


def read_detections(
    message: Detection2DArray,
    object_index: Callable[[str], int | None],
    image_size: tuple[int, int],
    score_threshold: float = 0.0,
    known: Sequence[str] = (),
) -> Detections:
    """Split an array into usable detections and rejected ones.

    Args:
        message: class of each detection is the one of its highest-score result.
        object_index: the network's index of a class_id, None if unknown (PoseEstimator.object_index).
        image_size: (H, W) in pixels.
        score_threshold: detections whose best score is lower, or NaN, are rejected.
        known: the class_ids to propose where one is unknown.
    """
    boxes, indices, class_ids, ids, rejected = [], [], [], [], []
    for number, detection in enumerate(message.detections):
        box = axis_aligned_box(detection)
        reason = _problem_with_result(detection, object_index, score_threshold, known) or _problem_with_box(
            box, image_size
        )
        if reason is not None:
            rejected.append((reason[0], f"detection {number} (id '{detection.id}'): {reason[1]}"))
            continue
        class_id = best_result(detection).class_id
        boxes.append(box)
        indices.append(object_index(class_id))
        class_ids.append(class_id)
        ids.append(detection.id)
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(indices, dtype=np.int64), class_ids, ids, rejected
    )


def image_key(message: Any) -> Key:
    """(stamp in ns, frame_id) of a message with a header."""
    header = message.header
    return header.stamp.sec * 10**9 + header.stamp.nanosec, header.frame_id


def best_result(detection: Detection2D) -> Any:
    """The ObjectHypothesis with the highest score; NaN is lower than any number. The detection must have results."""
    hypotheses = [result.hypothesis for result in detection.results]
    return max(hypotheses, key=lambda hypothesis: -np.inf if np.isnan(hypothesis.score) else hypothesis.score)


def axis_aligned_box(detection: Detection2D) -> np.ndarray:
    """The detection's box as (4,) float64 cx, cy, w, h; of a rotated one (theta != 0, radians) the box around it."""
    center, width, height = detection.bbox.center, detection.bbox.size_x, detection.bbox.size_y
    if center.theta != 0.0 and np.isfinite(center.theta):
        cosine, sine = abs(np.cos(center.theta)), abs(np.sin(center.theta))
        width, height = width * cosine + height * sine, width * sine + height * cosine
    elif center.theta != 0.0:
        width = np.nan
    return np.array([center.position.x, center.position.y, width, height])


def _problem_with_result(
    detection: Detection2D, object_index: Callable[[str], int | None], threshold: float, known: Sequence[str]
) -> tuple[str, str] | None:
    if not detection.results:
        return "no_hypothesis", "has no results, so no class"
    best = best_result(detection)
    # A NaN score must not pass.
    if not best.score >= threshold:
        return "low_score", f"score {best.score:.3g} of '{best.class_id}' is below score_threshold {threshold:g}"
    if object_index(best.class_id) is None:
        proposal = _proposal(best.class_id, tuple(known))
        return "unknown_class", f"class_id '{best.class_id}' is not in the bundle{proposal}"
    return None


@functools.lru_cache(maxsize=64)
def _proposal(class_id: str, known: tuple[str, ...]) -> str:
    """The class_id that may have been meant, else those that there are; a detector repeats its mistakes, so kept."""
    if not known:
        return ""
    lower = {name.lower(): name for name in known}
    # difflib's time grows with the square of the length, and a damaged message may hold any text.
    near = difflib.get_close_matches(class_id.lower(), lower, 1) if len(class_id) <= 64 else []
    if near:
        return f"; did you mean '{lower[near[0]]}'?"
    return f", which has {', '.join(known[:MOST_NAMED])}{', …' if len(known) > MOST_NAMED else ''}"


def _problem_with_box(box: np.ndarray, image_size: tuple[int, int]) -> tuple[str, str] | None:
    height, width = image_size
    cx, cy, w, h = box
    text = f"box centre ({cx:.5g}, {cy:.5g}), size {w:.5g}x{h:.5g} pixels"
    if not np.isfinite(box).all():
        return "non_finite_box", f"{text} is not finite"
    # What float32, the network's type, rounds to 0 is empty too.
    if not min(w, h) >= SMALLEST_BOX:
        return "empty_box", f"{text}: both sides must be greater than 0"
    # Pixel centres are at integers: the image reaches from -0.5 to W - 0.5.
    if cx + w / 2 <= -0.5 or cx - w / 2 >= width - 0.5 or cy + h / 2 <= -0.5 or cy - h / 2 >= height - 0.5:
        return "outside_image", f"{text} does not touch the image of {width}x{height}"
    if max(w, h) > LARGEST_BOX * max(width, height):
        return "oversized_box", f"{text} is over {LARGEST_BOX:g} times the image of {width}x{height}"
    return None


def camera_info_fits(info: Any, frame_id: str, size: tuple[int, int]) -> bool:
    """Whether a CameraInfo belongs to images of this frame_id and (height, width); height 0 leaves the size open."""
    return info.header.frame_id == frame_id and (not info.height or (info.height, info.width) == tuple(size))


def camera_matrix_from_info(message: Any, rectified: bool = False) -> np.ndarray | None:
    """K (3, 3) float32 in pixels of a CameraInfo (of its P if the image is rectified); None if all zero, i.e. unknown.

    Raises:
        ValueError: the matrix is neither zero nor a camera's (see geometry.cameras.check_camera_matrix).
    """
    values = np.array(message.p).reshape(3, 4)[:, :3] if rectified else np.array(message.k).reshape(3, 3)
    if not values.any():
        return None
    # What float32 cannot hold becomes infinite, and the check says so.
    with np.errstate(over="ignore"):
        matrix = values.astype(np.float32)
    check_camera_matrix(torch.from_numpy(matrix))
    return matrix
