"""Poses as transforms on /tf: from the image's frame to one frame an object, for those whose position is known."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import Transform, TransformStamped, Vector3
from vision_msgs.msg import Detection3DArray

from shared_pose_ros.ros.messages.poses import object_names, position_known


def transforms_type() -> type:
    """tf2_msgs/TFMessage; ValueError where the package is missing. Imported only where it is used."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError as error:
        raise ValueError(
            f"publish_tf needs the package tf2_msgs ({error}): install it (ros-$ROS_DISTRO-tf2-msgs, or `make setup` "
            "in the pip installation), or set publish_tf to false"
        ) from error
    return TFMessage


def transforms(poses: Detection3DArray, node_name: str) -> list[TransformStamped]:
    """The first hypothesis of each object: header the image's, child `<node_name>/<class_id>_<id>`, see `object_names`.

    X_image = R X_child + t, metres; the child frame is the CAD's.
    """
    found = []
    for detection, name in zip(poses.detections, object_names(poses)):
        result: Any = detection.results[0].pose
        if position_known(result):
            place = result.pose.position
            transform = Transform(
                translation=Vector3(x=place.x, y=place.y, z=place.z), rotation=result.pose.orientation
            )
            found.append(
                TransformStamped(header=poses.header, child_frame_id=f"{node_name}/{name}", transform=transform)
            )
    return found
