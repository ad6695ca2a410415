"""The demo's two ends of the wire: the node as a process of its own, and around it the player of the recorded cell.

Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

from shared_pose_ros.bags import bag_io
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay.bag_frames import CAMERA_INFO_TOPIC, DETECTIONS_TOPIC, IMAGE_TOPIC, BagFrame, by_id
from shared_pose_ros.replay.demo_results import Recording
from shared_pose_ros.replay.player import Player, play, spinning, wait
from shared_pose_ros.resources import set_dds_profile
from shared_pose_ros.ros.messages.poses import read_poses

REMAPS = {"image": IMAGE_TOPIC, "camera_info": CAMERA_INFO_TOPIC, "detections": DETECTIONS_TOPIC}
TYPES = {
    CAMERA_INFO_TOPIC: bag_io.CAMERA_INFO,
    IMAGE_TOPIC: bag_io.COMPRESSED_IMAGE,
    DETECTIONS_TOPIC: bag_io.DETECTIONS_2D,
}
START_SECONDS = 90.0
"""The node loads torch and warms its network within this time, also on a busy machine."""
RESPONSE_SECONDS = 10.0
"""After the last frame, poses and diagnostics that have not come within this time are not waited for."""
LOST_SECONDS = 3.0
"""A frame whose poses have not come within this time is not waited for with the next one."""
STOP_SECONDS = 20.0


class DemoError(RuntimeError):
    """The node did not start or did not respond; the message is one sentence with the reason."""


def prepare_environment() -> None:
    """Keep the demo to this machine and let images pass: what the user has set stays. Call it before ROS starts."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Two demos, or a demo and a robot, must not hear each other.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    set_dds_profile()


class NodeProcess:
    """`python -m shared_pose_ros.ros.node` with its log in a file; a context manager that leaves no process behind."""

    def __init__(self, log: Path, remaps: Mapping[str, str], parameters: Mapping[str, object]) -> None:
        """Start it; `remaps` gives the topic by the node's name for it, `parameters` values by name."""
        self.log = log
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        arguments += [word for name, topic in remaps.items() for word in ("-r", f"{name}:={topic}")]
        command = [sys.executable, "-m", "shared_pose_ros.ros.node", "--ros-args", *arguments]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

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


def run_live(frames: Sequence[BagFrame], bundle: Path, rate: float, log: Path, say: Callable[[str], None]) -> Recording:
    """Start the node, play the frames at ``rate`` Hz or as fast as it responds, collect what it publishes, stop it.

    Raises:
        DemoError: the node does not start, does not hear the player, or does not stop.
    """
    parameters = {"bundle": bundle.resolve(), "image_transport": "compressed"}
    with NodeProcess(log, REMAPS, parameters) as node, spinning(lambda context: Player(context, TYPES)) as cell:
        say(f"node started, log in {log}")
        _wait_until_active(node, cell, frames[0])
        say(f"node active; playing {len(frames)} frames at {rate:g} Hz")
        sent = {
            item.key[0]: item.time for item in play(cell, _records(frames, rate, cell)) if item.topic == IMAGE_TOPIC
        }
        wait(lambda: len(cell.responses) >= len(frames), RESPONSE_SECONDS, node.check)
        finished = time.monotonic()
        wait(lambda: cell.status_time > finished and cell.settled, RESPONSE_SECONDS, node.check)
        counters, name, digest = cell.counters, cell.value("bundle"), cell.value("weights_sha256")
        code = node.stop()
    responses: dict[int, tuple[float, PublishedPoses]] = {}
    for when, data in cell.responses:
        poses = read_poses(bag_io.message_types().deserialize_cdr(data, bag_io.DETECTIONS_3D))
        responses.setdefault(poses.stamp, (when, poses))
    return Recording(
        frames_in=len(frames),
        poses={stamp: by_id(poses) for stamp, (_, poses) in responses.items()},
        requests={frame.stamp: tuple(frame.boxes) for frame in frames},
        latencies=[when - sent[stamp] for stamp, (when, _) in responses.items() if stamp in sent],
        counters=counters,
        bundle=name,
        weights_sha256=digest,
        exit_code=code,
    )


def _records(frames: Sequence[BagFrame], rate: float, cell: Player) -> Iterator[tuple[str, int, bytes]]:
    """What to publish when, each frame once the node has responded to those before it.

    A cell's camera does not wait, and a node that is too slow for it passes images over. Here that would only say that
    this machine is slow or busy.
    """
    for number, frame in enumerate(frames):
        wait(lambda: len(cell.responses) >= number, LOST_SECONDS, pause=0.001)  # noqa: B023
        for topic in TYPES:
            yield topic, round(number * 1e9 / rate), frame.messages[topic].data


def _wait_until_active(node: NodeProcess, cell: Player, first: BagFrame) -> None:
    def ready() -> bool:
        if cell.status is not None and cell.status.level == DiagnosticStatus.ERROR:
            raise DemoError(f"the node reports: {cell.status.message} (log: {node.log})")
        return cell.active and cell.connected(TYPES)

    if not wait(ready, START_SECONDS, node.check):
        raise DemoError(f"the node was not active within {START_SECONDS:g} s (log: {node.log})")

    def heard() -> bool:
        # Best effort: what is sent before the node has found this publisher is lost, so ask until it was heard.
        cell.play(CAMERA_INFO_TOPIC, first.messages[CAMERA_INFO_TOPIC].data)
        return cell.value("received/camera_info") not in ("", "0")

    if not wait(heard, START_SECONDS, node.check, 0.2):
        raise DemoError(f"the node does not hear the player: does DDS work between processes here? (log: {node.log})")
