"""The launch files, run with a stand-in for `launch` that records what they ask for; pip has no `launch`."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from shared_pose_ros.cli import replay
from shared_pose_ros.pipeline.parameters import PARAMETERS

FILES = sorted((ROOT / "launch").glob("*.launch.py"))
MODULES = (
    "ament_index_python ament_index_python.packages launch launch.actions launch.events launch.substitutions "
    "launch.launch_description_sources launch_ros launch_ros.actions launch_ros.event_handlers launch_ros.substitutions"
)


class Call:
    """An action, a substitution, ...: keeps its arguments."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def perform(self, context):
        """What a LaunchConfiguration stands for; a name that was not declared is a KeyError."""
        return context[self.args[0]]


class PackageNotFoundError(KeyError):
    """As ament's."""


class Context(dict):
    """Launch configurations; notes which are read."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


@pytest.fixture
def load(monkeypatch):
    """A function that runs one launch file; `installed` are the packages that exist beside ours."""
    installed = {"shared_pose_ros"}

    def prefix(package):
        if package not in installed:
            raise PackageNotFoundError(package)
        return "/opt/ros"

    for name in MODULES.split():
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (Call,), {})
        monkeypatch.setitem(sys.modules, name, module)
    packages = sys.modules["ament_index_python.packages"]
    packages.PackageNotFoundError, packages.get_package_prefix = PackageNotFoundError, prefix
    packages.get_package_share_directory = lambda package: str(ROOT)
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(variable, raising=False)

    def run(name):
        specification = importlib.util.spec_from_file_location(name.replace(".", "_"), ROOT / "launch" / name)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    run.installed = installed
    return run


def kind(call):
    return type(call).__name__


def actions(module):
    return module.generate_launch_description().args[0]


def declared(module):
    """{name: keyword arguments} of the arguments."""
    return {call.args[0]: call.kwargs for call in actions(module) if kind(call) == "DeclareLaunchArgument"}


def launched(module, **given):
    """What the functions of shared_pose.launch.py return for these arguments, and the context."""
    context = Context({name: kwargs["default_value"] for name, kwargs in declared(module).items()} | given)
    results = [call.kwargs["function"](context) for call in actions(module) if kind(call) == "OpaqueFunction"]
    return [call for result in results for call in result], context


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(load, path):
    arguments = declared(load(path.name))
    assert arguments
    for name, kwargs in arguments.items():
        assert kwargs["description"], name
        assert kwargs.get("choices") is None or kwargs["default_value"] in kwargs["choices"], name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_imported_from_launch_exists(path):
    # A misspelt module or class would pass the stand-in.
    known = {
        "LaunchDescription", "DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "GroupAction", "LogInfo",
        "IncludeLaunchDescription", "OpaqueFunction", "RegisterEventHandler", "SetEnvironmentVariable",
        "SetLaunchConfiguration", "Shutdown", "PythonLaunchDescriptionSource", "LaunchConfiguration", "LifecycleNode",
        "Node", "OnStateTransition", "ExecutableInPackage",
    }  # fmt: skip
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("launch", "launch_ros"):
            assert {alias.name for alias in node.names} <= known
            assert node.module in MODULES.split()


def test_every_argument_is_used(load):
    module = load("shared_pose.launch.py")
    load.installed.add("rviz2")
    _, context = launched(module, rviz="true")
    assert context.read == set(declared(module))


def test_choices_are_those_of_the_parameters(load):
    arguments = declared(load("shared_pose.launch.py"))
    for name in ("device", "image_transport"):
        assert tuple(arguments[name]["choices"][1:]) == PARAMETERS[name].choices
    for name, kwargs in arguments.items():
        if name in PARAMETERS and PARAMETERS[name].type is bool:
            assert kwargs["choices"][-2:] == ["true", "false"]


def test_without_arguments_the_params_file_rules(load):
    (node,), _ = launched(load("shared_pose.launch.py"))
    file, overrides = node.kwargs["parameters"]
    assert (kind(node), overrides) == ("LifecycleNode", {"use_sim_time": False})
    assert set(yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"]) == set(PARAMETERS)
    assert node.kwargs["remappings"] == []
    assert (node.kwargs["name"], node.kwargs["namespace"]) == ("shared_pose_node", "")


def test_arguments_become_parameters_and_remappings(load):
    (node,), _ = launched(
        load("shared_pose.launch.py"), bundle="a.pose.pt", device="cuda", image_transport="compressed",
        use_sim_time="true", use_depth="true", image="/cam/image", log_level="debug", namespace="left", name="poser",
    )  # fmt: skip
    overrides = node.kwargs["parameters"][1]
    assert overrides.pop("use_sim_time") is True
    assert overrides.pop("bundle") == str(Path("a.pose.pt").absolute())
    assert overrides == {"device": "cuda", "image_transport": "compressed", "use_depth": True} and set(
        overrides
    ) <= set(PARAMETERS)
    assert node.kwargs["remappings"] == [("image", "/cam/image")]
    assert node.kwargs["ros_arguments"] == ["--log-level", "debug"]


def test_a_missing_params_file_is_named(load):
    with pytest.raises(RuntimeError, match="nowhere.yaml is no file; give the path"):
        launched(load("shared_pose.launch.py"), params_file="nowhere.yaml")


def test_rviz_looks_at_this_node(load):
    module = load("shared_pose.launch.py")
    (_, said), _ = launched(module, rviz="true")
    assert kind(said) == "LogInfo" and "rviz2 is not installed" in said.kwargs["msg"]
    load.installed.add("rviz2")
    (_, rviz), _ = launched(module, rviz="true")
    assert rviz.kwargs["remappings"] == []
    (_, rviz), _ = launched(module, rviz="true", namespace="/left/", name="poser")
    displays = yaml.safe_load(Path(rviz.kwargs["arguments"][1]).read_text())["Visualization Manager"]["Displays"]
    shown = [display["Topic"]["Value"] for display in displays if "Topic" in display]
    assert rviz.kwargs["remappings"] == [(topic, topic.replace("/shared_pose_node", "/left/poser")) for topic in shown]


def test_the_dds_profile_is_set_unless_the_user_has_one(load, monkeypatch):
    module = load("shared_pose.launch.py")
    profiles = [call.args for call in actions(module) if kind(call) == "SetEnvironmentVariable"]
    assert [name for name, _ in profiles] == ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"]
    assert all(Path(path).is_file() for _, path in profiles)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "mine.xml")
    assert [call for call in actions(module) if kind(call) == "SetEnvironmentVariable"] == []


def test_two_cameras_include_the_node_twice(load):
    module = load("two_cameras.launch.py")
    groups = [call for call in actions(module) if kind(call) == "GroupAction"]
    spaces = [dict(group.args[0][0].kwargs["launch_arguments"])["namespace"].args[0] for group in groups]
    assert spaces == list(declared(module)) == ["first", "second"]
    for group in groups:
        assert Path(group.args[0][0].args[0].args[0]).is_file()


def replayed(module, node_module, **given):
    """The configurations set from the bag, and what plays it."""
    defaults = {**declared(node_module), **declared(module)}
    context = Context({name: kwargs["default_value"] for name, kwargs in defaults.items()} | given)
    for call in module.listen_to_the_bag(context):
        context[call.args[0]] = call.args[1]
    return context, module.play(context)[0]


def test_replay_finds_the_topics_of_the_bag(load):
    module, node = load("replay.launch.py"), load("shared_pose.launch.py")
    context, player = replayed(module, node, bag=str(ROOT / "models/demo_bag"), namespace="left", report="out/x")
    assert context["image"] == "/camera/image/compressed" and context["image_transport"] == "compressed"
    assert (context["camera_info"], context["detections"]) == ("/camera/camera_info", "/detections")
    assert context["use_sim_time"] == "true"
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    options = parser.parse_args(player.kwargs["cmd"][2:])
    assert (options.node, options.live, options.clock, options.rate) == ("left/shared_pose_node", True, True, 1.0)


def test_replay_takes_depth_by_name_alone(load, tmp_path):
    """Image and depth are of one type: without the name two topics would do for the image."""
    kinds = {"/image": "Image", "/depth": "Image", "/boxes": "Detection2DArray"}
    described = [
        {"topic_metadata": {"name": name, "type": f"{'vision' if name == '/boxes' else 'sensor'}_msgs/msg/{kind}"}}
        for name, kind in kinds.items()
    ]
    content = {"rosbag2_bagfile_information": {"topics_with_message_count": described}}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(content))
    module, node = load("replay.launch.py"), load("shared_pose.launch.py")
    with pytest.raises(RuntimeError, match="several topics for image"):
        replayed(module, node, bag=str(tmp_path))
    context, player = replayed(module, node, bag=str(tmp_path), depth="/depth")
    assert (context["image"], context["depth"], context["use_depth"]) == ("/image", "/depth", "true")
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    assert parser.parse_args(player.kwargs["cmd"][2:]).depth == "/depth"
    _, handler = replayed(module, node, bag=str(tmp_path), depth="/depth", player="ros2_bag")
    assert "/depth" in handler.args[0].kwargs["entities"][0].kwargs["cmd"]


def test_replay_fails_with_its_player(load):
    end = load("replay.launch.py").end
    running, stopping = types.SimpleNamespace(is_shutdown=False), types.SimpleNamespace(is_shutdown=True)
    assert kind(end(types.SimpleNamespace(returncode=0), running)[0]) == "EmitEvent"
    assert end(types.SimpleNamespace(returncode=-2), stopping) == []
    with pytest.raises(RuntimeError, match="the player ended with 1"):
        end(types.SimpleNamespace(returncode=1), running)


def test_replay_with_ros2_bag_waits_for_the_active_node(load):
    module, node = load("replay.launch.py"), load("shared_pose.launch.py")
    _, handler = replayed(module, node, bag=str(ROOT / "models/demo_bag"), player="ros2_bag", loop="3")
    waiting = handler.args[0].kwargs
    command = waiting["entities"][0].kwargs["cmd"]
    assert waiting["goal_state"] == "active"
    assert command[:3] == ["ros2", "bag", "play"] and "--clock" in command and "--loop" in command


@pytest.mark.parametrize(
    ("topics", "given", "words"),
    [
        ({"/a": "sensor_msgs/msg/Image", "/b": "sensor_msgs/msg/Image"}, "", "several topics for image; choose one"),
        ({"/a": "sensor_msgs/msg/Image"}, "/c", "image:=/c is not in the bag; choose one of /a"),
        ({}, "", "the bag has no image"),
    ],
)
def test_replay_says_which_topics_there_are(load, topics, given, words):
    with pytest.raises(RuntimeError, match=words):
        load("replay.launch.py").choose(topics, "image", given)


def test_a_bag_without_camera_info_is_played_without(load):
    assert load("replay.launch.py").choose({"/a": "sensor_msgs/msg/Image"}, "camera_info", "") is None
