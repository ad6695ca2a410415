"""Watches a running node without ros2's tools: poses, what /diagnostics says, the debug image; sets and resets.

python examples/watch.py                                        # once a second, until Ctrl-C
python examples/watch.py --picture debug.png --seconds 20
python examples/watch.py --set score_threshold 0.3 --reset --seconds 0
"""

import argparse
import contextlib
import time

import cv2
import numpy as np
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection3DArray

PATIENCE = 10.0
"""Seconds in which the node must answer a service."""
LEVELS = {b"\0": "OK", b"\1": "WARN", b"\2": "ERROR", b"\3": "STALE"}


def pose_line(message: Detection3DArray) -> str:
    """The best hypothesis of each object."""
    parts = []
    for detection in message.detections:
        best = detection.results[0]
        p, known = best.pose.pose.position, best.pose.covariance[0] >= 0.0
        where = f" at ({p.x:.3f}, {p.y:.3f}, {p.z:.3f}) m" if known else ""
        parts.append(f"{best.hypothesis.class_id} {best.hypothesis.score:.2f}{where}")
    stamp = message.header.stamp
    return f"poses {stamp.sec}.{stamp.nanosec:09d}: {'; '.join(parts) or 'no object'}"


class Watcher(Node):
    """Prints the latest poses once a second and each new message of /diagnostics; keeps the latest debug image."""

    def __init__(self, node: str, picture: str) -> None:
        """`node`: of the pose node, with its namespace; `picture`: file of the debug image, empty for none."""
        super().__init__("watch")
        self._node, self._picture, self._said, self._printed = f"/{node.strip('/')}", picture, "", 0.0
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Detection3DArray, f"{self._node}/poses", self._show_poses, 1)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._show_diagnostics, 10)
        # The node draws only for subscribers.
        if picture:
            self.create_subscription(Image, f"{self._node}/debug_image", self._save, latched)

    def set(self, name: str, text: str) -> str:
        """Set a parameter, the text read as YAML; what the node answered."""
        request = SetParameters.Request(parameters=[Parameter(name, value=yaml.safe_load(text)).to_parameter_msg()])
        result = self._call(SetParameters, "set_parameters", request).results[0]
        return f"{name}: {'set' if result.successful else f'refused, {result.reason}'}"

    def reset(self) -> str:
        """Call ~/reset; what the node answered."""
        return f"reset: {self._call(Trigger, 'reset', Trigger.Request()).message}"

    def _call(self, kind, name, request):
        client = self.create_client(kind, f"{self._node}/{name}")
        if not client.wait_for_service(PATIENCE):
            raise SystemExit(f"no node {self._node} in {PATIENCE:g} s: is ROS_DOMAIN_ID the same?")
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self, future, timeout_sec=PATIENCE)
        if future.result() is None:
            raise SystemExit(f"{self._node}/{name} did not answer in {PATIENCE:g} s")
        return future.result()

    def _show_poses(self, message: Detection3DArray) -> None:
        if time.monotonic() - self._printed >= 1.0:
            self._printed = time.monotonic()
            print(pose_line(message), flush=True)

    def _show_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            said = " ".join(dict.fromkeys((LEVELS[status.level], status.message)))
            if status.name == f"{self._node}: poses" and said != self._said:
                self._said = said
                print(f"diagnostics {said}", flush=True)

    def _save(self, message: Image) -> None:
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        image = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
        cv2.imwrite(self._picture, image[:, :, ::-1])  # rgb8


def main() -> None:
    """Read the options, set and reset, watch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--node", default="shared_pose_node", help="name of the node, with its namespace")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long (default: until Ctrl-C)")
    parser.add_argument("--picture", default="", metavar="PNG", help="file for the latest ~/debug_image")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    parser.add_argument("--reset", action="store_true", help="call ~/reset")
    options = parser.parse_args()
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        watcher = Watcher(options.node, options.picture)
        for name, text in options.set:
            print(watcher.set(name, text), flush=True)
        if options.reset:
            print(watcher.reset(), flush=True)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            rclpy.spin_once(watcher, timeout_sec=0.2)


if __name__ == "__main__":
    main()
