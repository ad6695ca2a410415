"""Starts one shared_pose_node per camera, each in its camera's namespace: an example to copy.

    ros2 launch shared_pose_ros two_cameras.launch.py bundle:=/path/name.pose.pt first:=left second:=right

gives /left/shared_pose_node, which hears /left/image, /left/detections and /left/camera_info, and the same for right.
With image:=image_rect, which is relative, they hear /left/image_rect and /right/image_rect; with use_depth:=true also
/left/depth and /right/depth.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration


def camera(name):
    node = Path(get_package_share_directory("shared_pose_ros")) / "launch" / "shared_pose.launch.py"
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(node)), launch_arguments={"namespace": LaunchConfiguration(name)}.items()
    )
    # The group keeps one camera's arguments from the next one's. Those that are not named here (bundle, device, ...)
    # both take from the command line.
    return GroupAction([include])


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("first", default_value="left", description="namespace of the first camera"),
            DeclareLaunchArgument("second", default_value="right", description="namespace of the second camera"),
            camera("first"),
            camera("second"),
        ]
    )
