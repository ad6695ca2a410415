"""Poses as a Detection3DArray and back: all hypotheses with position, orientation and their covariance.

Messages are made of the classes that the caller names, so that those of `rosbags` serve as well as those of rclpy: a
replayed bag goes through the same writer as the node's topics.

Convention: rotations R_m2c; metres in the image's optical frame; quaternions xyzw, w >= 0. Covariances are row-major
6x6 of (x, y, z, rotation about x, y, z), the axes fixed in that frame; -1 on a diagonal means unknown.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.bundle import BundleMetadata
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.pipeline.pose_pipeline import UNKNOWN
from shared_pose_ros.ros.messages.detections import image_key

if TYPE_CHECKING:
    from std_msgs.msg import Header
    from vision_msgs.msg import Detection3DArray, VisionInfo

POSES_TYPE = "vision_msgs/msg/Detection3DArray"
_PARTS = (
    POSES_TYPE,
    "vision_msgs/msg/Detection3D",
    "vision_msgs/msg/BoundingBox3D",
    "vision_msgs/msg/ObjectHypothesisWithPose",
    "vision_msgs/msg/ObjectHypothesis",
    "geometry_msgs/msg/PoseWithCovariance",
    "geometry_msgs/msg/Pose",
    "geometry_msgs/msg/Point",
    "geometry_msgs/msg/Quaternion",
    "geometry_msgs/msg/Vector3",
    "std_msgs/msg/Header",
    "builtin_interfaces/msg/Time",
)


@functools.cache
def ros_types() -> Mapping[str, Any]:
    """The ROS installation's classes of all that a poses message is made of, by full name."""
    found = {}
    for full in _PARTS:
        package, _, name = full.split("/")
        found[full] = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


class PosesWriter:
    """Writes poses as messages.

    Args:
        types: message classes by full name, ``ros_types()`` by default.
    """

    def __init__(self, types: Mapping[str, Any] | None = None) -> None:
        self._types = types or ros_types()
        self._blank_result, self._blank_bbox = _blank_makers(self._types)

    def write(self, poses: PublishedPoses) -> Detection3DArray:
        """One Detection3D per object, all headers the image's, id and class_id echoed.

        `results` are the hypotheses with score = confidence; a result's pose is that of the CAD origin. `bbox` is the
        CAD bounding box in the pose of the first. An unknown position is zero, its variance -1.
        """
        header = message_header(poses.stamp, poses.frame_id, self._types)
        # Numbers as Python's own, all at once: one at a time they cost more than the messages.
        positions, centres = (np.nan_to_num(array).tolist() for array in (poses.positions, poses.centres))
        quaternions, scores, extents = (
            array.tolist() for array in (poses.quaternions, poses.confidences, poses.extents)
        )
        covariances = poses.covariances.reshape(*poses.covariances.shape[:2], 36)
        detections = []
        for number, (name, class_id) in enumerate(zip(poses.ids, poses.class_ids)):
            rows = zip(positions[number], quaternions[number], covariances[number], scores[number])
            results = [self._result(class_id, *row) for row in rows]
            bbox = self._blank_bbox()
            _fill_pose(bbox.center, centres[number], quaternions[number][0])
            bbox.size.x, bbox.size.y, bbox.size.z = extents[number]
            detections.append(
                self._types["vision_msgs/msg/Detection3D"](header=header, results=results, bbox=bbox, id=name)
            )
        return self._types[POSES_TYPE](header=header, detections=detections)

    def _result(
        self,
        class_id: str,
        position: list[float],
        quaternion: list[float],
        covariance: NDArray[np.float64],
        score: float,
    ) -> Any:
        result = self._blank_result()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        _fill_pose(result.pose.pose, position, quaternion)
        result.pose.covariance = covariance
        return result


def message_header(stamp: int, frame_id: str, types: Mapping[str, Any] | None = None) -> Header:
    """A std_msgs/Header of a stamp in ns; ``types`` as those of ``PosesWriter``."""
    types = types or ros_types()
    seconds, nanoseconds = divmod(stamp, 10**9)
    return types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds), frame_id=frame_id
    )


def read_poses(message: Detection3DArray, most: int | None = None) -> PublishedPoses:
    """The poses in a message, whichever library read it; all detections have as many results.

    Args:
        message: as ``PosesWriter.write`` writes it.
        most: read only so many results of each detection.

    Raises:
        ValueError: a detection without results, or with another number of them than the first.
    """
    entries = message.detections
    results = [list(entry.results)[:most] for entry in entries]
    counts = {len(row) for row in results}
    if counts - {0} != counts or len(counts) > 1:
        raise ValueError(f"the detections have {sorted(counts)} results; all must have the same number, at least 1")
    poses = [[result.pose.pose for result in row] for row in results]
    count = counts.pop() if counts else 0
    quaternions = _numbers([[_xyzw(pose.orientation) for pose in row] for row in poses], (-1, count, 4))
    positions = _numbers([[_xyz(pose.position) for pose in row] for row in poses], (-1, count, 3))
    covariances = _numbers([[result.pose.covariance for result in row] for row in results], (-1, count, 6, 6))
    centres = _numbers([_xyz(entry.bbox.center.position) for entry in entries], (-1, 3))
    unknown = covariances[..., 0, 0] == UNKNOWN
    positions[unknown] = np.nan
    centres[unknown.any(axis=1)] = np.nan
    stamp, frame_id = image_key(message)
    return PublishedPoses(
        stamp=stamp,
        frame_id=frame_id,
        ids=[entry.id for entry in entries],
        class_ids=[row[0].hypothesis.class_id for row in results],
        quaternions=quaternions,
        positions=positions,
        confidences=_numbers([[result.hypothesis.score for result in row] for row in results], (-1, count)),
        covariances=covariances,
        centres=centres,
        extents=_numbers([_xyz(entry.bbox.size) for entry in entries], (-1, 3)),
    )


def _numbers(values: Sequence[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    # With nothing in it, -1 would stand for any length.
    return np.array(values, dtype=np.float64).reshape(shape if len(values) else (0, *shape[1:]))


def _xyz(vector: Any) -> tuple[float, float, float]:
    return vector.x, vector.y, vector.z


def _xyzw(quaternion: Any) -> tuple[float, float, float, float]:
    return quaternion.x, quaternion.y, quaternion.z, quaternion.w


def vision_info_message(header: Header, metadata: BundleMetadata) -> VisionInfo:
    """What the class ids of `~/poses` mean.

    `method` names the bundle, `database_version` is its schema version and `database_location` holds JSON: for each
    class_id its aliases, name, diameter, extents and centre (m) and symmetries.
    """
    from vision_msgs.msg import VisionInfo

    objects = {
        entry.class_id: {
            "aliases": list(entry.aliases),
            "name": entry.name,
            "diameter": float(entry.diameter),
            "extents": [float(value) for value in entry.extents],
            "centre": [float(value) for value in entry.centre],
            "symmetries": entry.symmetries,
        }
        for entry in metadata.objects
    }
    return VisionInfo(
        header=header,
        method=f"shared_pose_ros {metadata.name}",
        database_location=json.dumps(objects, default=float),
        database_version=int(metadata.schema_version),
    )


def _blank_makers(types: Mapping[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Makers of an empty ObjectHypothesisWithPose and an empty BoundingBox3D, all their parts in place.

    A ROS message class makes the default of each of its parts even when the part is given, so a message put together
    from its parts makes every innermost message several times: 23 µs per hypothesis instead of 6 on one core.
    `rosbags`' classes have no defaults; for them the parts are made here.

    Args:
        types: message classes by full name, rclpy's or `rosbags`'.
    """
    result = types["vision_msgs/msg/ObjectHypothesisWithPose"]
    bbox = types["vision_msgs/msg/BoundingBox3D"]
    try:
        result(), bbox()
    except TypeError:
        return lambda: _empty_result(types), lambda: _empty_bbox(types)
    return result, bbox


def _fill_pose(pose: Any, position: list[float], quaternion: list[float]) -> None:
    """Write metres and xyzw into a geometry_msgs/Pose."""
    place, rotation = pose.position, pose.orientation
    place.x, place.y, place.z = position
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion


def _empty_pose(types: Mapping[str, Any]) -> Any:
    return types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )


def _empty_result(types: Mapping[str, Any]) -> Any:
    return types["vision_msgs/msg/ObjectHypothesisWithPose"](
        hypothesis=types["vision_msgs/msg/ObjectHypothesis"](class_id="", score=0.0),
        pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=_empty_pose(types), covariance=None),
    )


def _empty_bbox(types: Mapping[str, Any]) -> Any:
    return types["vision_msgs/msg/BoundingBox3D"](
        center=_empty_pose(types), size=types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    )
