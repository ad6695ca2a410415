"""Plays a bag to shared_pose_node and ends after it.

    ros2 launch shared_pose_ros replay.launch.py bag:=/path/bag bundle:=/path/name.pose.pt

The node hears the topics of the bag, found by type in its metadata.yaml, and takes its time from /clock. Depth images
are used where depth:= names their topic.
"""

import time
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import ExecutableInPackage

COMPRESSED = "sensor_msgs/msg/CompressedImage"
TYPES = {
    "image": ("sensor_msgs/msg/Image", COMPRESSED),
    "detections": ("vision_msgs/msg/Detection2DArray",),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "depth": ("sensor_msgs/msg/Image",),
}


def bag_folder(context):
    return Path(LaunchConfiguration("bag").perform(context)).expanduser().absolute()


def recorded_topics(bag):
    """{topic: type} of a bag's metadata.yaml."""
    path = bag / "metadata.yaml"
    if not path.is_file():
        raise RuntimeError(
            f"{path} is missing; give the folder of a bag (`ros2 bag reindex` writes a lost metadata.yaml)"
        )
    content = yaml.safe_load(path.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
    described = [entry["topic_metadata"] for entry in content["topics_with_message_count"]]
    return {topic["name"]: topic["type"] for topic in described}


def choose(recorded, name, given):
    """The bag's topic for the node's topic `name`; None for camera_info not recorded and depth not asked for."""
    if name == "depth" and not given:
        return None
    fitting = sorted(topic for topic, kind in recorded.items() if kind in TYPES[name])
    if given:
        if given not in fitting:
            raise RuntimeError(f"{name}:={given} is not in the bag; choose one of {', '.join(fitting) or 'none'}")
        return given
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RuntimeError(
            f"the bag has several topics for {name}; choose one: {name}:={f' or {name}:='.join(fitting)}"
        )
    if name == "camera_info":
        return None
    raise RuntimeError(f"the bag has no {name}: no topic of type {' or '.join(TYPES[name])}")


def listen_to_the_bag(context):
    recorded = recorded_topics(bag_folder(context))
    depth = choose(recorded, "depth", LaunchConfiguration("depth").perform(context))
    # Its type is that of the images.
    others = {topic: kind for topic, kind in recorded.items() if topic != depth}
    names = [name for name in TYPES if name != "depth"]
    topics = {name: choose(others, name, LaunchConfiguration(name).perform(context)) for name in names}
    transport = "compressed" if recorded[topics["image"]] == COMPRESSED else "raw"
    found = {**topics, "camera_info": topics["camera_info"] or "camera_info", "image_transport": transport}
    found |= {"depth": depth or "depth", "use_depth": "true" if depth else "false"}
    return [SetLaunchConfiguration(name, value) for name, value in found.items()]


def end(event, context):
    """The launch ends with its player, and fails with it: an exception makes `ros2 launch` return 1."""
    if context.is_shutdown:
        return []
    if event.returncode:
        raise RuntimeError(f"the player ended with {event.returncode}; its last lines say why")
    return [EmitEvent(event=Shutdown(reason="the bag was played"))]


def play(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    if given("player") == "ros2_bag":
        command = ["ros2", "bag", "play", str(bag_folder(context)), "--clock", "--rate", given("rate")]
        inputs = [given(name) for name in TYPES if name != "depth" or given("use_depth") == "true"]
        command += ["--topics", *inputs] + (["--loop"] if given("loop") != "1" else [])
    else:
        report = given("report") or f"replay_{time.strftime('%Y%m%d_%H%M%S')}"
        node = "/".join(part.strip("/") for part in (given("namespace"), given("name")) if part.strip("/"))
        command = [ExecutableInPackage(package="shared_pose_ros", executable="shared_pose"), "replay"]
        command += [str(bag_folder(context)), "--live", "--clock", "--report", report, "--node", node]
        command += ["--rate", given("rate"), "--loop", given("loop")]
        command += ["--image", given("image"), "--detections", given("detections"), "--camera-info"]
        command += [given("camera_info") if given("camera_info") != "camera_info" else "none"]
        command += ["--depth", given("depth")] if given("use_depth") == "true" else []
    player = ExecuteProcess(cmd=command, output="screen", on_exit=end)
    # `shared_pose replay` waits for the node by itself, so it may start beside it.
    if given("player") == "shared_pose":
        return [player]
    return [RegisterEventHandler(OnStateTransition(goal_state="active", entities=[player]))]


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def generate_launch_description():
    node = Path(get_package_share_directory("shared_pose_ros")) / "launch" / "shared_pose.launch.py"
    arguments = [
        argument("bag", None, "folder of a rosbag2 recording"),
        argument("image", "", "topic of the images in the bag; empty: the only one"),
        argument("detections", "", "topic of the Detection2DArray in the bag; empty: the only one"),
        argument("camera_info", "", "topic of the CameraInfo in the bag; empty: the only one, if any"),
        argument("depth", "", "topic of registered depth images in the bag; empty: none is used"),
        argument(
            "player",
            "shared_pose",
            "shared_pose times the answers and writes a report; ros2_bag needs rosbag2",
            ["shared_pose", "ros2_bag"],
        ),
        argument("report", "", "folder of shared_pose's report; empty: replay_<date>_<time> in this folder"),
        argument("rate", "1.0", "times the recorded speed"),
        argument("loop", "1", "how often to play; ros2_bag: endlessly unless 1"),
        argument("use_sim_time", "true", "take the time from /clock, which is the bag's", ["true", "false"]),
    ]
    include = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(node)))
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=listen_to_the_bag), include, OpaqueFunction(function=play)]
    )
