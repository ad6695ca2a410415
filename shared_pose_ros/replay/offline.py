"""A bag through the node's inside without ROS: the same pairing, decoding, estimate, messages and counters.

What differs from the node is the clock (the times of recording, so that ages mean what they meant live) and that every
complete pair is served at once, as by a network that takes no time: nothing is ever superseded.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.replay.bag_frames import read_poses
from shared_pose_ros.replay.truth import AnsweredFrame, Key
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.diagnostics.statistics import Statistics
from shared_pose_ros.ros.messages.images import rgb_from_compressed, rgb_from_image
from shared_pose_ros.ros.messages.poses import PosesWriter, published_rotations
from shared_pose_ros.ros.pairing import PairingBuffer, limits_from
from shared_pose_ros.ros.pipeline import Frame, FrameEstimator
from shared_pose_ros.ros.temporal_filter import Tracks
from shared_pose_ros.ros.worker import Worker


@dataclass(frozen=True)
class Reply:
    """What was answered for one detection array.

    Attributes:
        time_ns: when the pair was complete (offline) or the poses came (live).
        message: a Detection3DArray as read by ``rosbags``.
        frame: what it was made from; None where a node answered.
        picture: the frame as the estimator saw it, offline.
    """

    time_ns: int
    message: Any
    frame: AnsweredFrame | None = None
    picture: Frame | None = None


@dataclass(frozen=True)
class Books:
    """What became of every message: for images, depth images and arrays alike, received = used (published) + counters.

    Attributes:
        received: images, detections, depth, camera_info and truth messages that could be read.
        used: images that were part of a pair, and depth (images) that a pair used.
        published: poses (messages) and objects.
        counters: the node's (docs/reference/counters.md), zeros included.
        reasons: the latest reason by counter.
        damaged: messages that could not be read, by topic.
        errors: unexpected errors with their origin.
        stamps: of all images received.
    """

    received: dict[str, int]
    used: dict[str, int]
    published: dict[str, int]
    counters: dict[str, int]
    reasons: dict[str, str]
    damaged: dict[str, int]
    errors: list[str]
    stamps: list[int]


class Received:
    """A recorded message by its fields. Equal to one of the same bytes: the pairing looks for repeated arrays."""

    def __init__(self, record: bag_io.BagMessage) -> None:
        self._message, self._data = record.message(), record.data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Received) and self._data == other._data

    __hash__ = None


class OfflineNode:
    """Takes recorded messages in their order and hands a Reply for each pair to ``answer``."""

    def __init__(
        self, estimator: PoseEstimator, settings: SimpleNamespace, topics: BagTopics, answer: Callable[[Reply], None]
    ) -> None:
        """``settings`` are the node's parameters (ros.parameters), with the topic's image_transport."""
        self.truth: list[Any] = []
        """The ground-truth messages read so far."""
        self.load: Callable[[Key, int], np.ndarray] | None = None
        """Decodes an image again, by its key and time of recording."""
        self._settings, self._topics, self._answer = settings, topics, answer
        self._writer = PosesWriter(estimator.metadata, bag_io.message_types().types)
        self._statistics, self._errors = Statistics(), []
        self._worker = Worker(PairingBuffer(limits_from(settings)), self._statistics, self._errors.append)
        self._tracks = Tracks(estimator.metadata)
        self._frames = FrameEstimator(estimator, lambda: settings, self._statistics, self._tracks)
        self._received, self._damaged = Counter(), Counter()
        self._times: dict[Key, int] = {}
        self._start: int | None = None
        self._time_ns, self._now = 0, 0.0

    def feed(self, record: bag_io.BagMessage) -> None:
        """Take one message; damaged ones are counted."""
        self._start = record.time_ns if self._start is None else self._start
        self._time_ns = record.time_ns
        # The pairing's clock never goes back.
        self._now = max(self._now, (record.time_ns - self._start) * 1e-9)
        try:
            message = Received(record)
        except bag_io.BagError:
            self._damaged[record.topic] += 1
            return
        if record.topic == self._topics.camera_info:
            self._received["camera_info"] += 1
            self._frames.camera_info = message
        elif record.topic == self._topics.truth:
            self._received["truth"] += 1
            self.truth.append(message)
        elif record.topic == self._topics.depth:
            depth = self._worker.depth
            depth.add(bag_io.stamp_ns(message), message.header.frame_id, message, len(message.data), self._now)
        else:
            stamp, frame_id, buffer = bag_io.stamp_ns(message), message.header.frame_id, self._worker.buffer
            # The node's worker looks after what is too old many times a second.
            buffer.expire(self._now)
            if record.topic == self._topics.image:
                self._times.setdefault((stamp, frame_id), record.time_ns)
                buffer.add_image(stamp, frame_id, message, len(message.data), self._now)
            else:
                buffer.add_detections(stamp, frame_id, message, self._now)
            self._worker.drain(self._frames, self._publish, self._now)

    def finish(self) -> Books:
        """Let time pass until nothing waits any more; returns the books."""
        self._now += self._worker.buffer.limits.max_age_seconds + 1.0
        self._worker.drain(self._frames, self._publish, self._now)
        snapshot = self._worker.snapshot()
        return Books(
            received={
                **snapshot.received,
                "camera_info": self._received["camera_info"],
                "truth": self._received["truth"],
            },
            used=snapshot.used,
            published=snapshot.published,
            counters={name: snapshot.counters.get(name, 0) for name in COUNTERS},
            reasons=snapshot.reasons,
            damaged=dict(self._damaged),
            errors=self._errors,
            stamps=[stamp for stamp, _ in self._times],
        )

    def _publish(self, frame: Frame) -> None:
        objects = frame.objects
        message = self._writer.write(frame.header, objects, frame.estimate, self._settings, frame.tracked.last)
        if frame.tracked.followed:
            self._tracks.remember(frame.tracked, published_rotations(message))
        key = bag_io.stamp_ns(message), frame.header.frame_id
        answered = AnsweredFrame(
            stamp=key[0],
            frame_id=key[1],
            size=frame.image.shape[:2],
            camera=frame.camera_matrix,
            ids=objects.ids,
            class_ids=objects.class_ids,
            boxes=objects.boxes,
            poses=[candidates for _, candidates in read_poses(message)],
            load=functools.partial(self.load, key, self._times[key]) if self.load else lambda: frame.image,
        )
        self._answer(Reply(self._time_ns, message, answered, frame))


def load_image(recording: Recording, topic: str, key: Key, time_ns: int) -> np.ndarray:
    """An image of the recording ``(H, W, 3)`` uint8 RGB, decoded as the node does; BagError if it is gone."""
    compressed = recording.topics[topic] == bag_io.COMPRESSED_IMAGE
    message = recording.find(topic, time_ns, lambda m: (bag_io.stamp_ns(m), m.header.frame_id) == key)
    return rgb_from_compressed(message) if compressed else rgb_from_image(message)


def replay(
    records: Iterable[bag_io.BagMessage],
    estimator: PoseEstimator,
    settings: SimpleNamespace,
    topics: BagTopics,
    answer: Callable[[Reply], None],
    load: Callable[[Key, int], np.ndarray] | None = None,
) -> tuple[Books, list[Any]]:
    """Run a bag's messages through the estimator.

    Args:
        records: in order of recording.
        estimator: of ``ros.pipeline.load_estimator``, for answers that are the node's to the last bit.
        settings: the node's parameters.
        topics: which message is what.
        answer: gets each Reply, in the order in which pairs become complete.
        load: decodes an image again, by key and time of recording; without it the answers keep their images.

    Returns:
        (the books, the ground-truth messages).
    """
    node = OfflineNode(estimator, settings, topics, answer)
    node.load = load
    for record in records:
        node.feed(record)
    return node.finish(), node.truth
