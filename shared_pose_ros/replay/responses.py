"""What a running node published for a bag, put beside the bag's own messages, so that it can be scored and drawn.

Convention: boxes (cx, cy, w, h) in pixels, stamps in nanoseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.pipeline.frame import Key, PublishedPoses
from shared_pose_ros.replay.offline import load_image
from shared_pose_ros.replay.truth import FrameResponse
from shared_pose_ros.ros.messages.detections import (
    axis_aligned_box,
    best_result,
    camera_info_fits,
    camera_matrix_from_info,
    image_key,
)


@dataclass
class Responses:
    """The first response to each detection array of the bag.

    Attributes:
        frames: the responses with the boxes that they are for.
        truth: the bag's ground-truth messages.
        stamps: of all its images.
        strange: responses that fit no detection array of the bag, such as those to another publisher.
    """

    frames: list[FrameResponse] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    strange: int = 0


def match_responses(recording: Recording, topics: BagTopics, published: Sequence[PublishedPoses]) -> Responses:
    """Find for each published array the detections that it is for: those of its stamp and frame_id, by id and class.

    Args:
        recording: the bag that was played.
        topics: which of its messages were.
        published: in order of arrival; further responses to the same detections are left out.
    """
    found, infos = Responses(), []
    times: dict[Key, int] = {}
    sizes: dict[Key, tuple[int, int] | None] = {}
    requests: dict[Key, list[Any]] = {}
    for record in recording.messages([name for name in topics.names if name != topics.depth]):
        try:
            message = record.message()
        except bag_io.BagError:
            continue  # it was played all the same, and whether the node could read it shows in its responses
        if record.topic == topics.truth:
            found.truth.append(message)
        elif record.topic == topics.camera_info:
            infos.append(message)
        elif record.topic == topics.image:
            times.setdefault(image_key(message), record.time_ns)
            # A compressed one does not say; reading and decoding it again takes time in a long bag.
            size = (message.height, message.width) if hasattr(message, "height") else None
            sizes.setdefault(image_key(message), size)
        else:
            requests.setdefault(image_key(message), []).append(message)
    found.stamps, matched = [stamp for stamp, _ in times], set()
    for poses in published:
        arrays = requests.get(poses.key, []) if poses.key in times else []
        fitting = ((n, boxes) for n, array in enumerate(arrays) if (boxes := _boxes(array, poses)) is not None)
        match = next(fitting, None)
        if match is not None:
            place, boxes = match
            del arrays[place]
            load = functools.partial(load_image, recording, topics.image, poses.key, times[poses.key])
            found.frames.append(_frame(poses, boxes, infos, sizes[poses.key] or load().shape[:2], load))
            matched.add(poses.key)
        else:
            found.strange += poses.key not in matched
    return found


def _boxes(array: Any, poses: PublishedPoses) -> NDArray[np.float32] | None:
    """The boxes of the detections ``(B, 4)`` that the poses are for, in their order; None if the array lacks one."""
    left, boxes = iter(array.detections), []
    for name in zip(poses.ids, poses.class_ids):
        # A node keeps the order of the array and leaves out what it cannot use.
        match = next((d for d in left if d.results and (d.id, best_result(d).class_id) == name), None)
        if match is None:
            return None
        boxes.append(axis_aligned_box(match))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _frame(
    poses: PublishedPoses,
    boxes: NDArray[np.float32],
    infos: Sequence[Any],
    size: tuple[int, int],
    load: Callable[[], NDArray[np.uint8]],
) -> FrameResponse:
    # Without a position the node had no camera, whatever the bag holds.
    camera = _camera(infos, poses.frame_id, size) if poses.located.any() else None
    return FrameResponse(poses, boxes, size, camera, load)


def _camera(infos: Sequence[Any], frame_id: str, size: tuple[int, int]) -> np.ndarray | None:
    """K of the bag's first camera_info of that frame_id and size that holds one."""
    for info in infos:
        if camera_info_fits(info, frame_id, size):
            with suppress(ValueError):
                if (matrix := camera_matrix_from_info(info)) is not None:
                    return matrix
    return None
