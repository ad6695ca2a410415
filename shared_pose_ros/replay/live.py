"""``shared_pose replay --live``: a bag over DDS against a running node, timed.

Times are seconds of the monotonic clock, stamps nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay.offline import Response
from shared_pose_ros.replay.player import Key, Player, Sent, header_key, play, spinning, wait
from shared_pose_ros.replay.results import Timing, grown, live_figures
from shared_pose_ros.ros.messages.poses import read_poses

RESPONSE_SECONDS = 10.0
"""After the last message, poses and diagnostics that have not come within this time are not waited for."""
DIAGNOSTICS_SECONDS = 3.0
"""A node publishes diagnostics once a second; without any in this time it is taken for one that has none."""
SETTLE_SECONDS = 1.0
"""For discovery in both directions, where no diagnostics tell when the node hears."""


@dataclass(frozen=True)
class LiveRun:
    """What came back.

    Attributes:
        responses: in order of arrival.
        figures: ``results.live_figures``.
        counters: by how much the node's counters grew; None without diagnostics.
        values: the node's last diagnostics, empty without.
        problem: why nothing was played, empty if something was.
    """

    responses: Sequence[Response]
    figures: Mapping[str, Any]
    counters: Mapping[str, int] | None
    values: Mapping[str, str]
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """How to play: options of the command of the same names; ``remap`` gives the topic to publish on by the bag's."""

    node: str
    rate: float
    loop: int
    clock: bool
    wait: float
    remap: Mapping[str, str]


def run_live(recording: Recording, topics: BagTopics, plan: Plan, say: Callable[[str], None]) -> LiveRun:
    """Wait for the node, play the bag, wait for its last responses."""
    given = (topics.camera_info, topics.image, topics.depth, topics.detections)
    inputs = [name for name in given if name is not None]
    target = {name: plan.remap.get(name, name) for name in inputs}
    outlets = {target[name]: recording.topics[name] for name in inputs}
    with spinning(lambda context: Player(context, outlets, plan.node, plan.clock)) as player:
        listened = [target[name] for name in inputs if name != topics.camera_info]
        if not wait(lambda: player.connected(listened), plan.wait):
            problem = player.missing(listened, plan.wait)
            return LiveRun([], live_figures([], 0, 0), None, {}, problem)
        _wait_until_heard(player, recording, topics, target)
        before = player.counters
        sent: list[Sent] = []
        say(f"playing {recording.path.name} {plan.loop} times at {plan.rate:g} times its speed")
        for loop in range(plan.loop):
            if loop:
                time.sleep(_period(sent, target[topics.image]))
            sent += play(player, _records(recording, inputs, target), plan.rate, loop)
        requests = len(_pairs(sent, target[topics.image], target[topics.detections]))
        wait(lambda: len(player.responses) >= requests, RESPONSE_SECONDS)
        finished = time.monotonic()
        if player.status is not None:
            wait(lambda: player.status_time > finished and player.settled, RESPONSE_SECONDS)
        counters = grown(before, player.counters) if player.status is not None else None
        values = {entry.key: entry.value for entry in player.status.values} if player.status else {}
        received = list(player.responses)
    images = sum(item.topic == target[topics.image] for item in sent)
    figures = live_figures(match(sent, received, target[topics.image], target[topics.detections]), requests, images)
    said = [Response(time.time_ns() - int((time.monotonic() - when) * 1e9), _poses(data)) for when, data in received]
    return LiveRun(said, figures, counters, values)


def match(sent: Sequence[Sent], received: Sequence[tuple[float, bytes]], image: str, detections: str) -> list[Timing]:
    """The timing of each response to a published pair; responses to what was not published here are left out.

    Args:
        sent: everything published, in order.
        received: (arrival, serialised poses).
        image: topic that images were published on.
        detections: topic that detections were published on.
    """
    waiting: dict[Key, list[tuple[float, float]]] = {}
    for key, image_time, detections_time in _pairs(sent, image, detections):
        waiting.setdefault(key, []).append((image_time, detections_time))
    found = []
    for arrival, data in received:
        # The latest publication of this stamp that came before the response: a bag may be looped.
        open_pairs = waiting.get(header_key(data), [])
        before = [pair for pair in open_pairs if max(pair) <= arrival]
        if before:
            open_pairs.remove(before[-1])
            found.append(Timing(*before[-1], arrival))
    return found


def _pairs(sent: Sequence[Sent], image: str, detections: str) -> list[tuple[Key, float, float]]:
    """(key, when its image, when its detections went out) of each detection array whose image was published too."""
    images = {(item.loop, item.key): item.time for item in sent if item.topic == image}
    return [
        (item.key, images[item.loop, item.key], item.time)
        for item in sent
        if item.topic == detections and (item.loop, item.key) in images
    ]


def _wait_until_heard(player: Player, recording: Recording, topics: BagTopics, target: Mapping[str, str]) -> None:
    """Best effort: what is sent before the node has found this publisher is lost."""
    topic = topics.camera_info
    first = None if topic is None else next(iter(recording.messages([topic])), None)
    if not wait(lambda: player.status is not None, DIAGNOSTICS_SECONDS) or topic is None or first is None:
        time.sleep(SETTLE_SECONDS)
        return
    known = player.value("received/camera_info")

    def heard() -> bool:
        player.play(target[topic], first.data)
        return player.value("received/camera_info") != known

    wait(heard, RESPONSE_SECONDS, pause=0.2)


def _records(
    recording: Recording, inputs: Sequence[str], target: Mapping[str, str]
) -> Iterator[tuple[str, int, bytes]]:
    for record in recording.messages(inputs):
        yield target[record.topic], record.time_ns, record.data


def _period(sent: Sequence[Sent], image: str) -> float:
    """Mean time between two images, 0 of fewer than two: the pause before a bag begins anew."""
    times = [item.time for item in sent if item.topic == image and item.loop == sent[-1].loop]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _poses(data: bytes) -> PublishedPoses:
    return read_poses(bag_io.message_types().deserialize_cdr(data, bag_io.DETECTIONS_3D))
