"""Empty messages to fill in, parts of a poses message.

A ROS message class makes the default of each of its parts even when the part is given, so a message put together from
its parts makes every innermost message several times: 23 µs a hypothesis instead of 6 on one core. `rosbags`' classes
have no defaults; for them the parts are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def blank_makers(types: Mapping[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Makers of an empty ObjectHypothesisWithPose and an empty BoundingBox3D, all their parts in place.

    Args:
        types: message classes by full name, rclpy's or `rosbags`'.
    """
    result = types["vision_msgs/msg/ObjectHypothesisWithPose"]
    bbox = types["vision_msgs/msg/BoundingBox3D"]
    try:
        result(), bbox()
    except TypeError:
        return lambda: _result(types), lambda: _bbox(types)
    return result, bbox


def fill_pose(pose: Any, position: list[float], quaternion: list[float]) -> None:
    """Write metres and xyzw into a geometry_msgs/Pose."""
    place, turn = pose.position, pose.orientation
    place.x, place.y, place.z = position
    turn.x, turn.y, turn.z, turn.w = quaternion


def _pose(types: Mapping[str, Any]) -> Any:
    return types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )


def _result(types: Mapping[str, Any]) -> Any:
    return types["vision_msgs/msg/ObjectHypothesisWithPose"](
        hypothesis=types["vision_msgs/msg/ObjectHypothesis"](class_id="", score=0.0),
        pose=types["geometry_msgs/msg/PoseWithCovariance"](pose=_pose(types), covariance=None),
    )


def _bbox(types: Mapping[str, Any]) -> Any:
    return types["vision_msgs/msg/BoundingBox3D"](
        center=_pose(types), size=types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    )
