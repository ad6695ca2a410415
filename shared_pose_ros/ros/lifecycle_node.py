"""SharedPoseNode: images and detections in, orientations out. A lifecycle node, a thin shell around the estimator.

configure  load and verify the bundle, warm every batch size, create the publishers. If it fails, the reason is logged
and shown in
           /diagnostics, the process lives, and a later configure may succeed.
activate   subscribe, start the worker, publish ~/vision_info.
deactivate unsubscribe, stop the worker, count what waited.
cleanup    drop the bundle and the publishers.

Topics, QoS, parameters, counters and diagnostics: docs/reference/.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray, Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.memory import release_cached
from shared_pose_ros.pipeline.pose_pipeline import load_estimator
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros import rclpy_parameters
from shared_pose_ros.ros.diagnostics.reporter import Condition, Reporter, device_reason, unknown_parameter
from shared_pose_ros.ros.message_pipeline import MessagePipeline
from shared_pose_ros.ros.messages.detections import image_key
from shared_pose_ros.ros.messages.poses import PosesWriter, vision_info_message
from shared_pose_ros.ros.pairing import PairingBuffer, PairingLimits
from shared_pose_ros.ros.visualization.publishers import Visualization
from shared_pose_ros.ros.visualization.transforms import transforms_type
from shared_pose_ros.ros.worker import Worker

NODE_NAME = "shared_pose_node"
INPUT_QOS = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
POSES_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
PUBLISHERS = ("_poses", "_vision_info", "_markers", "_debug_image", "_tf")
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class SharedPoseNode(LifecycleNode):
    """See the module. Parameters, diagnostics and counters live as long as the node, the rest while configured."""

    def __init__(self) -> None:
        """Declare the parameters and start the diagnostics; raises for a parameter override that cannot be taken."""
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True)
        self._unknown = rclpy_parameters.take_back_unknown(self)
        for name, nearest in self._unknown.items():
            self.get_logger().warning(unknown_parameter(name, nearest))
        rclpy_parameters.declare(self)
        self._values = rclpy_parameters.read(self)
        self._pipeline: MessagePipeline | None = None
        self._visualization: Visualization | None = None
        self._writer = PosesWriter()
        self._problem = ""
        self._state = "unconfigured"
        self._statistics = Statistics()
        self._worker = Worker(PairingBuffer(), self._statistics, self._log_error)
        self._activated = 0.0
        self._inputs: list[Any] = []
        self._reporter = Reporter(self, self._worker, self._statistics, self._condition)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(lambda _: setattr(self, "_values", rclpy_parameters.read(self)))

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Allocate the bundle, its warmed module, publishers and drawing threads; FAILURE leaves nothing behind."""
        self._problem = ""
        # Whatever is wrong with the bundle, the device or memory is the user's to read, not the process's end.
        try:
            self._load()
        except Exception as error:
            self._problem = f"configure failed: {error}"
        if self._problem:
            # Outside of `except`: the error's traceback holds what was loaded.
            self._release()
            self.get_logger().error(self._problem)
            return TransitionCallbackReturn.FAILURE
        # What is loaded now stays. Left to the garbage collector, its full passes look at all of torch and the message
        # packages, 0.1 s each, in the middle of a frame.
        gc.collect()
        gc.freeze()
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then subscribe."""
        result = super().on_activate(state)
        pipeline = self._configured()
        self._worker.start(pipeline, self._publish)
        self._activated = time.monotonic()
        compressed = self._values.image_transport == "compressed"
        self._inputs = [
            self.create_subscription(CompressedImage if compressed else Image, "image", self._on_image, INPUT_QOS),
            self.create_subscription(Detection2DArray, "detections", self._on_detections, INPUT_QOS),
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, INPUT_QOS),
        ]
        if self._values.use_depth:
            self._inputs.append(self.create_subscription(Image, "depth", self._on_depth, INPUT_QOS))
        header = Header(stamp=self.get_clock().now().to_msg())
        self._vision_info.publish(vision_info_message(header, pipeline.estimator.metadata))
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
        values, started = self._values, time.monotonic()
        if not values.bundle:
            raise ValueError("parameter bundle is empty; give the path of a .pose.pt file (bundle:=/path/name.pose.pt)")
        self._worker.buffer.limits = PairingLimits.of(values)
        estimator = load_estimator(values)
        self._poses = self.create_lifecycle_publisher(Detection3DArray, "~/poses", POSES_QOS)
        self._vision_info = self.create_lifecycle_publisher(VisionInfo, "~/vision_info", LATCHED_QOS)
        self._markers = self.create_lifecycle_publisher(MarkerArray, "~/markers", LATCHED_QOS)
        self._debug_image = self.create_lifecycle_publisher(Image, "~/debug_image", LATCHED_QOS)
        if values.publish_tf:
            self._tf = self.create_lifecycle_publisher(transforms_type(), "/tf", TF_QOS)
        self._visualization = Visualization(
            estimator, self._markers, self._debug_image, self.__dict__.get("_tf"), self.get_name(),
            lambda error: self._statistics.count("drawing_error", 1, f"{type(error).__name__}: {error}"),
        )  # fmt: skip
        self._pipeline = MessagePipeline(estimator, lambda: self._values, self._statistics)
        self._log_configured(estimator, time.monotonic() - started)

    def _log_configured(self, estimator: PoseEstimator, seconds: float) -> None:
        classes = ", ".join(entry.class_id for entry in estimator.metadata.objects)
        reason = device_reason(self._values.device, str(estimator.device))
        precision = estimator.precision + (f" ({estimator.remark})" if estimator.remark else "")
        self.get_logger().info(
            f"configured in {seconds:.1f} s: bundle '{estimator.metadata.name}' "
            f"on {estimator.device}{f' ({reason})' if reason else ''} in {precision}, classes {classes}"
        )

    def _configured(self) -> MessagePipeline:
        """What configure has made; rclpy allows activate, and messages come, only after it."""
        if self._pipeline is None:
            raise RuntimeError("the node is not configured")
        return self._pipeline

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._worker.stop()
        if self._pipeline is not None:
            self._pipeline.poses.temporal_filter.clear()

    def _release(self) -> None:
        if self._visualization is not None:
            self._visualization.stop()
        self._visualization = None
        for name in PUBLISHERS:
            publisher = self.__dict__.pop(name, None)
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
        self._pipeline = None
        gc.unfreeze()
        self._state = "unconfigured"
        release_cached(cycles=True)

    # Callbacks only store

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._reporter.arrived("image")
        self._worker.add_image(*image_key(message), message)

    def _on_detections(self, message: Detection2DArray) -> None:
        self._reporter.arrived("detections")
        self._worker.add_detections(*image_key(message), message)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._reporter.arrived("camera_info")
        self._configured().camera_info = message

    def _on_depth(self, message: Image) -> None:
        self._reporter.arrived("depth")
        self._worker.add_depth(*image_key(message), message)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        waited = self._worker.reset()
        tracks = 0 if self._pipeline is None else self._pipeline.poses.temporal_filter.clear()
        response.success = True
        response.message = (
            f"dropped {waited['images']} images, {waited['detections']} detection arrays, "
            f"{waited['depth']} depth images, {tracks} tracks"
        )
        self.get_logger().info(f"reset: {response.message}")
        return response

    # In the worker's thread

    def _publish(self, frame: Frame) -> None:
        self._poses.publish(self._writer.write(frame.poses))
        if self._visualization is not None:
            self._visualization.show(frame, self._values.debug_drawing)

    def _log_error(self, text: str) -> None:
        # After a signal the frame in work cannot be published any more, and nothing is wrong.
        if self.context.ok():
            self.get_logger().error(text)

    # Parameters and diagnostics

    def _judge_parameters(self, changes: list[Any]) -> SetParametersResult:
        problem = rclpy_parameters.problem_with_change(
            [(change.name, change.value) for change in changes], configured=self._pipeline is not None
        )
        return SetParametersResult(successful=problem is None, reason=problem or "")

    def _condition(self) -> Condition:
        publishers = (getattr(self, name, None) for name in PUBLISHERS)
        return Condition(
            parameters=self._values,
            state=self._state,
            problem=self._problem,
            pipeline=self._pipeline,
            activated=self._activated,
            unknown=self._unknown,
            published=[publisher.topic_name for publisher in publishers if publisher is not None],
            subscribed=[subscription.topic_name for subscription in self._inputs],
        )
