"""The other side of the node's wire: publishes recorded bytes as camera and detector did, keeps what the node responds.

Times are seconds of the monotonic clock; stamps are nanoseconds. Messages are published as recorded, best effort as
cameras do, and responses are kept as they came, so that the player costs little beside the node that it measures.
"""

from __future__ import annotations

import importlib
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from vision_msgs.msg import Detection3DArray, VisionInfo

from shared_pose_ros.ros.messages.poses import POSES_TYPE

CLOCK_SECONDS = 0.025
"""Between two messages /clock goes on at this period, as ros2 bag play's does."""
Key = tuple[int, str]


@dataclass(frozen=True)
class Sent:
    """A published message: topic, (stamp, frame_id) of its header, when it went out, and in which loop."""

    topic: str
    key: Key
    time: float
    loop: int = 0


def header_key(data: bytes) -> Key:
    """(stamp in ns, frame_id) of a serialised message that begins with a Header; ValueError if the data are too short.

    CDR: four bytes of encapsulation (the second one odd for little endian), seconds, nanoseconds, a counted string.
    """
    order = "<" if len(data) > 1 and data[1] & 1 else ">"
    try:
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, 4)
        if 16 + length > len(data):
            raise struct.error("string beyond the end")
        return seconds * 10**9 + nanoseconds, data[16 : 16 + max(length, 1) - 1].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{len(data)} bytes hold no message with a header ({error})") from error


class Player(Node):
    """Camera, detector and planner of a recorded cell."""

    def __init__(
        self, context: Context, outlets: Mapping[str, str], node: str = "shared_pose_node", clock: bool = False
    ) -> None:
        """Create the publishers and subscriptions.

        Args:
            context: rclpy's.
            outlets: message type (`sensor_msgs/msg/Image`) by topic to publish.
            node: name of the pose node, with its namespace.
            clock: publish /clock too.
        """
        super().__init__("shared_pose_player", context=context)
        self.responses: list[tuple[float, bytes]] = []
        """(when it came, serialised Detection3DArray) of each response."""
        self.active = False
        """The node has announced its classes, so it was activated."""
        self.status: DiagnosticStatus | None = None
        self.status_time = 0.0
        self.node, self.poses_topic = node.strip("/"), f"/{node.strip('/')}/poses"
        self._kinds = dict(outlets)
        self.outlets = {
            topic: self.create_publisher(_message_class(kind), topic, qos_profile_sensor_data)
            for topic, kind in outlets.items()
        }
        self._clock_outlet = self.create_publisher(Clock, "/clock", 1) if clock else None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Detection3DArray, self.poses_topic, self._keep_poses, 100, raw=True)
        self.create_subscription(VisionInfo, f"/{self.node}/vision_info", self._note_active, latched)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._keep_status, 10)

    def play(self, topic: str, data: bytes) -> None:
        """Publish a recorded message as it is."""
        self.outlets[topic].publish(data)

    def tell_time(self, time_ns: int) -> None:
        """Publish the recorded time on /clock, if that was asked for."""
        if self._clock_outlet is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
            self._clock_outlet.publish(message)

    @property
    def has_clock(self) -> bool:
        """Whether /clock is published."""
        return self._clock_outlet is not None

    def connected(self, topics: Iterable[str]) -> bool:
        """Whether somebody listens to all these topics and somebody publishes poses."""
        heard = all(self.outlets[topic].get_subscription_count() for topic in topics)
        return heard and self.count_publishers(self.poses_topic) > 0

    def missing(self, topics: Iterable[str], seconds: float) -> str:
        """What `connected` missed for so many seconds, with what to do, in one sentence."""
        if not self.count_publishers(self.poses_topic):
            others = {
                topic.removesuffix("/poses").lstrip("/")
                for topic, kinds in self.get_topic_names_and_types()
                if topic.endswith("/poses") and POSES_TYPE in kinds and self.count_publishers(topic)
            }
            remedy = f"take --node {min(others)}" if others else "start it, in the same ROS_DOMAIN_ID"
            return f"nobody published {self.poses_topic} in {seconds:g} s: {remedy}"
        deaf = [topic for topic in topics if not self.outlets[topic].get_subscription_count()]
        for topic in deaf:
            for end in self.get_subscriptions_info_by_topic(topic):
                if end.topic_type != self._kinds[topic]:
                    remedy = "set the node's image_transport" if "Image" in end.topic_type else "check --remap"
                    return f"{topic} is {self._kinds[topic]} in the bag and {end.topic_type} in the node: {remedy}"
        where = self._listening({self._kinds[topic] for topic in deaf})
        return (
            f"nobody listened on {', '.join(deaf)} in {seconds:g} s{where}: "
            "remap the node's topics (-r), or the bag's (--remap)"
        )

    def _listening(self, wanted: set[str]) -> str:
        """Where the node, or anybody if its name is not known, subscribes to one of these types: part of a sentence."""
        # Endpoints are known as they are discovered; their node's name comes in a message of its own, late or never.
        anybody = [entry for entry in self.get_topic_names_and_types() if self.count_subscribers(entry[0])]
        for who, inputs in (("the node", self._inputs()), ("somebody", anybody)):
            if found := [topic for topic, types in inputs if wanted & set(types)]:
                return f"; {who} listens on {', '.join(found)}"
        return ""

    def _inputs(self) -> list[tuple[str, list[str]]]:
        """(topic, types) that the node subscribes to; none if another name publishes the poses, or it is unknown."""
        namespace, _, name = self.node.rpartition("/")
        with suppress(NodeNameNonExistentError):
            return self.get_subscriber_names_and_types_by_node(name, f"/{namespace}")
        return []

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

    @property
    def settled(self) -> bool:
        """Whether the latest diagnostics say that nothing waits in the node."""
        return self.value("pending/images") == "0" and self.value("pending/detections") == "0"

    def _keep_poses(self, data: bytes) -> None:
        self.responses.append((time.monotonic(), bytes(data)))

    def _note_active(self, _: VisionInfo) -> None:
        self.active = True

    def _keep_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if self.node in status.name:
                self.status, self.status_time = status, time.monotonic()


def _message_class(full_name: str) -> Any:
    package, _, name = full_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


Served = TypeVar("Served", bound=Node)


@contextmanager
def spinning(make: Callable[[Context], Served]) -> Iterator[Served]:
    """A node, such as a player, in a context of its own, served by a thread of its own."""
    context = Context()
    # Not the program's own arguments: rcl would take its `--remap FROM:=TO` for rules of this node.
    rclpy.init(args=[], context=context)
    node = make(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, name="player")
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        context.try_shutdown()
        thread.join()
        node.destroy_node()


def wait(
    condition: Callable[[], bool], seconds: float, check: Callable[[], None] = lambda: None, pause: float = 0.01
) -> bool:
    """Whether the condition came true within the time; `check` may raise meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def play(player: Player, records: Iterable[tuple[str, int, bytes]], rate: float = 1.0, loop: int = 0) -> list[Sent]:
    """Publish records (topic, time of recording in ns, data) at `rate` times the recorded speed.

    Returns:
        What went out, in order; messages whose header cannot be read are published but not listed.
    """
    sent: list[Sent] = []
    first, started = None, time.monotonic()
    for topic, time_ns, data in records:
        first = time_ns if first is None else first
        _sleep_until(player, started + (time_ns - first) * 1e-9 / rate, time_ns, rate)
        player.tell_time(time_ns)
        player.play(topic, data)
        now = time.monotonic()
        try:
            sent.append(Sent(topic, header_key(data), now, loop))
        except ValueError:
            continue
    return sent


def _sleep_until(player: Player, due: float, due_ns: int, rate: float) -> None:
    while (left := due - time.monotonic()) > 0:
        if not player.has_clock:
            time.sleep(left)
            return
        player.tell_time(due_ns - int(left * rate * 1e9))
        time.sleep(min(left, CLOCK_SECONDS))
