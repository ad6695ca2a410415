"""From an image's arrival in the process to the network's input, stage by stage, with and without rclpy's message.

    python benchmark/message_path.py [--seconds 20] [--size 1280x1024] [--json OUT]

A second process publishes an rgb8 image at 30 Hz, in turn on a topic that is subscribed as the node does (`message`)
and on one subscribed as serialised bytes (`raw`), so both are measured side by side. Milliseconds:

take    from the middleware to Python: copy out of it, and for `message` deserialisation and conversion to Python
view    NumPy view of the pixels; `raw` reads the CDR bytes for it
tensor  torch tensor of them, as the estimator takes it; `raw` copies once, since bytes may not be written
crop    eight objects cut out and resized, as the network takes them (part of the bundle's graph)
"""

from __future__ import annotations

import argparse
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from node_metrics import percentiles, rounded
from output import emit

TOPICS = {"message": "message_path_a", "raw": "message_path_b"}
RATE = 30.0


def publish(size: str) -> None:
    """The camera: until the process is ended, in turn on both topics."""
    import rclpy
    from node_input import SIZES, image_message, stamped
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.serialization import serialize_message
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    # A killed process leaves its shared memory behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    node = rclpy.create_node("message_path_camera")
    data = serialize_message(image_message(SIZES[size], "raw"))
    outlets = [node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in TOPICS.values()]
    while True:
        for outlet in outlets:
            outlet.publish(stamped(data, time.time_ns()))
            time.sleep(1 / RATE)


def _aligned(place: int) -> int:
    """The next multiple of four, as CDR counts: after the four bytes of encapsulation."""
    return place + -place % 4


def view_of_cdr(data: bytes) -> np.ndarray:
    """View (H, W, 3) of a little-endian serialised sensor_msgs/Image of rgb8, just enough for the comparison."""
    (frame_id,) = struct.unpack_from("<I", data, 12)
    place = _aligned(16 + frame_id)
    height, width, encoding = struct.unpack_from("<III", data, place)
    # After the encoding one byte, is_bigendian; step and the length of the data stand before the pixels.
    place = _aligned(place + 12 + encoding + 1)
    (step,) = struct.unpack_from("<I", data, place)
    return np.ndarray((height, width, 3), np.uint8, data, offset=place + 8, strides=(step, 3, 1))


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Stages by way, in ms: median, 90 % and 99 %."""
    import rclpy
    import torch
    from node_input import SIZES, detections_message
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from shared_pose_ros.estimator import _image_tensor
    from shared_pose_ros.network.crop import crop_objects
    from shared_pose_ros.ros.messages.detections import axis_aligned_box
    from shared_pose_ros.ros.messages.images import rgb_from_image

    entries = detections_message(SIZES[options.size], 8, ["part"]).detections
    boxes = torch.tensor(np.array([axis_aligned_box(entry) for entry in entries]), dtype=torch.float32)
    node = rclpy.create_node("message_path_node")
    ways = {
        name: (node.create_subscription(Image, topic, print, qos_profile_sensor_data, raw=name == "raw"), view)
        for (name, topic), view in zip(TOPICS.items(), (rgb_from_image, view_of_cdr))
    }
    marks: dict[str, list[list[float]]] = {name: [] for name in ways}
    # As the node's buffer does: memory is not given back and taken again with every message.
    kept: list[Any] = []
    deadline = time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        for name, (subscription, view) in ways.items():
            times = [time.perf_counter()]
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                continue
            times.append(time.perf_counter())
            pixels = view(taken[0])
            times.append(time.perf_counter())
            tensor = _image_tensor(pixels)
            times.append(time.perf_counter())
            crop_objects(tensor, boxes, 1.2, 64)
            times.append(time.perf_counter())
            marks[name].append(times)
            kept = [*kept[-44:], taken[0]]
        time.sleep(0.0005)
    return {name: _stages(np.array(rows)) for name, rows in marks.items()}


def _stages(times: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"images": len(times)}
    for number, stage in enumerate(("take", "view", "tensor", "crop")):
        found[stage] = percentiles(times[:, number + 1] - times[:, number])
    found["arrival_to_tensor"] = percentiles(times[:, 3] - times[:, 0])
    found["arrival_to_crops"] = percentiles(times[:, 4] - times[:, 0])
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", choices=("640x480", "1280x1024"), default="1280x1024")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    from shared_pose_ros.replay.demo_live import prepare_environment

    prepare_environment()
    if options.publish:
        publish(options.size)
    import rclpy
    import torch
    from node_process import hardware

    from shared_pose_ros.training.provenance import source_commit

    rclpy.init(args=[])
    camera = subprocess.Popen([sys.executable, __file__, "--publish", "--size", options.size])
    try:
        ways = measure(options)
    finally:
        camera.terminate()
        camera.wait()
    medians = {name: way["arrival_to_tensor"]["p50_ms"] for name, way in ways.items()}
    figures = {
        "command": " ".join(["python", "benchmark/message_path.py", *sys.argv[1:]]),
        "commit": source_commit(),
        "hardware": hardware(),
        "torch_threads": torch.get_num_threads(),
        "size": options.size,
        "encoding": "rgb8",
        "rate_hz": RATE,
        **ways,
        "message_over_raw": rounded(medians["message"] / medians["raw"]),
    }
    emit(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
