"""What the benchmark's camera and detector publish: frames of the demo's recorded stream in the size asked for.

Messages are serialised once; a frame sent gets a new stamp written into its bytes. Boxes are pixels (cx, cy, w, h).
"""

from __future__ import annotations

import array
import functools
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from shared_pose_ros.bags import bag_io
from shared_pose_ros.replay.bag_frames import IMAGE_TOPIC, JPEG_QUALITY
from shared_pose_ros.resources import share_folder
from shared_pose_ros.ros.messages.images import rgb_from_compressed

FRAME_ID = "camera_optical_frame"
SIZES = {"640x480": (480, 640), "1280x1024": (1024, 1280)}
"""(height, width) by name."""
BOX_PART = 8
"""A box's side is the image's height over this: what the demo's parts have."""


@dataclass(frozen=True)
class Input:
    """One frame as the three serialised messages that make it; `name` is for people."""

    name: str
    image: bytes
    detections: bytes
    camera_info: bytes


def demo_bag() -> Path:
    """Folder of the demo's recorded camera stream, the benchmark's data."""
    return share_folder() / "models" / "demo_bag"


def data_hash() -> str:
    """SHA-256 of the recorded stream."""
    return hashlib.sha256((demo_bag() / "demo_bag.mcap").read_bytes()).hexdigest()


@functools.cache
def picture(size: tuple[int, int]) -> np.ndarray:
    """The stream's first image in another size, (H, W, 3) uint8 RGB."""
    message = next(iter(bag_io.read_bag(demo_bag(), [IMAGE_TOPIC])))
    return cv2.resize(rgb_from_compressed(message.message()), size[::-1], interpolation=cv2.INTER_AREA)


def image_message(size: tuple[int, int], transport: str, encoding: str = "rgb8") -> Any:
    """The image as the camera would publish it: `raw` is a sensor_msgs/Image, `compressed` a JPEG."""
    pixels = picture(size)
    if transport == "compressed":
        code = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), code)[1].tobytes()
        message: Any = CompressedImage(format="jpeg", data=array.array("B", data))
    else:
        height, width = size
        data = array.array("B", pixels.tobytes())
        message = Image(height=height, width=width, step=3 * width, encoding=encoding, data=data)
    message.header.frame_id = FRAME_ID
    return message


def detections_message(size: tuple[int, int], count: int, class_ids: Sequence[str], seed: int = 0) -> Detection2DArray:
    """`count` boxes inside the image, the classes in turn."""
    height, width = size
    side = height / BOX_PART
    random = np.random.default_rng(seed)
    message = Detection2DArray()
    message.header.frame_id = FRAME_ID
    for number in range(count):
        entry = Detection2D(id=f"track {number}")
        entry.bbox.center.position.x = float(random.uniform(side, width - side))
        entry.bbox.center.position.y = float(random.uniform(side, height - side))
        entry.bbox.size_x, entry.bbox.size_y = side, 0.75 * side
        entry.results.append(ObjectHypothesisWithPose())
        entry.results[0].hypothesis.class_id = class_ids[number % len(class_ids)]
        entry.results[0].hypothesis.score = 0.9
        message.detections.append(entry)
    return message


def camera_info_message(size: tuple[int, int]) -> CameraInfo:
    """A calibration of about 55 degrees across."""
    height, width = size
    message = CameraInfo(height=height, width=width)
    message.k = [float(width), 0.0, (width - 1) / 2, 0.0, float(width), (height - 1) / 2, 0.0, 0.0, 1.0]
    message.header.frame_id = FRAME_ID
    return message


def make_input(size_name: str, transport: str, count: int, class_ids: Sequence[str]) -> Input:
    """A frame of a size of `SIZES` with `count` detections."""
    size = SIZES[size_name]
    return Input(
        f"{size_name} {transport}, {count} detection{'s'[: count != 1]}",
        serialize_message(image_message(size, transport)),
        serialize_message(detections_message(size, count, class_ids)),
        serialize_message(camera_info_message(size)),
    )


def stamped(data: bytes, stamp: int) -> bytes:
    """A serialised message that begins with a header, with another stamp (ns). As Fast DDS writes it, little endian."""
    return b"".join((data[:4], struct.pack("<iI", *divmod(stamp, 10**9)), memoryview(data)[12:]))
