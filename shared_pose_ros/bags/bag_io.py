"""rosbag2 bags (mcap and sqlite3) without ROS: what a camera and a detector publish, read and written with ``rosbags``.

Convention: stamps are nanoseconds; images are RGB uint8 ``(H, W, 3)``; boxes (cx, cy, w, h) in pixels; quaternions xyzw
with w >= 0; metres. The interface definitions of vision_msgs come from where that package is installed, or from this
project's source tree.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch

from shared_pose_ros.geometry.rotations import quaternion_from_rotation

try:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import ReaderError, StoragePlugin, Writer, WriterError
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.store import Typestore
except ImportError as error:
    raise ImportError("bags need the package rosbags; pip install 'shared_pose_ros[replay]'") from error

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
DETECTIONS_2D = "vision_msgs/msg/Detection2DArray"
DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class BagError(RuntimeError):
    """A bag that cannot be read or written; the message says which and why."""


@dataclass(frozen=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: its name.
        type: such as ``sensor_msgs/msg/Image``.
        time_ns: when it was recorded.
        data: as on the wire (CDR), ready to be published or deserialised by any ROS 2 library.
        typestore: the bag's message definitions.
    """

    topic: str
    type: str
    time_ns: int
    data: bytes
    typestore: Typestore

    def message(self) -> Any:
        """The message with its fields as attributes; raises BagError if the data do not fit its type."""
        try:
            return self.typestore.deserialize_cdr(self.data, self.type)
        except Exception as error:  # rosbags raises whatever its generated parsers meet in damaged data
            raise BagError(f"a {self.type} on {self.topic} at {self.time_ns} ns is damaged: {error}") from error


def vision_msgs_folder() -> Path:
    """Where the definitions of vision_msgs lie: a ROS installation, this Python environment, or the source tree."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] + [Path(sys.prefix)]
    folders = [prefix / "share" / "vision_msgs" / "msg" for prefix in prefixes]
    folders.append(Path(__file__).parents[2] / "tools" / "pip_ros" / "vision_msgs" / "msg")
    for folder in folders:
        if (folder / "Detection2DArray.msg").is_file():
            return folder
    raise BagError("no vision_msgs found: source a ROS installation that has it, or build it with tools/pip_ros")


@functools.cache
def message_types() -> Typestore:
    """The message types of a ROS 2 installation and of vision_msgs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for path in sorted(vision_msgs_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"vision_msgs/msg/{path.stem}"))
    store.register(types)
    return store


def read_bag(
    path: str | Path, topics: Collection[str] | None = None, start: int | None = None, stop: int | None = None
) -> Iterator[BagMessage]:
    """Messages of a bag in order of recording.

    Args:
        path: the bag's folder (with metadata.yaml), or a single .mcap or .db3 file.
        topics: names to read, None for all.
        start: leave out what was recorded before this time (ns).
        stop: and what was recorded at this time (ns) or later.

    Raises:
        BagError: no such bag, or not a readable one.
    """
    try:
        with _reader(path) as reader:
            chosen = [c for c in reader.connections if topics is None or c.topic in topics]
            if chosen or topics is None:
                for connection, time_ns, data in reader.messages(chosen, start, stop):
                    yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(data), reader.typestore)
    except (AnyReaderError, ReaderError, OSError) as error:
        raise BagError(f"{path}: not a readable bag ({error})") from error


def _reader(path: str | Path) -> AnyReader:
    try:
        types = message_types()
    except BagError:
        # A bag that carries its definitions needs no others.
        types = get_typestore(Stores.ROS2_JAZZY)
    return AnyReader([Path(path)], default_typestore=types)


def bag_topics(path: str | Path) -> dict[str, str]:
    """Message type by topic name; raises BagError as ``read_bag``."""
    try:
        with _reader(path) as reader:
            return {connection.topic: connection.msgtype for connection in reader.connections}
    except (AnyReaderError, ReaderError, OSError) as error:
        raise BagError(f"{path}: not a readable bag ({error})") from error


class BagWriter:
    """Writes a new bag; a context manager.

    Example:
        >>> with BagWriter("demo_bag") as bag:  # doctest: +SKIP
        ...     bag.write("/image", image_message(image, stamp_ns, "camera"), stamp_ns)
    """

    def __init__(self, path: str | Path, storage: str = "mcap") -> None:
        """Create the bag's folder ``path``; storage is ``mcap`` or ``sqlite3``. Raises BagError if it exists."""
        if storage not in _STORAGE:
            raise BagError(f"storage {storage!r} is unknown; choose one of {', '.join(_STORAGE)}")
        try:
            self._writer = Writer(path, version=Writer.VERSION_LATEST, storage_plugin=_STORAGE[storage])
            self._writer.open()
        except WriterError as error:
            raise BagError(f"{path}: cannot write a bag there ({error}); remove it or choose another name") from error
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Append a message made by one of this module's functions; a topic keeps the type of its first message."""
        store, type_name = message_types(), message.__msgtype__
        self.write_data(topic, type_name, bytes(store.serialize_cdr(message, type_name)), time_ns)

    def write_data(self, topic: str, type_name: str, data: bytes, time_ns: int) -> None:
        """Append a message as it was on the wire (CDR)."""
        store = message_types()
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, type_name, typestore=store)
        if self._connections[topic].msgtype != type_name:
            raise BagError(
                f"topic {topic} holds {self._connections[topic].msgtype}, not {type_name}; use another topic"
            )
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Finish the files; the bag cannot be read before."""
        self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def header(stamp_ns: int, frame_id: str) -> Any:
    """A std_msgs/Header."""
    types = message_types().types
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image_message(image: np.ndarray, stamp: int, frame_id: str) -> Any:
    """A sensor_msgs/Image, rgb8, of an image ``(H, W, 3)`` uint8 RGB."""
    height, width = image.shape[:2]
    return message_types().types[IMAGE](
        header=header(stamp, frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(image, dtype=np.uint8).reshape(-1),
    )


def compressed_image_message(
    image: np.ndarray, stamp: int, frame_id: str, encoding: str = "jpeg", quality: int = 95
) -> Any:
    """A sensor_msgs/CompressedImage of an image ``(H, W, 3)`` uint8 RGB; ``jpeg`` of this quality, or ``png``."""
    ending, options = {"jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]), "png": (".png", [])}[encoding]
    done, data = cv2.imencode(ending, image[:, :, ::-1], options)
    if not done:
        raise BagError(f"an image of shape {image.shape} cannot be encoded as {encoding}; give (H, W, 3) uint8")
    text = f"rgb8; {encoding} compressed bgr8"
    return message_types().types[COMPRESSED_IMAGE](header(stamp, frame_id), text, data.ravel())


def camera_info_message(camera: np.ndarray, size: tuple[int, int], stamp: int, frame_id: str) -> Any:
    """A sensor_msgs/CameraInfo without distortion: K ``(3, 3)`` in pixels, size (height, width)."""
    types = message_types().types
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    projection = np.concatenate([np.asarray(camera, dtype=np.float64), np.zeros((3, 1))], axis=1)
    return types[CAMERA_INFO](
        header=header(stamp, frame_id),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.asarray(camera, dtype=np.float64).ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


@dataclass(frozen=True)
class Detection:
    """An object for ``detections_2d_message`` or ``detections_3d_message``.

    Attributes:
        class_id: as the detector names it.
        id: the same for the same physical object over time.
        score: 0…1.
        box: (cx, cy, w, h) pixels; needed in 2D.
        rotation: R_m2c ``(3, 3)``; needed in 3D.
        translation: ``(3,)`` metres; needed in 3D.
    """

    class_id: str
    id: str
    score: float = 1.0
    box: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None


def detections_2d_message(detections: Sequence[Detection], stamp: int, frame_id: str) -> Any:
    """A vision_msgs/Detection2DArray; every detection carries the array's header."""
    types = message_types().types
    found = []
    for detection in detections:
        if detection.box is None:
            raise ValueError(f"detection {detection.id!r} has no box")
        cx, cy, w, h = (float(v) for v in detection.box)
        centre = types["vision_msgs/msg/Pose2D"](types["vision_msgs/msg/Point2D"](cx, cy), 0.0)
        box = types["vision_msgs/msg/BoundingBox2D"](centre, w, h)
        result = _hypothesis(detection.class_id, detection.score, np.eye(3), np.zeros(3))
        found.append(types["vision_msgs/msg/Detection2D"](header(stamp, frame_id), [result], box, detection.id))
    return types[DETECTIONS_2D](header(stamp, frame_id), found)


def detections_3d_message(detections: Sequence[Detection], stamp: int, frame_id: str) -> Any:
    """A vision_msgs/Detection3DArray of known poses, for ground truth: one hypothesis each, zero covariance."""
    types = message_types().types
    found = []
    for detection in detections:
        if detection.rotation is None or detection.translation is None:
            raise ValueError(f"detection {detection.id!r} has no pose")
        result = _hypothesis(detection.class_id, detection.score, detection.rotation, detection.translation)
        size = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
        box = types["vision_msgs/msg/BoundingBox3D"](result.pose.pose, size)
        found.append(types["vision_msgs/msg/Detection3D"](header(stamp, frame_id), [result], box, detection.id))
    return types[DETECTIONS_3D](header(stamp, frame_id), found)


def _hypothesis(class_id: str, score: float, rotation: np.ndarray, translation: np.ndarray) -> Any:
    types = message_types().types
    quaternion = quaternion_from_rotation(torch.as_tensor(np.asarray(rotation, dtype=np.float64))).tolist()
    position = types["geometry_msgs/msg/Point"](*(float(v) for v in translation))
    pose = types["geometry_msgs/msg/Pose"](position, types["geometry_msgs/msg/Quaternion"](*quaternion))
    return types["vision_msgs/msg/ObjectHypothesisWithPose"](
        types["vision_msgs/msg/ObjectHypothesis"](class_id, float(score)),
        types["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
    )
