"""Turns ~/poses into a grasp: the most confident part whose position is known, with a grasp fixed in the part's frame.

    python examples/grasp_listener.py --ros-args -p min_confidence:=0.6 -p grasp_position:="[0.0, 0.0, 0.05]"

Publishes geometry_msgs/PoseStamped on `grasp`, in the camera's frame with the image's stamp: tf2 does the rest.
"""

import contextlib

import numpy as np
import rclpy
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from vision_msgs.msg import Detection3DArray

# Of the gripper in the part's CAD frame, metres and xyzw: 50 mm above the origin, looking back at it.
PARAMETERS = {"min_confidence": 0.5, "grasp_position": [0.0, 0.0, 0.05], "grasp_orientation": [1.0, 0.0, 0.0, 0.0]}


def compose(part, position, orientation):
    """The pose of the gripper in the camera's frame: the part's pose after the grasp in the part's frame."""
    q, p = part.orientation, part.position
    v, w = np.array([q.x, q.y, q.z]), q.w
    turned = position + 2.0 * np.cross(v, np.cross(v, position) + w * np.asarray(position))
    u, s = np.array(orientation[:3]), orientation[3]
    x, y, z = (w * u + s * v + np.cross(v, u)).tolist()
    place = Point(x=p.x + float(turned[0]), y=p.y + float(turned[1]), z=p.z + float(turned[2]))
    return Pose(position=place, orientation=Quaternion(x=x, y=y, z=z, w=float(w * s - v @ u)))


def choose(poses, min_confidence):
    """The first hypothesis with the highest score at or above the limit whose position is known, or None."""
    firsts = [detection.results[0] for detection in poses.detections if detection.results]
    known = [first for first in firsts if first.pose.covariance[0] >= 0 and first.hypothesis.score >= min_confidence]
    return max(known, key=lambda first: first.hypothesis.score, default=None)


class GraspListener(Node):
    """The subscriber."""

    def __init__(self):
        super().__init__("grasp_listener")
        self.declare_parameters("", list(PARAMETERS.items()))
        self.grasp = self.create_publisher(PoseStamped, "grasp", 1)
        self.create_subscription(Detection3DArray, "shared_pose_node/poses", self.on_poses, 1)

    def on_poses(self, poses):
        """Publish the grasp of the best part, if there is one."""
        limit, *grasp = (self.get_parameter(name).value for name in PARAMETERS)
        best = choose(poses, limit)
        if best is not None:
            self.get_logger().info(f"{best.hypothesis.class_id}, confidence {best.hypothesis.score:.2f}")
            self.grasp.publish(PoseStamped(header=poses.header, pose=compose(best.pose.pose, *grasp)))


if __name__ == "__main__":
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(GraspListener())
