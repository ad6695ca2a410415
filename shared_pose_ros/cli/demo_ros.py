"""The demo's two ends of the wire: the node as a process of its own, and around it a camera, a detector and a planner.

The player publishes the recorded bytes with the stamps of the bag, best effort as cameras do; the planner is a plain
subscriber of the poses. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage
from vision_msgs.msg import Detection2DArray, Detection3DArray, VisionInfo

from shared_pose_ros.cli.demo_results import Recording
from shared_pose_ros.evaluation.evaluate import Candidates
from shared_pose_ros.evaluation.replay import CAMERA_INFO_TOPIC, DETECTIONS_TOPIC, IMAGE_TOPIC, BagFrame
from shared_pose_ros.geometry.rotations import rotation_from_quaternion
from shared_pose_ros.resources import share_folder

NODE = "shared_pose_node"
START_SECONDS = 90.0
"""The node loads torch and warms its network within this time, also on a busy machine."""
ANSWER_SECONDS = 10.0
"""After the last frame, poses and diagnostics that have not come within this time are not waited for."""
STOP_SECONDS = 20.0


class DemoError(RuntimeError):
    """The node did not start or did not answer; the message is one sentence with the reason."""


def prepare_environment() -> None:
    """Keep the demo to this machine and let images pass: what the user has set stays. Call it before ROS starts."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Two demos, or a demo and a robot, must not hear each other.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(share_folder() / "config" / "fastdds.xml"))


class NodeProcess:
    """`python -m shared_pose_ros.ros.node` with its log in a file; a context manager that leaves no process behind."""

    def __init__(self, bundle: Path, log: Path) -> None:
        self.log = log
        remaps = {"image": IMAGE_TOPIC, "camera_info": CAMERA_INFO_TOPIC, "detections": DETECTIONS_TOPIC}
        values = {"bundle": bundle.resolve(), "image_transport": "compressed"}
        arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        arguments += [word for name, topic in remaps.items() for word in ("-r", f"{name}:={topic}")]
        command = [sys.executable, "-m", "shared_pose_ros.ros.node", "--ros-args", *arguments]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """Raise DemoError with the log's last line if the process has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(empty)"]
            raise DemoError(f"the node ended with exit code {code}: {lines[-1]} (log: {self.log})")

    def stop(self) -> int:
        """Send SIGINT and return the exit code; DemoError if the node does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the node did not end within {STOP_SECONDS:g} s of SIGINT (log: {self.log})") from None

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            # SIGINT first: a killed node leaves its shared memory behind.
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Cell(Node):
    """Camera, detector and grasp planner of the demo."""

    def __init__(self, context: Context) -> None:
        super().__init__("demo_cell", context=context)
        self.poses: dict[int, tuple[float, Detection3DArray]] = {}
        self.active = False
        self.status: DiagnosticStatus | None = None
        self.status_time = 0.0
        self._outlets = {
            topic: self.create_publisher(kind, topic, qos_profile_sensor_data)
            for topic, kind in (
                (CAMERA_INFO_TOPIC, CameraInfo),
                (IMAGE_TOPIC, CompressedImage),
                (DETECTIONS_TOPIC, Detection2DArray),
            )
        }
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Detection3DArray, f"{NODE}/poses", self._keep_poses, 100)
        self.create_subscription(VisionInfo, f"{NODE}/vision_info", self._note_active, latched)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep_status, 10)

    def play(self, topic: str, data: bytes) -> None:
        """Publish a recorded message as it is."""
        self._outlets[topic].publish(data)

    @property
    def connected(self) -> bool:
        """Whether the node listens to all three topics."""
        return all(publisher.get_subscription_count() for publisher in self._outlets.values())

    def value(self, key: str) -> str:
        """A value of the node's latest diagnostics, empty if unknown."""
        entries = self.status.values if self.status else ()
        return next((entry.value for entry in entries if entry.key == key), "")

    @property
    def counters(self) -> dict[str, int]:
        """All counters of the node's latest diagnostics."""
        prefix = "counter/"
        entries = self.status.values if self.status else ()
        return {e.key.removeprefix(prefix): int(e.value) for e in entries if e.key.startswith(prefix)}

    def _keep_poses(self, message: Detection3DArray) -> None:
        now = time.monotonic()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.poses.setdefault(stamp, (now, message))

    def _note_active(self, _: VisionInfo) -> None:
        self.active = True

    def _keep_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if NODE in status.name:
                self.status, self.status_time = status, time.monotonic()


def run_live(frames: Sequence[BagFrame], bundle: Path, rate: float, log: Path, say: Callable[[str], None]) -> Recording:
    """Start the node, play the frames at ``rate`` Hz, collect what it publishes, stop it.

    Raises:
        DemoError: the node does not start, does not hear the player, or does not stop.
    """
    with NodeProcess(bundle, log) as node, _cell() as cell:
        say(f"node started, log in {log}")
        _wait_until_active(node, cell, frames[0])
        say(f"node active; playing {len(frames)} frames at {rate:g} Hz")
        sent = _play(frames, rate, cell)
        _wait(lambda: len(cell.poses) >= len(frames), ANSWER_SECONDS, node)
        asked = time.monotonic()
        _wait(lambda: cell.status_time > asked and _settled(cell), ANSWER_SECONDS, node)
        counters, name, digest = cell.counters, cell.value("bundle"), cell.value("weights_sha256")
        code = node.stop()
    answers = dict(cell.poses)
    return Recording(
        frames_in=len(frames),
        poses={stamp: read_poses(message) for stamp, (_, message) in answers.items()},
        asked={frame.stamp: tuple(frame.boxes) for frame in frames},
        latencies=[when - sent[stamp] for stamp, (when, _) in answers.items() if stamp in sent],
        counters=counters,
        bundle=name,
        weights_sha256=digest,
        exit_code=code,
    )


def read_poses(message: Detection3DArray) -> dict[str, Candidates]:
    """Hypotheses by detection id, in the order published."""
    found = {}
    for detection in message.detections:
        poses = [result.pose.pose for result in detection.results]
        quaternions = [[p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w] for p in poses]
        found[detection.id] = Candidates(
            rotations=rotation_from_quaternion(torch.tensor(quaternions, dtype=torch.float64)).numpy(),
            translations=np.array([[p.position.x, p.position.y, p.position.z] for p in poses]),
            confidence=detection.results[0].hypothesis.score,
        )
    return found


def _wait_until_active(node: NodeProcess, cell: Cell, first: BagFrame) -> None:
    def ready() -> bool:
        if cell.status is not None and cell.status.level == DiagnosticStatus.ERROR:
            raise DemoError(f"the node reports: {cell.status.message} (log: {node.log})")
        return cell.active and cell.connected

    if not _wait(ready, START_SECONDS, node):
        raise DemoError(f"the node was not active within {START_SECONDS:g} s (log: {node.log})")

    def heard() -> bool:
        # Best effort: what is sent before the node has found this publisher is lost, so ask until it was heard.
        cell.play(CAMERA_INFO_TOPIC, first.messages[CAMERA_INFO_TOPIC].data)
        return cell.value("received/camera_info") not in ("", "0")

    if not _wait(heard, START_SECONDS, node, 0.2):
        raise DemoError(f"the node does not hear the player: does DDS work between processes here? (log: {node.log})")


def _play(frames: Sequence[BagFrame], rate: float, cell: Cell) -> dict[int, float]:
    """Publish every frame on time; returns by stamp when the later of image and detections went out."""
    sent = {}
    start = time.monotonic()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        for topic in (CAMERA_INFO_TOPIC, IMAGE_TOPIC):
            cell.play(topic, frame.messages[topic].data)
        sent[frame.stamp] = time.monotonic()
        cell.play(DETECTIONS_TOPIC, frame.messages[DETECTIONS_TOPIC].data)
    return sent


def _settled(cell: Cell) -> bool:
    return cell.value("pending/images") == "0" and cell.value("pending/detections") == "0"


def _wait(condition: Callable[[], bool], seconds: float, node: NodeProcess, pause: float = 0.01) -> bool:
    """Whether the condition came true within the time, while the node lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        node.check()
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@contextmanager
def _cell() -> Iterator[Cell]:
    """A Cell served by a thread of its own."""
    context = Context()
    rclpy.init(context=context)
    cell = Cell(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(cell)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, name="demo cell")
    thread.start()
    try:
        yield cell
    finally:
        executor.shutdown()
        context.try_shutdown()
        thread.join()
        cell.destroy_node()
