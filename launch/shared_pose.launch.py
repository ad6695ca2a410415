"""Starts shared_pose_node.

    ros2 launch shared_pose_ros shared_pose.launch.py bundle:=/path/name.pose.pt image:=/camera/image_raw

Several cameras: include this file once per camera with another namespace.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

TOPICS = ("image", "detections", "camera_info")
DDS_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def shared_pose_node(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    overrides = {"use_sim_time": given("use_sim_time") == "true"}
    if given("bundle"):
        overrides["bundle"] = str(Path(given("bundle")).expanduser().absolute())
    if given("device") != "as_in_params_file":
        overrides["device"] = given("device")
    return [
        LifecycleNode(
            package="shared_pose_ros",
            executable="shared_pose_node",
            name="shared_pose_node",
            namespace=given("namespace"),
            output="screen",
            parameters=[given("params_file"), overrides],
            remappings=[(topic, given(topic)) for topic in TOPICS if given(topic) != topic],
            arguments=["--ros-args", "--log-level", given("log_level")],
        )
    ]


def generate_launch_description():
    config = Path(get_package_share_directory("shared_pose_ros")) / "config"
    arguments = [
        DeclareLaunchArgument(
            "bundle", default_value="", description="the model, a .pose.pt file; empty: as in params_file"
        ),
        DeclareLaunchArgument("image", default_value="image", description="topic of the images"),
        DeclareLaunchArgument("detections", default_value="detections", description="topic of the Detection2DArray"),
        DeclareLaunchArgument("camera_info", default_value="camera_info", description="topic of the CameraInfo"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of node and relative topics"),
        DeclareLaunchArgument(
            "params_file", default_value=str(config / "shared_pose.yaml"), description="YAML file of parameters"
        ),
        DeclareLaunchArgument(
            "device",
            default_value="as_in_params_file",
            choices=["as_in_params_file", "auto", "cpu", "cuda"],
            description="where the network runs",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", choices=["true", "false"], description="take the time from /clock"
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="least severity that is logged",
        ),
    ]
    # Without a large shared-memory segment Fast DDS loses most large images.
    profile = [] if os.environ.get(DDS_PROFILE) else [SetEnvironmentVariable(DDS_PROFILE, str(config / "fastdds.xml"))]
    return LaunchDescription([*arguments, *profile, OpaqueFunction(function=shared_pose_node)])
