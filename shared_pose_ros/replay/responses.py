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

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.replay.bag_frames import read_poses
from shared_pose_ros.replay.offline import load_image
from shared_pose_ros.replay.truth import AnsweredFrame, Key
from shared_pose_ros.ros.messages.detections import (
    axis_aligned_box,
    best_result,
    camera_info_fits,
    camera_matrix_from_info,
)
from shared_pose_ros.ros.messages.poses import position_known


@dataclass
class Answers:
    """The first answer to each detection array of the bag.

    Attributes:
        frames: the answers with the boxes that they are for.
        messages: the Detection3DArray messages, one a frame.
        truth: the bag's ground-truth messages.
        stamps: of all its images.
        strange: answers that fit no detection array of the bag, such as those to another publisher.
    """

    frames: list[AnsweredFrame] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    strange: int = 0


def answers_of(recording: Recording, topics: BagTopics, messages: Sequence[Any]) -> Answers:
    """Find for each published array the detections that it answers: those of its stamp and frame_id, by id and class.

    Args:
        recording: the bag that was played.
        topics: which of its messages were.
        messages: Detection3DArray messages in order of arrival; further answers to the same detections are left out.
    """
    found, times, sizes, asked, infos = Answers(), {}, {}, {}, []
    for record in recording.messages([name for name in topics.names if name != topics.depth]):
        try:
            message = record.message()
        except bag_io.BagError:
            continue  # it was played all the same, and whether the node could read it shows in its answers
        if record.topic == topics.truth:
            found.truth.append(message)
        elif record.topic == topics.camera_info:
            infos.append(message)
        elif record.topic == topics.image:
            times.setdefault(_key(message), record.time_ns)
            # A compressed one does not say; reading and decoding it again takes time in a long bag.
            sizes.setdefault(_key(message), (message.height, message.width) if hasattr(message, "height") else None)
        else:
            asked.setdefault(_key(message), []).append(message)
    found.stamps, answered = [stamp for stamp, _ in times], set()
    for message in messages:
        key = _key(message)
        arrays = asked.get(key, []) if key in times else []
        found_boxes = ((n, boxes) for n, array in enumerate(arrays) if (boxes := _boxes(array, message)) is not None)
        place, boxes = next(found_boxes, (None, None))
        if place is not None:
            del arrays[place]
            load = functools.partial(load_image, recording, topics.image, key, times[key])
            found.frames.append(_frame(message, boxes, infos, sizes[key] or load().shape[:2], load))
            found.messages.append(message)
            answered.add(key)
        else:
            found.strange += key not in answered
    return found


def _key(message: Any) -> Key:
    return bag_io.stamp_ns(message), message.header.frame_id


def _boxes(array: Any, answer: Any) -> np.ndarray | None:
    """The boxes of the answered detections ``(B, 4)``, in their order; None if the array lacks one of them."""
    left, boxes = iter(array.detections), []
    for entry in answer.detections:
        name = entry.id, entry.results[0].hypothesis.class_id
        # A node answers in the order of the array and leaves out what it cannot use.
        match = next((d for d in left if d.results and (d.id, best_result(d).class_id) == name), None)
        if match is None:
            return None
        boxes.append(axis_aligned_box(match))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _frame(
    message: Any, boxes: np.ndarray, infos: Sequence[Any], size: tuple[int, int], load: Callable[[], np.ndarray]
) -> AnsweredFrame:
    first = [entry.results[0] for entry in message.detections]
    located = any(position_known(result.pose) for result in first)
    return AnsweredFrame(
        stamp=bag_io.stamp_ns(message),
        frame_id=message.header.frame_id,
        size=size,
        # Without a position the node had no camera, whatever the bag holds.
        camera=_camera(infos, message.header.frame_id, size) if located else None,
        ids=[entry.id for entry in message.detections],
        class_ids=[result.hypothesis.class_id for result in first],
        boxes=boxes,
        poses=[candidates for _, candidates in read_poses(message)],
        load=load,
    )


def _camera(infos: Sequence[Any], frame_id: str, size: tuple[int, int]) -> np.ndarray | None:
    """K of the bag's first camera_info of that frame_id and size that holds one."""
    for info in infos:
        if camera_info_fits(info, frame_id, size):
            with suppress(ValueError):
                if (matrix := camera_matrix_from_info(info)) is not None:
                    return matrix
    return None
