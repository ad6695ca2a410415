"""Image messages to RGB arrays, and depth image messages to metres (REP 118).

Convention: colour is uint8, (H, W, 3), RGB; depth is float32, (H, W), metres along the optical axis, 0 where nothing
was measured. Messages are read by their fields only, so those of `rosbags` work as
well as those of rclpy. 8-bit pixels have no byte order: `is_bigendian` does not matter here. 8UC3 and 8UC4 name an
OpenCV array and are read in OpenCV's order, BGR(A).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

# ROS names a Bayer pattern by its first row, OpenCV by the second row's second and third pixel.
_TO_RGB = {
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8uc3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8uc4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8uc1": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
}
ENCODINGS = ("rgb8", *_TO_RGB)
"""What is read without cv_bridge, in lower case."""
UNUSABLE_DEPTH = "unusable_depth"
# Type, byte order left open, and metres per unit.
_DEPTH_ENCODINGS = {"16uc1": ("u2", 1e-3), "mono16": ("u2", 1e-3), "32fc1": ("f4", 1.0)}
_LAST_BYTES = 1024
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}


class ImageError(ValueError):
    """An image message without a usable image; `counter` is the name in counters.COUNTERS."""

    def __init__(self, counter: str, message: str) -> None:
        super().__init__(message)
        self.counter = counter


def rgb_from_image(message: Any) -> np.ndarray:
    """RGB array (H, W, 3) uint8 of a sensor_msgs/Image.

    rgb8 is returned as a view of the message's memory (padded rows included: the strides skip the padding); the others
    are converted once by OpenCV. Encodings outside `ENCODINGS` go through cv_bridge where that is installed.

    Raises:
        ImageError: no pixels (empty_image), data shorter than the size says (truncated_image), or an encoding that
            cannot be read (bad_encoding).
    """
    encoding = message.encoding.lower()
    if message.width == 0 or message.height == 0:
        raise ImageError("empty_image", f"image of {message.width}x{message.height} pixels: nothing to look at")
    if encoding == "rgb8":
        return pixel_view(message, 3)
    if encoding in _TO_RGB:
        channels, code = _TO_RGB[encoding]
        return _converted(pixel_view(message, channels), code, message.encoding)
    return _through_cv_bridge(message)


def rgb_from_compressed(message: Any) -> np.ndarray:
    """RGB array (H, W, 3) uint8 of a sensor_msgs/CompressedImage (JPEG, PNG and what else OpenCV reads).

    Raises:
        ImageError: no data (empty_image), a JPEG or PNG without its end (truncated_image), a depth image
            (bad_encoding), or data that OpenCV cannot decode (undecodable_image).
    """
    data = np.frombuffer(message.data, dtype=np.uint8)
    if data.size == 0:
        raise ImageError("empty_image", "compressed image without data")
    if "compresseddepth" in message.format.lower():
        raise ImageError("bad_encoding", f"format '{message.format}' is a depth image; publish a colour or grey image")
    for start, end in _ENDS.items():
        if data[: len(start)].tobytes() == start and end not in data[-_LAST_BYTES:].tobytes():
            raise ImageError(
                "truncated_image", f"compressed image of {data.size} bytes (format '{message.format}') has no end"
            )
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError("undecodable_image", f"OpenCV cannot decode format '{message.format}': {error}") from error
    if pixels is None:
        raise ImageError(
            "undecodable_image",
            f"{data.size} bytes of format '{message.format}' are no image that OpenCV knows; use JPEG or PNG",
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def depth_from_image(message: Any) -> np.ndarray:
    """Depth (H, W) float32 in metres of a sensor_msgs/Image; 0 for 0, negative, NaN and infinite pixels.

    16UC1 (and mono16, as some drivers call it) holds millimetres, 32FC1 metres, in either byte order, rows padded or
    not.

    Raises:
        ImageError: no pixels, data shorter than the size says, or another encoding (all unusable_depth).
    """
    size = f"{message.width}x{message.height}"
    if message.width == 0 or message.height == 0:
        raise ImageError(UNUSABLE_DEPTH, f"depth image of {size} pixels: nothing to look at")
    if message.encoding.lower() not in _DEPTH_ENCODINGS:
        raise ImageError(
            UNUSABLE_DEPTH,
            f"depth encoding '{message.encoding}' ({size}) cannot be read; publish 16UC1 (mm) or 32FC1 (m)",
        )
    kind, unit = _DEPTH_ENCODINGS[message.encoding.lower()]
    try:
        pixels = pixel_view(message, 1, f"{'>' if message.is_bigendian else '<'}{kind}")
    except ImageError as error:
        raise ImageError(UNUSABLE_DEPTH, f"depth image: {error}") from error
    # In double: 0.001 is no float, and a signalling NaN of a sensor must not warn.
    with np.errstate(invalid="ignore", over="ignore"):
        depth = (pixels * np.float64(unit)).astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0.0))


def pixel_view(message: Any, channels: int, kind: str = "u1") -> np.ndarray:
    """View (H, W, channels) of the message's data as pixels of numpy's type `kind`; (H, W) for one channel.

    Raises:
        ImageError: data shorter than the size says (truncated_image).
    """
    height, width, step, dtype = int(message.height), int(message.width), int(message.step), np.dtype(kind)
    row = width * channels * dtype.itemsize
    if step < row:
        raise ImageError(
            "truncated_image",
            f"step of {step} bytes, but a row of {width} {message.encoding} pixels needs {row}; check the driver",
        )
    # A last row without its padding is complete.
    needed, available = step * (height - 1) + row, len(message.data)
    if available < needed:
        raise ImageError(
            "truncated_image",
            f"{available} bytes of data, but {width}x{height} {message.encoding} with a step of {step} needs {needed}",
        )
    pixel = channels * dtype.itemsize
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (step, pixel)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, memoryview(message.data).cast("B"), strides=strides)


def _converted(pixels: np.ndarray, code: int, encoding: str) -> np.ndarray:
    try:
        return cv2.cvtColor(pixels, code)
    except cv2.error as error:
        raise ImageError(
            "bad_encoding", f"{pixels.shape[1]}x{pixels.shape[0]} pixels cannot be {encoding}: {error}"
        ) from error


def _through_cv_bridge(message: Any) -> np.ndarray:
    """The rare encodings (16 bit, YUV, ...), where cv_bridge is installed."""
    name = f"encoding '{message.encoding}' ({message.width}x{message.height})"
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise ImageError(
            "bad_encoding", f"{name} cannot be read; publish one of {', '.join(ENCODINGS)}, or install cv_bridge"
        ) from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    # cv_bridge raises its own error, OpenCV's, KeyError or TypeError, depending on what is wrong with the message.
    except Exception as error:
        raise ImageError("bad_encoding", f"{name} cannot be converted by cv_bridge: {error}") from error
