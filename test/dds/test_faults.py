"""What happens in cells, over a real DDS: faults of cameras and detectors, other parameters, another bundle."""

from __future__ import annotations

import array
import dataclasses
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
import torch
from bundle_facts import make_metadata
from diagnostic_msgs.msg import DiagnosticStatus
from harness import FRAME_ID, NodeProcess, Peer, camera_info, detection, wait_for, wait_quietly
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from test_node import books_balance
from vision_msgs.msg import Detection2DArray, Detection3DArray

from shared_pose_ros.bundle import export_bundle
from shared_pose_ros.ros.diagnostics.keys import documented

PERIOD_MS = 33
FRAMES = 48
SIZES = ((48, 64), (96, 128))
PARAMETERS = """
/**:
  ros__parameters:
    pairing_slop_seconds: 0.005
    image_buffer_seconds: 1.0
    time_jump_seconds: 0.5
    image_bufer_count: 7
    qos_overrides:
      /image:
        subscription:
          depth: 7
"""


@pytest.fixture(scope="module")
def node(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with a slop, and with two parameters that it does not have."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "parameters.yaml").write_text(PARAMETERS)
    process = NodeProcess(
        folder / "log.txt", params_file=folder / "parameters.yaml", bundle=tiny_bundle, max_batch=2, use_sim_time=False,
        score_treshold=0.5,
    )  # fmt: skip
    yield process
    code = process.end()
    assert code == 0 and "[ERROR]" not in process.log and "Traceback" not in process.log, process.log


def small_image(size: tuple[int, int] = SIZES[0]) -> Image:
    height, width = size
    data = array.array("B", np.full((height, width, 3), 90, np.uint8).tobytes())
    return Image(height=height, width=width, step=3 * width, encoding="rgb8", data=data)


def boxes(class_id: str, count: int = 1, detector: str = "a", score: float = 0.9) -> Detection2DArray:
    entries = [detection(class_id, (20.0 + n, 20.0, 16.0, 12.0), f"{detector}{n}", score) for n in range(count)]
    return Detection2DArray(detections=entries)


def told(peer: Peer, words: str) -> bool:
    """Whether the latest diagnostics' message has the words."""
    return bool(peer.diagnostics) and words in peer.diagnostics[-1].message


class Recording:
    """1.6 s of a camera and two detectors with every fault there is, played as often as one likes."""

    def __init__(self, class_id: str) -> None:
        chance, self.base = random.Random(4), 50_000
        self.events: list[tuple[float, str, Any]] = []
        self.sent = {"images": 0, "detections": 0}
        for number in range(FRAMES):
            now = float(number * PERIOD_MS)
            picture = self._stamped(small_image(SIZES[number > FRAMES // 2]), now)
            # Dropped, twice, or after the next one.
            copies = 0 if number == 9 else 2 if number == 14 else 1
            self._add("images", now + (1.5 * PERIOD_MS if number % 11 == 5 else 0.0), picture, copies)
            for detector in "ab":
                latency = 1350 if (number, detector) == (20, "a") else chance.uniform(0, 800)
                frame_id = "elsewhere" if (number, detector) == (30, "b") else FRAME_ID
                # The detector's clock is off by up to 2 ms.
                array_message = self._stamped(boxes(class_id, 1, detector), now + chance.uniform(-2, 2), frame_id)
                dropped = chance.random() < 0.1 and (number, detector) not in ((20, "a"), (30, "b"), (40, "b"))
                copies = 2 if (number, detector) == (40, "b") else 0 if dropped else 1
                self._add("detections", now + latency, array_message, copies)
        self.events.sort(key=lambda event: event[0])

    def play(self, peer: Peer, clock: Any) -> None:
        """In real time, with /clock going along: it starts again with each call."""
        start = time.monotonic()
        for due, stream, message in self.events:
            time.sleep(max(0.0, start + due / 1000 - time.monotonic()))
            tick = Clock()
            tick.clock.sec, tick.clock.nanosec = divmod(int((self.base + due) * 1e6), 10**9)
            clock.publish(tick)
            (peer.image if stream == "images" else peer.detections).publish(message)
            self.sent[stream] += 1

    def _stamped(self, message: Any, stamp_ms: float, frame_id: str = FRAME_ID) -> Any:
        message.header.frame_id = frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(int((self.base + stamp_ms) * 1e6), 10**9)
        return message

    def _add(self, stream: str, due: float, message: Any, copies: int) -> None:
        self.events += [(due, stream, message)] * copies


@pytest.fixture(scope="module")
def peer(node: NodeProcess, class_ids: list[str]) -> Iterator[Peer]:
    """A peer that has got poses; the node's stamps are far from those of the recording."""
    with harness.peer() as made:
        made._stamp = 10_000 * 10**9
        made.greet(class_ids[0])
        yield made


def test_unknown_parameters_are_named_with_the_nearest_known_one(node: NodeProcess, peer: Peer) -> None:
    for wrong, right in (("score_treshold", "score_threshold"), ("image_bufer_count", "image_buffer_count")):
        sentence = f"parameter '{wrong}' is unknown and has no effect; did you mean '{right}'?"
        assert "[WARN]" in node.log and sentence in node.log
        wait_for(lambda sentence=sentence: told(peer, sentence), "the name in diagnostics")
        assert f"{wrong} ({right}?)" in peer.values()["unknown_parameters"]
    assert "use_sim_time" not in peer.values()["unknown_parameters"] and "qos_overrides" not in node.log
    assert peer.diagnostics[-1].level == DiagnosticStatus.WARN
    assert not peer.set_parameter("score_treshold", 0.4).successful


def test_the_values_published_are_the_documented_ones(node: NodeProcess, peer: Peer, class_ids: list[str]) -> None:
    header = peer.send(small_image(), boxes(class_ids[0]))
    wait_for(lambda: peer.answer(header) is not None, "poses")
    values = peer.settle()
    assert list(values) == list(documented())
    assert (values["device"], values["state"]) == ("cuda" if torch.cuda.is_available() else "cpu", "active")
    if not torch.cuda.is_available():
        assert values["device_reason"] == "auto: torch finds no GPU that it can use"
        assert "on cpu (auto: torch finds no GPU that it can use)" in node.log
    for key in (
        "rate/image_hz",
        "age/pair_s",
        "memory/resident_mib",
        "batch/mean",
        "threads/torch",
        "latency/wait_p99_s",
    ):
        assert float(values[key] or 0) > 0, key
    assert (values["memory/gpu_allocated_mib"] == "") == (values["device"] == "cpu")


def test_every_fault_of_camera_and_detectors_is_answered_or_named(
    node: NodeProcess, peer: Peer, class_ids: list[str]
) -> None:
    """Latency 0 to 800 ms at 30 Hz, drops, repeats, reorders, late arrays, two detectors, clocks, a bag loop, sizes."""
    before, diagnosed = peer.settle(), len(peer.diagnostics)
    assert peer.set_parameter("use_sim_time", True).successful
    clock, recording = peer.create_publisher(Clock, "/clock", 10), Recording(class_ids[0])
    seen = len(peer.poses)
    for _ in range(2):
        recording.play(peer, clock)
    played = len(peer.diagnostics)
    # The first one may have been made before the last message came.
    wait_for(
        lambda: (
            len(peer.diagnostics) > played + 1
            and [peer.values()[f"pending/{stream}"] for stream in recording.sent] == ["0", "0"]
        ),
        "diagnostics at rest",
    )
    after = peer.values()
    stamp = recording.base * 10**6
    assert stamp <= peer.diagnosed < stamp + 10**10, "the node does not follow /clock"
    assert peer.set_parameter("use_sim_time", False).successful
    peer.destroy_publisher(clock)
    assert books_balance(after), after

    def grown(key: str) -> int:
        return int(after[key]) - int(before[key])

    # The wire may lose a message, nothing else.
    for stream, number in recording.sent.items():
        assert number - 3 <= grown(f"received/{stream}") <= number
    assert grown("counter/time_jumps") == 2
    for name in (
        "duplicate_image",
        "duplicate_detection",
        "late_detection",
        "frame_id_mismatch",
        "unmatched_detection",
    ):
        assert grown(f"counter/{name}") > 0, name
    assert grown("counter/estimator_error") == grown("counter/publish_error") == 0
    assert grown("published/poses") > FRAMES
    late = [status.message for status in peer.diagnostics[diagnosed:] if "ms after their image" in status.message]
    assert late and "raise image_buffer_seconds" in late[0]
    detectors = {entry.id for answer in peer.poses[seen:] for entry in answer.detections}
    assert detectors == {"a0", "b0"}


def test_a_camera_info_of_another_size_is_explained(node: NodeProcess, peer: Peer, class_ids: list[str]) -> None:
    peer.camera_info.publish(peer.stamp(camera_info()))

    def explained() -> bool:
        peer.send(small_image(), boxes(class_ids[0]))
        time.sleep(0.1)
        return told(peer, f"camera_info of '{FRAME_ID}' 640x480, image of '{FRAME_ID}' 64x48")

    wait_for(explained, "both sizes in diagnostics")
    assert told(peer, "connect the camera_info of this camera and resolution")


def test_dynamic_parameters_hold_from_the_next_frame_on(node: NodeProcess, peer: Peer, class_ids: list[str]) -> None:
    def answer(**options: Any) -> Detection3DArray:
        header = peer.send(small_image(), boxes(class_ids[0], 4, **options))
        wait_for(lambda: peer.answer(header) is not None, "poses")
        return peer.answer(header)

    assert len(answer().detections[0].results) > 1
    assert peer.settle()["batch/last"] == "2"
    assert peer.set_parameter("hypotheses", 1).successful and peer.set_parameter("max_batch", 4).successful
    assert {len(entry.results) for entry in answer().detections} == {1}
    values = peer.settle()
    assert values["batch/last"] == values["batch/max"] == "4" and values["counter/warm_up_error"] == "0"
    assert peer.set_parameter("score_threshold", 0.5).successful
    assert answer(score=0.4).detections == [] and len(answer(score=0.6).detections) == 4
    assert not peer.set_parameter("max_batch", 0).successful
    pictures: list[Image] = []
    assert peer.set_parameter("debug_drawing", False).successful
    subscription = peer.create_subscription(Image, "shared_pose_node/debug_image", pictures.append, 1)
    wait_for(lambda: peer.count_publishers("shared_pose_node/debug_image") > 0, "discovery")
    for _ in range(5):
        answer()
    assert not wait_quietly(lambda: bool(pictures), 0.5)
    assert peer.set_parameter("debug_drawing", True).successful

    def drawn() -> bool:
        answer()
        return wait_quietly(lambda: bool(pictures), 0.2)

    wait_for(drawn, "debug image")
    peer.destroy_subscription(subscription)
    for name, value in (("hypotheses", 0), ("score_threshold", 0.0), ("max_batch", 2)):
        assert peer.set_parameter(name, value).successful


def test_peers_that_cannot_hear_or_be_heard_are_named(node: NodeProcess, peer: Peer) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = peer.create_subscription(Detection3DArray, "shared_pose_node/poses", lambda _: None, latched)
    with harness.peer(CompressedImage):
        wait_for(
            lambda: told(peer, "/CompressedImage, this node sensor_msgs/msg/Image: set image_transport"), "the type"
        )
        clash = "(Volatile publisher and transient local subscription)"
        assert told(peer, f"'/shared_pose_node/poses': the QoS of node 'peer' is incompatible {clash}")
        assert not told(peer, "vision_info")
    peer.destroy_subscription(subscription)
    wait_for(lambda: not told(peer, "node 'peer'"), "diagnostics without them")


def test_another_bundle_without_a_restart(
    node: NodeProcess, peer: Peer, class_ids: list[str], tiny_network: Any, tmp_path: Path
) -> None:
    metadata = make_metadata()
    renamed = [dataclasses.replace(item, class_id=f"other_{item.class_id}", aliases=()) for item in metadata.objects]
    other = tmp_path / "other.pose.pt"
    export_bundle(tiny_network, dataclasses.replace(metadata, name="other", objects=tuple(renamed)), other)
    before = peer.values()
    assert peer.transition("deactivate") and peer.transition("cleanup")
    wait_for(lambda: peer.values()["state"] == "unconfigured", "state in diagnostics")
    assert list(peer.values()) == list(documented()) and peer.values()["bundle"] == ""
    assert peer.set_parameter("bundle", str(other)).successful
    assert peer.transition("configure") and peer.transition("activate")
    peer.greet(f"other_{class_ids[0]}", small_image())
    after = peer.values()
    assert (before["bundle"], after["bundle"]) == ("tiny", "other")
    header = peer.send(small_image(), boxes(class_ids[0]))
    wait_for(lambda: peer.answer(header) is not None, "poses")
    assert peer.answer(header).detections == []
    assert "other_" in peer.infos[-1].database_location and node.alive
