"""Once a second: the node's diagnostics and the log lines of its counters. Times are seconds of the steady clock.

What the values mean is in keys.py, what the counters mean in counters.py.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from shared_pose_ros.pipeline.memory import MIB, gpu_mib, resident_mib, thread_count
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import STAGES, Statistics
from shared_pose_ros.ros.diagnostics import wiring
from shared_pose_ros.ros.diagnostics.keys import RATE_SECONDS
from shared_pose_ros.ros.diagnostics.message import CounterLog, diagnostic_array, status_message
from shared_pose_ros.ros.message_pipeline import MessagePipeline
from shared_pose_ros.ros.worker import Snapshot, Worker

SILENT_SECONDS = 3.0
"""Diagnostics warn about an input that has been silent for so long."""
NEAR = 0.8
"""Diagnostics warn when detections come later than this part of image_buffer_seconds."""


@dataclass(frozen=True)
class Condition:
    """What the reporter cannot know by itself; `pipeline` is None while unconfigured."""

    parameters: NodeParameters
    state: str = "unconfigured"
    problem: str = ""
    pipeline: MessagePipeline | None = None
    activated: float = 0.0
    unknown: Mapping[str, str] = field(default_factory=dict)
    """``parameters.take_back_unknown``'s."""
    published: Sequence[str] = ()
    """Topics."""
    subscribed: Sequence[str] = ()


class Reporter:
    """Publishes /diagnostics and logs counters from its creation on, in every lifecycle state."""

    def __init__(self, node: Node, worker: Worker, statistics: Statistics, condition: Callable[[], Condition]) -> None:
        """Create publisher and timer on the node; `condition()` is called at each report."""
        self._node, self._worker, self._statistics, self._condition = node, worker, statistics, condition
        self._log = CounterLog()
        self._reported: Counter[str] = Counter()
        self._latest: dict[str, float] = {}
        self._camera_infos = 0
        self._history = deque([(time.monotonic(), 0, 0, 0)], maxlen=RATE_SECONDS + 1)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # The steady clock: diagnostics must not stop with a simulated clock.
        self._timer = node.create_timer(1.0, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def arrived(self, name: str) -> None:
        """Note that a message came on the input `image`, `detections`, `camera_info` or `depth`."""
        self._latest[name] = time.monotonic()
        self._camera_infos += name == "camera_info"

    def report(self) -> None:
        """Log what was counted and publish the values of keys.documented()."""
        now, snapshot, condition = time.monotonic(), self._worker.snapshot(), self._condition()
        for warning, line in self._log.lines(snapshot.counters, snapshot.reasons, now):
            # Two lines, because rclpy allows one severity per calling line.
            if warning:
                self._node.get_logger().warning(line)
            else:
                self._node.get_logger().info(line)
        values = {
            **self._identity(condition),
            **self._traffic(now, snapshot),
            "tracks": len(condition.pipeline.poses.temporal_filter) if condition.pipeline else 0,
            **self._resources(condition),
        }
        status = status_message(
            f"{self._node.get_fully_qualified_name()}: poses",
            values["device"],
            condition.problem,
            self._hints(now, snapshot, condition),
            snapshot.counters,
            self._reported,
            values,
            snapshot.reasons,
        )
        self._reported = snapshot.counters
        self._publisher.publish(diagnostic_array(status, self._node.get_clock().now().to_msg()))

    def _identity(self, condition: Condition) -> dict[str, Any]:
        pipeline = condition.pipeline
        metadata, device = (pipeline.estimator.metadata, str(pipeline.estimator.device)) if pipeline else (None, "")
        return {
            "state": condition.state,
            "bundle": metadata.name if metadata else "",
            "weights_sha256": metadata.weights_sha256 if metadata else "",
            "device": device,
            "device_reason": device_reason(condition.parameters.device, device),
            "camera": pipeline.camera_state if pipeline else "",
            "unknown_parameters": ", ".join(
                f"{name} ({nearest}?)" if nearest else name for name, nearest in condition.unknown.items()
            ),
        }

    def _traffic(self, now: float, snapshot: Snapshot) -> dict[str, Any]:
        received, published = snapshot.received, snapshot.published
        self._history.append((now, received["images"], received["detections"], published["poses"]))
        seconds, *grown = (last - first for first, last in zip(self._history[0], self._history[-1]))
        rates = [number / seconds if seconds > 0 else 0.0 for number in grown]
        percentiles = self._statistics.percentiles()
        moments = {**self._latest, **({} if snapshot.last_pair is None else {"pair": snapshot.last_pair})}
        return {
            **{
                f"age/{name}_s": now - moments[name] if name in moments else ""
                for name in ("image", "detections", "camera_info", "depth", "pair")
            },
            **{f"rate/{name}_hz": rate for name, rate in zip(("image", "detections", "poses"), rates)},
            **{f"received/{name}": number for name, number in received.items()},
            "received/camera_info": self._camera_infos,
            **{f"used/{name}": number for name, number in snapshot.used.items()},
            **{f"published/{name}": number for name, number in published.items()},
            **{f"pending/{name}": number for name, number in snapshot.pending.items()},
            "lateness_recent_s": snapshot.recent_lateness,
            "lateness_max_s": snapshot.lateness,
            **{
                f"latency/{stage}_p{percent}_s": percentiles.get(f"{stage}_p{percent}_s", "")
                for stage in STAGES
                for percent in (50, 99)
            },
        }

    def _resources(self, condition: Condition) -> dict[str, Any]:
        device = condition.pipeline.estimator.device if condition.pipeline else None
        numbers = {
            **dict(zip(("batch/last", "batch/mean", "batch/max"), self._statistics.batches())),
            "memory/resident_mib": resident_mib(),
            "memory/images_mib": self._worker.buffer.nbytes["images"] / MIB,
            **dict(zip(("memory/gpu_allocated_mib", "memory/gpu_reserved_mib"), gpu_mib(device))),
            "threads/process": thread_count(),
            "threads/torch": torch.get_num_threads(),
        }
        return {key: "" if number is None else number for key, number in numbers.items()}

    def _hints(self, now: float, snapshot: Snapshot, condition: Condition) -> list[str]:
        """What somebody should look after, with what to do."""
        hints = [unknown_parameter(name, nearest) for name, nearest in condition.unknown.items()]
        if condition.state != "active":
            return [f"{condition.state}: no poses are published", *hints]
        for name in ("image", "detections", "depth") if condition.parameters.use_depth else ("image", "detections"):
            topic = self._node.resolve_topic_name(name)
            if now - max(self._latest.get(name, 0.0), condition.activated) > SILENT_SECONDS:
                count = self._node.count_publishers(topic)
                cause = f"{count} publish there, check that they send" if count else wiring.elsewhere(self._node, topic)
                hints.append(f"nothing on '{topic}': {cause}")
        limit, late = condition.parameters.image_buffer_seconds, snapshot.recent_lateness
        recent = now - self._latest.get("detections", 0.0) < SILENT_SECONDS
        if recent and late > NEAR * limit:
            hints.append(
                f"detections arrive {1000 * late:.0f} ms after their image, which is kept {1000 * limit:.0f} ms: raise "
                "image_buffer_seconds (and image_buffer_mib with it)"
            )
        return [*hints, *wiring.problems(self._node, condition.published, condition.subscribed)]


def device_reason(requested: str, device: str) -> str:
    """Why `device` was taken for the parameter's value `requested`, where that is not plain."""
    return "auto: torch finds no GPU that it can use" if requested == "auto" and device == "cpu" else ""


def unknown_parameter(name: str, nearest: str) -> str:
    """The sentence on an override that the node does not know."""
    remedy = f"did you mean '{nearest}'?" if nearest else "`ros2 param list` names those it has"
    return f"parameter '{name}' is unknown and has no effect; {remedy}"
