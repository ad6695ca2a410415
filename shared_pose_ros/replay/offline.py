"""A bag through the node's own pipeline without ROS: the same pairing, decoding, stages, messages and counters.

What differs from the node is the clock (the times of recording, so that ages mean what they meant live) and that every
complete pair is served at once, as by a network that takes no time: nothing is ever superseded.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.pipeline.frame import Frame, Key, PublishedPoses
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.replay.truth import FrameResponse
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.message_pipeline import MessagePipeline
from shared_pose_ros.ros.messages.detections import image_key
from shared_pose_ros.ros.messages.images import rgb_from_compressed, rgb_from_image
from shared_pose_ros.ros.pairing import PairingBuffer, PairingLimits
from shared_pose_ros.ros.worker import Worker


@dataclass(frozen=True)
class Response:
    """The poses for one detection array.

    Attributes:
        time_ns: when the pair was complete (offline) or the poses came (live).
        poses: as published.
    """

    time_ns: int
    poses: PublishedPoses


@dataclass(frozen=True)
class OfflineResponse(Response):
    """A response of the pipeline in this process.

    Attributes:
        frame: what the poses were estimated from.
        image_time_ns: when its image was recorded.
    """

    frame: Frame
    image_time_ns: int


@dataclass(frozen=True)
class MessageAccounting:
    """What became of every message: for images, depth images and arrays alike, received = used (published) + counted.

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

    __hash__ = None  # type: ignore[assignment]  # Python's own way to say that it has none


class OfflineNode:
    """Takes recorded messages in their order and hands an OfflineResponse for each pair to ``respond``.

    Args:
        estimator: the loaded bundle.
        parameters: the node's, with the topic's image_transport.
        topics: which message is what.
        respond: called in the order in which pairs become complete.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        parameters: NodeParameters,
        topics: BagTopics,
        respond: Callable[[OfflineResponse], None],
    ) -> None:
        self.truth: list[Any] = []
        """The ground-truth messages read so far."""
        self._topics, self._respond = topics, respond
        self._statistics = Statistics()
        self._errors: list[str] = []
        self._worker = Worker(PairingBuffer(PairingLimits.of(parameters)), self._statistics, self._errors.append)
        self._pipeline = MessagePipeline(estimator, lambda: parameters, self._statistics)
        self._received: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()
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
            self._pipeline.camera_info = message
        elif record.topic == self._topics.truth:
            self._received["truth"] += 1
            self.truth.append(message)
        else:
            self._store(record.topic, message)

    def _store(self, topic: str, message: Received) -> None:
        key, buffer = image_key(message), self._worker.buffer
        # The node's worker looks after what is too old many times a second.
        buffer.expire(self._now)
        if topic == self._topics.depth:
            buffer.add_depth(*key, message, len(message.data), self._now)
            return
        if topic == self._topics.image:
            self._times.setdefault(key, self._time_ns)
            buffer.add_image(*key, message, len(message.data), self._now)
        else:
            buffer.add_detections(*key, message, self._now)
        self._worker.drain(self._pipeline, self._publish, self._now)

    def finish(self) -> MessageAccounting:
        """Let time pass until nothing waits any more."""
        self._now += self._worker.buffer.limits.max_age_seconds + 1.0
        self._worker.drain(self._pipeline, self._publish, self._now)
        snapshot = self._worker.snapshot()
        others = {name: self._received[name] for name in ("camera_info", "truth")}
        return MessageAccounting(
            received={**snapshot.received, **others},
            used=snapshot.used,
            published=snapshot.published,
            counters={name: snapshot.counters.get(name, 0) for name in COUNTERS},
            reasons=snapshot.reasons,
            damaged=dict(self._damaged),
            errors=self._errors,
            stamps=[stamp for stamp, _ in self._times],
        )

    def _publish(self, frame: Frame) -> None:
        self._respond(OfflineResponse(self._time_ns, frame.poses, frame, self._times[frame.poses.key]))


def frame_response(response: OfflineResponse, recording: Recording, image_topic: str) -> FrameResponse:
    """What is scored of an offline response; its image is decoded again when asked for, so that it need not be kept."""
    frame = response.frame
    load = functools.partial(load_image, recording, image_topic, frame.poses.key, response.image_time_ns)
    return FrameResponse(frame.poses, frame.detections.boxes, frame.image.shape[:2], frame.camera_matrix, load)


def load_image(recording: Recording, topic: str, key: Key, time_ns: int) -> NDArray[np.uint8]:
    """An image of the recording ``(H, W, 3)`` uint8 RGB, decoded as the node does; BagError if it is gone."""
    compressed = recording.topics[topic] == bag_io.COMPRESSED_IMAGE
    message = recording.find(topic, time_ns, lambda m: image_key(m) == key)
    return rgb_from_compressed(message) if compressed else rgb_from_image(message)


def replay(
    records: Iterable[bag_io.BagMessage],
    estimator: PoseEstimator,
    parameters: NodeParameters,
    topics: BagTopics,
    respond: Callable[[OfflineResponse], None],
) -> tuple[MessageAccounting, list[Any]]:
    """Run a bag's messages through the pipeline.

    Args:
        records: in order of recording.
        estimator: of ``pipeline.pose_pipeline.load_estimator``, for poses that are the node's to the last bit.
        parameters: the node's.
        topics: which message is what.
        respond: gets each OfflineResponse, in the order in which pairs become complete.

    Returns:
        (what became of every message, the ground-truth messages).
    """
    node = OfflineNode(estimator, parameters, topics, respond)
    for record in records:
        node.feed(record)
    return node.finish(), node.truth
