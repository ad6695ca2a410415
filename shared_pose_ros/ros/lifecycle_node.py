"""SharedPoseNode: images and detections in, orientations out. A lifecycle node, a thin shell around the estimator.

configure  load and verify the bundle, warm every batch size, create the publishers. If it fails, the reason is logged
and shown in
           /diagnostics, the process lives, and a later configure may succeed.
activate   subscribe, start the worker, publish ~/vision_info.
deactivate unsubscribe, stop the worker, count what waited.
cleanup    drop the bundle and the publishers.

Topics, QoS, parameters, counters and diagnostics: docs/node.md.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Optional

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.ros import drawing, parameters
from shared_pose_ros.ros.conversions import vision_info_message
from shared_pose_ros.ros.diagnostics import CounterLog, diagnostic_array, status_message
from shared_pose_ros.ros.frames import Frame, FrameEstimator, load_estimator
from shared_pose_ros.ros.pairing import PairingBuffer, limits_from
from shared_pose_ros.ros.poses import PosesWriter
from shared_pose_ros.ros.statistics import Statistics
from shared_pose_ros.ros.worker import Worker

NODE_NAME = "shared_pose_node"
INPUT_QOS = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
POSES_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SILENT_SECONDS = 3.0
"""Diagnostics warn about an input that has been silent for so long."""


class SharedPoseNode(LifecycleNode):
    """See the module. Parameters, diagnostics and counters live as long as the node, the rest while configured."""

    def __init__(self) -> None:
        """Declare the parameters and start the diagnostics; raises for a parameter override that cannot be taken."""
        super().__init__(NODE_NAME)
        parameters.declare(self)
        self._settings = parameters.read(self)
        self._estimator: Optional[PoseEstimator] = None
        self._frames: Optional[FrameEstimator] = None
        self._writer: Optional[PosesWriter] = None
        self._painter: Optional[drawing.Painter] = None
        self._problem = ""
        self._state = "unconfigured"
        self._statistics = Statistics()
        self._worker = Worker(PairingBuffer(), self._statistics, self._log_error)
        self._counter_log, self._reported = CounterLog(), Counter()
        self._latest = {"image": 0.0, "detections": 0.0, "camera_info": 0.0}
        self._activated, self._camera_infos = 0.0, 0
        self._inputs: list[Any] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # The steady clock: diagnostics must not stop with a simulated clock.
        self._timer = self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(lambda _: setattr(self, "_settings", parameters.read(self)))

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Allocate the bundle, its warmed module, the publishers and the painter; FAILURE leaves nothing behind."""
        # Whatever is wrong with the bundle, the device or memory is the user's to read, not the process's end.
        try:
            self._load()
        except Exception as error:
            self._release()
            self._problem = f"configure failed: {error}"
            self.get_logger().error(self._problem)
            return TransitionCallbackReturn.FAILURE
        self._problem, self._state = "", "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then subscribe."""
        result = super().on_activate(state)
        self._worker.start(self._frames, self._publish)
        self._activated = time.monotonic()
        compressed = self._settings.image_transport == "compressed"
        self._inputs = [
            self.create_subscription(CompressedImage if compressed else Image, "image", self._on_image, INPUT_QOS),
            self.create_subscription(Detection2DArray, "detections", self._on_detections, INPUT_QOS),
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, INPUT_QOS),
        ]
        header = Header(stamp=self.get_clock().now().to_msg())
        self._vision_info.publish(vision_info_message(header, self._estimator.metadata))
        self._state = "active"
        self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then stop the worker."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything that configure allocated."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, from any state."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured after an unexpected error in a transition."""
        self.close()
        self._problem = f"error in a transition from {state.label}; configure again"
        self.get_logger().error(self._problem)
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop all threads and free the bundle; may be called at any time, also twice."""
        self._stop()
        self._release()

    def _load(self) -> None:
        settings = self._settings
        if not settings.bundle:
            raise ValueError("parameter bundle is empty; give the path of a .pose.pt file (bundle:=/path/name.pose.pt)")
        self._worker.buffer.limits = limits_from(settings)
        started = time.monotonic()
        estimator = load_estimator(settings)
        self._poses = self.create_lifecycle_publisher(Detection3DArray, "~/poses", POSES_QOS)
        self._vision_info = self.create_lifecycle_publisher(VisionInfo, "~/vision_info", LATCHED_QOS)
        self._markers = self.create_lifecycle_publisher(MarkerArray, "~/markers", LATCHED_QOS)
        self._debug_image = self.create_lifecycle_publisher(Image, "~/debug_image", LATCHED_QOS)
        self._painter = drawing.Painter(
            self._paint, lambda error: self._statistics.count("drawing_error", 1, str(error))
        )
        self._estimator, self._writer = estimator, PosesWriter(estimator.metadata)
        self._frames = FrameEstimator(estimator, lambda: self._settings, self._statistics)
        classes = ", ".join(entry.class_id for entry in estimator.metadata.objects)
        self.get_logger().info(
            f"configured in {time.monotonic() - started:.1f} s: bundle '{estimator.metadata.name}' "
            f"on {estimator.device} in {estimator.precision}, classes {classes}"
        )

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._worker.stop()

    def _release(self) -> None:
        if self._painter is not None:
            self._painter.stop()
        self._painter = None
        for name in ("_poses", "_vision_info", "_markers", "_debug_image"):
            publisher = self.__dict__.pop(name, None)
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self._estimator = self._frames = self._writer = None
        self._state = "unconfigured"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # Callbacks only store

    def _on_image(self, message: Any) -> None:
        self._latest["image"] = time.monotonic()
        self._worker.add_image(_nanoseconds(message.header), message.header.frame_id, message)

    def _on_detections(self, message: Detection2DArray) -> None:
        self._latest["detections"] = time.monotonic()
        self._worker.add_detections(_nanoseconds(message.header), message.header.frame_id, message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._latest["camera_info"] = time.monotonic()
        self._camera_infos += 1
        self._frames.camera_info = message

    # In the worker's and the painter's thread

    def _publish(self, frame: Frame) -> None:
        poses = self._writer.write(frame.header, frame.objects, frame.estimate, self._settings)
        self._poses.publish(poses)
        if self._markers.get_subscription_count() or self._debug_image.get_subscription_count():
            self._painter.show(frame, poses)

    def _log_error(self, text: str) -> None:
        # After a signal the frame in work cannot be published any more, and nothing is wrong.
        if self.context.ok():
            self.get_logger().error(text)

    def _paint(self, frame: Frame, poses: Detection3DArray) -> None:
        if self._markers.get_subscription_count():
            self._markers.publish(drawing.marker_array(frame, poses))
        if self._debug_image.get_subscription_count():
            self._debug_image.publish(drawing.image_message(frame.header, drawing.debug_image(frame, poses)))

    # Parameters and diagnostics

    def _judge_parameters(self, changes: list[Any]) -> SetParametersResult:
        problem = parameters.problem_with_change(
            [(change.name, change.value) for change in changes], configured=self._estimator is not None
        )
        return SetParametersResult(successful=problem is None, reason=problem or "")

    def _report(self) -> None:
        now, snapshot = time.monotonic(), self._worker.snapshot()
        for warning, line in self._counter_log.lines(snapshot.counters, snapshot.reasons, now):
            # Two lines, because rclpy allows one severity per calling line.
            if warning:
                self.get_logger().warning(line)
            else:
                self.get_logger().info(line)
        metadata = self._estimator.metadata if self._estimator else None
        values = {
            "state": self._state,
            "bundle": metadata.name if metadata else "",
            "weights_sha256": metadata.weights_sha256 if metadata else "",
            "device": str(self._estimator.device) if self._estimator else "",
            "camera": self._frames.camera_state if self._frames else "",
            **{f"age/{name}_s": now - when for name, when in self._latest.items() if when},
            **{f"received/{name}": number for name, number in snapshot.received.items()},
            "received/camera_info": self._camera_infos,
            **{f"published/{name}": number for name, number in snapshot.published.items()},
            **{f"pending/{name}": number for name, number in snapshot.pending.items()},
            "lateness_max_s": snapshot.lateness,
            **{f"latency/{name}": seconds for name, seconds in self._statistics.percentiles().items()},
        }
        status = status_message(
            f"{self.get_fully_qualified_name()}: poses", str(values["device"]), self._problem, self._hints(now),
            snapshot.counters, self._reported, values,
        )  # fmt: skip
        self._reported = snapshot.counters
        self._diagnostics.publish(diagnostic_array(status, self.get_clock().now().to_msg()))

    def _hints(self, now: float) -> list[str]:
        if self._state != "active":
            return [f"{self._state}: no poses are published"]
        silent = [
            name for name in ("image", "detections") if now - max(self._latest[name], self._activated) > SILENT_SECONDS
        ]
        return [f"nothing on '{self.resolve_topic_name(name)}': check that it is published there" for name in silent]


def _nanoseconds(header: Header) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec
