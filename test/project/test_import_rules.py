"""The rules that keep the rooms apart: who may import whom, what a cell must do without, how long a file may be."""

import ast
import json
import subprocess
import sys

import pytest
from checkout import ROOT

PACKAGE = "shared_pose_ros"
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))

# A room may import itself and what stands before it. `resources` only finds files, `html_page` writes reports, `plots`
# the curves and bars in them, `drawing` draws estimates.
ROOMS = (
    "resources",
    "html_page",
    "plots",
    "geometry",
    "meshes",
    "rendering",
    "network",
    "training",
    "bundle",
    "estimator",
    "pipeline",
    "drawing",
    "baselines",
    "bags",
    "evaluation",
    "scenes",
    "report",
    "ros",
    "replay",
    "cli",
)
# What runs in a cell, with torch, numpy, opencv and ROS alone.
CELL_ROOMS = ("resources", "geometry", "network", "bundle", "estimator", "pipeline", "drawing", "ros")
NOT_IN_A_CELL = ("warp", "pytorch3d", "trimesh", f"{PACKAGE}.training")
ROS_PACKAGES = (
    "action_msgs",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "ros2cli",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "tf2_ros",
    "vision_msgs",
    "visualization_msgs",
)
# The demo and the live replay stand outside the node, as a camera and a grasp planner would, so they speak ROS.
MAY_SPEAK_ROS = ("ros/", "replay/demo_live", "replay/live", "replay/player")
# PyTorch3D is absent from the usual environment; `make parity` imports this one.
NEEDS_PYTORCH3D = "rendering/pytorch3d_rasterizer.py"
LONGEST_FILE = 450
LONGEST_MEDIAN_FILE = 180


def imported_modules(path, tree=None):
    """Dotted names of every module that a file imports, at any depth, relative imports resolved."""
    tree = tree or ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parent.parts
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from shared_pose_ros import bundle` imports a module, `from x import name` most often does not:
            # both are listed, since a rule about modules ignores names that are none.
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def inside(path):
    """Path within the package, with forward slashes."""
    return path.relative_to(ROOT / PACKAGE).as_posix()


def room_of(path):
    """The room of a file: its folder, or its own name beside the folders."""
    return inside(path).split("/")[0].removesuffix(".py")


def is_or_is_in(module, packages):
    return any(module == package or module.startswith(package + ".") for package in packages)


def violations_of_order(path, tree=None):
    """Rooms that a file imports although they stand after its own."""
    if room_of(path) == "__init__":
        return []
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    rooms = {name.split(".")[1] for name in imported_modules(path, tree) if name.startswith(PACKAGE + ".")}
    return sorted(room for room in rooms if room in ROOMS and room not in allowed)


def test_every_file_is_in_a_known_room():
    assert {room_of(path) for path in SOURCES} <= {*ROOMS, "__init__"}


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_imports_point_up_the_list_of_rooms(path):
    assert violations_of_order(path) == []


def test_the_order_rule_sees_every_kind_of_import():
    path = ROOT / PACKAGE / "geometry" / "boxes.py"
    for line in (
        "import shared_pose_ros.training.trainer",
        "from shared_pose_ros.training import trainer",
        "from shared_pose_ros import training",
        "from ..training import trainer",
        "from .. import training",
        "def f():\n    from shared_pose_ros.training.trainer import Trainer",
    ):
        assert violations_of_order(path, ast.parse(line)) == ["training"], line
    assert violations_of_order(path, ast.parse("from . import cameras\nimport torch")) == []


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_only_ros_and_the_demo_speak_ros(path):
    if inside(path).startswith(MAY_SPEAK_ROS):
        return
    assert [name for name in imported_modules(path) if is_or_is_in(name, ROS_PACKAGES)] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) in CELL_ROOMS], ids=inside)
def test_a_cell_names_no_training_library(path):
    assert [name for name in imported_modules(path) if is_or_is_in(name, NOT_IN_A_CELL)] == []


BLOCKED_IMPORT = """
import importlib, json, sys

blocked, modules = json.loads(sys.argv[1])


class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == package or name.startswith(package + ".") for package in blocked):
            raise ImportError(f"{name} must not be imported here")


sys.meta_path.insert(0, Block())
for module in modules:
    importlib.import_module(module)
"""


def import_without(blocked, modules):
    """Import `modules` in a new Python in which importing `blocked` fails; returns (exit status, error output)."""
    command = [sys.executable, "-c", BLOCKED_IMPORT, json.dumps([blocked, modules])]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def module_name(path):
    """Dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_a_cell_runs_without_training_libraries():
    modules = [module_name(path) for path in SOURCES if room_of(path) in CELL_ROOMS]
    status, error = import_without(NOT_IN_A_CELL, modules)
    assert status == 0, error


def test_everything_but_ros_runs_without_ros():
    modules = [
        module_name(path)
        for path in SOURCES
        if not inside(path).startswith(MAY_SPEAK_ROS) and inside(path) != NEEDS_PYTORCH3D
    ]
    status, error = import_without(ROS_PACKAGES, modules)
    assert status == 0, error


def test_the_blocked_import_does_block():
    status, error = import_without(["trimesh"], [f"{PACKAGE}.geometry.boxes"])
    assert status == 0, error
    status, error = import_without(["numpy"], [f"{PACKAGE}.geometry.boxes"])
    assert status != 0
    assert "must not be imported here" in error


def names_torch_jit(tree):
    """Whether a syntax tree mentions torch.jit, as an attribute or in an import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "jit":
            if isinstance(node.value, ast.Name) and node.value.id == "torch":
                return True
        elif isinstance(node, ast.Import):
            if any(is_or_is_in(alias.name, ("torch.jit",)) for alias in node.names):
                return True
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(is_or_is_in(name, ("torch.jit",)) for name in names):
                return True
    return False


@pytest.mark.parametrize("path", [path for path in SOURCES if inside(path) != "bundle/torchscript.py"], ids=inside)
def test_only_the_bundle_names_torch_jit(path):
    assert not names_torch_jit(ast.parse(path.read_text(encoding="utf-8")))


def test_the_torch_jit_rule_sees_every_spelling():
    for line in ("torch.jit.script(f)", "import torch.jit", "from torch import jit", "from torch.jit import script"):
        assert names_torch_jit(ast.parse(line)), line
    assert not names_torch_jit(ast.parse("import torch\ntorch.nn.Linear(1, 1)"))


def test_files_stay_short():
    files = [*SOURCES, *(ROOT / "test").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_median_file_is_short():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES)
    assert lengths[len(lengths) // 2] < LONGEST_MEDIAN_FILE
