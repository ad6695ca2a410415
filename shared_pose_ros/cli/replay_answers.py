"""What a running node published for a bag, put beside the bag's own messages, so that it can be scored and drawn.

Convention: boxes (cx, cy, w, h) in pixels, stamps in nanoseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_pose_ros.cli.replay_offline import load_image
from shared_pose_ros.evaluation import bag
from shared_pose_ros.evaluation.bag_truth import AnsweredFrame, Key
from shared_pose_ros.evaluation.recording import BagTopics, Recording
from shared_pose_ros.evaluation.replay import read_poses
from shared_pose_ros.ros.conversions import axis_aligned_box, best_result, camera_matrix_from_info
from shared_pose_ros.ros.poses import position_known


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
    found, times, asked, infos = Answers(), {}, {}, []
    for record in recording.messages([name for name in topics.names if name != topics.depth]):
        try:
            message = record.message()
        except bag.BagError:
            continue  # it was played all the same, and whether the node could read it shows in its answers
        if record.topic == topics.truth:
            found.truth.append(message)
        elif record.topic == topics.camera_info:
            infos.append(message)
        elif record.topic == topics.image:
            times.setdefault(_key(message), record.time_ns)
        else:
            asked.setdefault(_key(message), []).append(message)
    found.stamps, answered = [stamp for stamp, _ in times], set()
    for message in messages:
        key = _key(message)
        arrays = asked.get(key, []) if key in times else []
        pairs = [(array, boxes) for array in arrays if (boxes := _boxes(array, message)) is not None]
        if pairs:
            asked[key].remove(pairs[0][0])
            load = functools.partial(load_image, recording, topics.image, key, times[key])
            found.frames.append(_frame(message, pairs[0][1], infos, load))
            found.messages.append(message)
            answered.add(key)
        else:
            found.strange += key not in answered
    return found


def _key(message: Any) -> Key:
    return bag.stamp_ns(message), message.header.frame_id


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


def _frame(message: Any, boxes: np.ndarray, infos: Sequence[Any], load: Any) -> AnsweredFrame:
    size = load().shape[:2]
    first = [entry.results[0] for entry in message.detections]
    located = any(position_known(result.pose) for result in first)
    return AnsweredFrame(
        stamp=bag.stamp_ns(message),
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
    """K of the bag's first camera_info of that frame_id and size."""
    for info in infos:
        if info.header.frame_id == frame_id and (not info.height or (info.height, info.width) == size):
            return camera_matrix_from_info(info)
    return None
