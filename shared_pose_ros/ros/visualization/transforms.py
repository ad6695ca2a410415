"""Poses as transforms on /tf: from the image's frame to one frame per object, for those whose position is known."""

from __future__ import annotations

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.ros.messages.poses import message_header


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


def transforms(poses: PublishedPoses, node_name: str) -> list[TransformStamped]:
    """The first hypothesis of each object: header the image's, child `<node_name>/<class_id>_<id>`.

    X_image = R X_child + t, metres; the child frame is the CAD's. The names are those of ``PublishedPoses.names``.
    """
    header = message_header(poses.stamp, poses.frame_id)
    found = []
    for number, name in enumerate(poses.names):
        if poses.located[number]:
            x, y, z = poses.positions[number, 0].tolist()
            i, j, k, w = poses.quaternions[number, 0].tolist()
            transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=i, y=j, z=k, w=w))
            found.append(TransformStamped(header=header, child_frame_id=f"{node_name}/{name}", transform=transform))
    return found
