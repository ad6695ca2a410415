"""The other side of the wire: starts the node as a process, publishes to it, records what it answers."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
from checkout import ROOT
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray, ObjectHypothesisWithPose, VisionInfo

from shared_pose_ros.replay.player import spinning
from shared_pose_ros.ros.diagnostics.counters import COUNTERS

SIZE = (480, 640)
FRAME_ID = "camera_optical_frame"
PIXELS = array.array("B", np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8).tobytes())
PATIENCE = 40.0
"""Deadline (s) of every wait: far more than needed, so that a busy machine does not fail the test."""


class NodeProcess:
    """`python -m shared_pose_ros.ros.node` with its log in a file."""

    def __init__(
        self, log: Path, remaps: Optional[dict[str, str]] = None, params_file: Optional[Path] = None, **values: Any
    ) -> None:
        self.log_path = log
        arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        arguments += [word for name, topic in (remaps or {}).items() for word in ("-r", f"{name}:={topic}")]
        arguments += ["--params-file", str(params_file)] if params_file else []
        command = [sys.executable, "-m", "shared_pose_ros.ros.node", "--ros-args", *arguments]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        if self.alive:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


class Peer(Node):
    """Camera, detector and planner in one: publishes inputs, keeps all answers."""

    def __init__(self, context: Context, image_type: type) -> None:
        super().__init__("peer", context=context)
        self.poses: list[Detection3DArray] = []
        self.infos: list[VisionInfo] = []
        self.diagnostics: list[DiagnosticStatus] = []
        self.diagnosed = 0
        self.image = self.create_publisher(image_type, "image", 10)
        self.detections = self.create_publisher(Detection2DArray, "detections", 10)
        self.camera_info = self.create_publisher(CameraInfo, "camera_info", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Detection3DArray, "shared_pose_node/poses", self.poses.append, 10)
        self.create_subscription(VisionInfo, "shared_pose_node/vision_info", self.infos.append, latched)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep_status, 10)
        self._change = self.create_client(ChangeState, "shared_pose_node/change_state")
        self._get = self.create_client(GetState, "shared_pose_node/get_state")
        self._reset = self.create_client(Trigger, "shared_pose_node/reset")
        self._set = self.create_client(SetParameters, "shared_pose_node/set_parameters")
        self._stamp = time.time_ns()

    def _keep_status(self, message: DiagnosticArray) -> None:
        self.diagnostics += [status for status in message.status if "shared_pose_node" in status.name]
        self.diagnosed = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec

    def stamp(self, message: Any, frame_id: str = FRAME_ID, new: bool = True) -> Any:
        """Give the message the next stamp (or the last one again) and the frame."""
        self._stamp += 1_000_000 if new else 0
        message.header.frame_id = frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._stamp, 10**9)
        return message

    def send(self, image_message: Image, array_message: Detection2DArray) -> Any:
        """Publish an image and detections on it; returns their header."""
        header = self.stamp(image_message).header
        array_message.header = header
        self.image.publish(image_message)
        self.detections.publish(array_message)
        return header

    def answer(self, header: Any) -> Optional[Detection3DArray]:
        """The poses that came for a header, or None."""
        return next((poses for poses in self.poses if poses.header == header), None)

    def values(self) -> dict[str, str]:
        """Key-values of the latest diagnostics."""
        return {entry.key: entry.value for entry in self.diagnostics[-1].values} if self.diagnostics else {}

    def count(self, name: str) -> int:
        """A counter of the latest diagnostics."""
        return int(self.values().get(f"counter/{name}", 0))

    def call(self, client: Any, request: Any) -> Any:
        if not client.wait_for_service(PATIENCE):
            raise TimeoutError(f"no service {client.srv_name}")
        future = client.call_async(request)
        wait_for(future.done, f"answer of {client.srv_name}")
        return future.result()

    def transition(self, label: str) -> bool:
        """Ask for a lifecycle transition; True if it succeeded."""
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(self._change, request).success

    def ask_the_impossible(self, transition_id: int) -> None:
        """Ask for a transition that is not possible now; rclpy's service raises then and gives no answer."""
        request = ChangeState.Request()
        request.transition.id = transition_id
        self._change.call_async(request)

    def state(self) -> str:
        return self.call(self._get, GetState.Request()).current_state.label

    def reset(self) -> str:
        """Call ~/reset; returns what it says."""
        answer = self.call(self._reset, Trigger.Request())
        assert answer.success
        return answer.message

    def set_parameter(self, name: str, value: Any) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(self._set, request).results[0]

    def greet(self, class_id: str, picture: Any = None) -> None:
        """Publish frames until the first poses come back, then wait until the node's books are settled."""

        def answered() -> bool:
            header = self.send(picture or image(), detections([class_id]))
            return wait_quietly(lambda: self.answer(header) is not None, 0.3)

        wait_for(answered, "first poses")
        self.settle()

    def settle(self) -> dict[str, str]:
        """Wait for diagnostics that are newer than this call and without pending detections; returns their values."""
        called, seen = time.time_ns(), len(self.diagnostics)
        # With simulated time the stamps tell nothing, but the second one from now on was made later.
        wait_for(
            lambda: (
                (self.diagnosed > called or len(self.diagnostics) > seen + 1)
                and self.values()["pending/detections"] == "0"
            ),
            "diagnostics without pending detections",
        )
        return self.values()


def books_balance(values: dict[str, str]) -> bool:
    """Received arrays = published poses + counters of arrays + pending."""
    lost = sum(int(values[f"counter/{name}"]) for name, info in COUNTERS.items() if info.stream == "detections")
    published, pending = int(values["published/poses"]), int(values["pending/detections"])
    return int(values["received/detections"]) == published + lost + pending


def wait_quietly(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False if it does not within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds; TimeoutError naming `what` after PATIENCE seconds."""
    if not wait_quietly(condition, PATIENCE):
        raise TimeoutError(f"no {what} within {PATIENCE:g} s")


@contextmanager
def peer(image_type: type = Image) -> Iterator[Peer]:
    """A Peer served by a thread of its own; it publishes images of one type."""
    with spinning(lambda context: Peer(context, image_type)) as node:
        yield node


def image(**changes: Any) -> Image:
    """A 640x480 rgb8 image of noise."""
    fields = {"height": SIZE[0], "width": SIZE[1], "step": 3 * SIZE[1], "encoding": "rgb8", "data": PIXELS}
    return Image(**{**fields, **changes})


def compressed_image() -> CompressedImage:
    """The same noise as JPEG."""
    data = cv2.imencode(".jpg", np.frombuffer(PIXELS, np.uint8).reshape(*SIZE, 3))[1].tobytes()
    return CompressedImage(format="jpeg", data=array.array("B", data))


def detection(class_id: str, box=(320.0, 240.0, 80.0, 60.0), identity: str = "", score: float = 0.9) -> Detection2D:
    message = Detection2D(id=identity)
    message.bbox.center.position.x, message.bbox.center.position.y, message.bbox.size_x, message.bbox.size_y = box
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, score
    message.results.append(result)
    return message


def detections(class_ids: list[str]) -> Detection2DArray:
    """One detection a class id, in a row across the image."""
    return Detection2DArray(
        detections=[
            detection(class_id, (60.0 + 70 * number, 240.0, 60.0, 50.0), f"track {number}")
            for number, class_id in enumerate(class_ids)
        ]
    )


def camera_info(**changes: Any) -> CameraInfo:
    """Calibration of the 640x480 camera."""
    matrix = [600.0, 0.0, 319.5, 0.0, 600.0, 239.5, 0.0, 0.0, 1.0]
    return CameraInfo(**{"height": SIZE[0], "width": SIZE[1], "k": matrix, **changes})


def private_domain(lock_folder: Path) -> Any:
    """Reserve a ROS domain that no other test run on this machine uses, until the returned lock file is closed."""
    import fcntl

    for domain in range(1, 100):
        stream = (lock_folder / f"ros_domain_{domain}.lock").open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return stream
    raise RuntimeError("all 99 ROS domains are in use by test runs; wait for one to end")
