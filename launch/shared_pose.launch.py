"""Starts shared_pose_node.

    ros2 launch shared_pose_ros shared_pose.launch.py bundle:=/path/name.pose.pt image:=/camera/image_raw

Several cameras: include this file once per camera with another namespace, as two_cameras.launch.py does.
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from shared_pose_ros.resources import DDS_PROFILES

TOPICS = ("image", "detections", "camera_info", "depth")
UNCHANGED = "as_in_params_file"
# What config/shared_pose.rviz shows.
PICTURES = ("markers", "debug_image")
NODE = "shared_pose_node"


def config_folder():
    return Path(get_package_share_directory("shared_pose_ros")) / "config"


def shared_pose_node(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    params_file = Path(given("params_file")).expanduser().absolute()
    if not params_file.is_file():
        raise RuntimeError(f"params_file:={params_file} is no file; give the path of a YAML file of parameters")
    overrides = {"use_sim_time": given("use_sim_time") == "true"}
    if given("bundle"):
        overrides["bundle"] = str(Path(given("bundle")).expanduser().absolute())
    for name in ("device", "image_transport"):
        if given(name) != UNCHANGED:
            overrides[name] = given(name)
    if given("use_depth") != UNCHANGED:
        overrides["use_depth"] = given("use_depth") == "true"
    return [
        LifecycleNode(
            package="shared_pose_ros",
            executable="shared_pose_node",
            name=given("name"),
            namespace=given("namespace"),
            output="screen",
            parameters=[str(params_file), overrides],
            remappings=[(topic, given(topic)) for topic in TOPICS if given(topic) != topic],
            ros_arguments=["--log-level", given("log_level")],
        )
    ]


def rviz(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    if given("rviz") == "false":
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        package = f"ros-{os.environ.get('ROS_DISTRO', '<distro>')}-rviz2"
        return [LogInfo(msg=f"rviz:=true, but rviz2 is not installed (sudo apt install {package}): going on without")]
    parts = [part.strip("/") for part in (given("namespace"), given("name")) if part.strip("/")]
    node = "/" + "/".join(parts)
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            output="screen",
            name=f"{given('name')}_rviz",
            namespace=given("namespace"),
            arguments=["-d", str(config_folder() / "shared_pose.rviz")],
            parameters=[{"use_sim_time": given("use_sim_time") == "true"}],
            remappings=[(f"/{NODE}/{topic}", f"{node}/{topic}") for topic in PICTURES if node != f"/{NODE}"],
        )
    ]


def dds_profile():
    # Without a large shared-memory segment Fast DDS loses most large images.
    if any(os.environ.get(name) for name in DDS_PROFILES):
        return []
    return [SetEnvironmentVariable(name, str(config_folder() / "fastdds.xml")) for name in DDS_PROFILES]


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def generate_launch_description():
    switch = ["true", "false"]
    severities = ["debug", "info", "warn", "error", "fatal"]
    arguments = [
        argument("bundle", "", "the model, a .pose.pt file; empty: as in params_file"),
        argument("image", "image", "topic of the images"),
        argument("detections", "detections", "topic of the vision_msgs/Detection2DArray"),
        argument("camera_info", "camera_info", "topic of the CameraInfo; optional, gives positions"),
        argument("depth", "depth", "topic of depth images that are registered to the images; heard with use_depth"),
        argument("use_depth", UNCHANGED, "take positions from depth images", [UNCHANGED, *switch]),
        argument("image_transport", UNCHANGED, "type of the images", [UNCHANGED, "raw", "compressed"]),
        argument("namespace", "", "namespace of the node and of relative topics"),
        argument("name", NODE, "name of the node; its topics are below it"),
        argument("params_file", str(config_folder() / "shared_pose.yaml"), "YAML file of parameters"),
        argument("device", UNCHANGED, "where the network runs", [UNCHANGED, "auto", "cpu", "cuda"]),
        argument("use_sim_time", "false", "take the time from /clock", switch),
        argument("log_level", "info", "least severity that is logged", severities),
        argument("rviz", "false", "start RViz with the node's markers and debug image", switch),
    ]
    actions = [OpaqueFunction(function=shared_pose_node), OpaqueFunction(function=rviz)]
    return LaunchDescription([*arguments, *dds_profile(), *actions])
