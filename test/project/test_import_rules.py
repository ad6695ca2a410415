"""What the packages may import (.importlinter, checked by `make lint`) and what they must run without; file lengths."""

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

PACKAGE = "shared_pose_ros"
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))
NEED_ROS = tuple(f"{PACKAGE}.{name}" for name in ("ros", "replay.player", "replay.live", "replay.demo_live"))
# PyTorch3D is absent from the usual environment; `make parity` imports this one.
NEEDS_PYTORCH3D = f"{PACKAGE}.rendering.pytorch3d_rasterizer"
# Not in quotes: a TorchScript archive's own pickle holds the name.
TORCH_JIT = re.compile(r"""(?<!["`])\btorch\.jit\b|\bfrom torch import\b.*\bjit\b""")
LONGEST_FILE = 450
LONGEST_MEDIAN_FILE = 180

CONTRACTS = configparser.ConfigParser()
CONTRACTS.read(ROOT / ".importlinter")


def listed(contract: str, key: str) -> tuple[str, ...]:
    """The entries of a contract's list."""
    return tuple(CONTRACTS[f"importlinter:contract:{contract}"][key].split())


def module_name(path: Path) -> str:
    """Dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def lint_imports(folder: Path) -> str:
    """Output of import-linter on the package in `folder`, with this checkout's contracts."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"  # -c looks in `folder` first
    command = [sys.executable, "-c", code, "--no-cache", "--config", str(ROOT / ".importlinter")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_the_contracts_are_kept():
    assert " 0 broken." in lint_imports(ROOT)


def test_each_contract_can_be_broken(tmp_path):
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in (
        ("geometry/boxes.py", "def f():\n    from ..meshes import mesh"),
        ("report/page.py", "from vision_msgs.msg import Detection3DArray"),
        ("ros/worker.py", "import shared_pose_ros.scenes.renderer"),  # which imports trimesh or warp somewhere below
    ):
        with (tmp_path / PACKAGE / file).open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
    output = lint_imports(tmp_path)
    assert f"Contracts: 0 kept, {len(CONTRACTS.sections()) - 1} broken." in output, output


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
    """Error output of a new Python that imports `modules` while importing `blocked` fails; empty if it succeeds."""
    command = [sys.executable, "-W", "ignore", "-c", BLOCKED_IMPORT, json.dumps([blocked, modules])]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else ""


@pytest.mark.slow
def test_a_cell_runs_without_training_libraries():
    modules = [name for name in map(module_name, SOURCES) if is_in(name, listed("cell", "source_modules"))]
    assert len(modules) > 50
    assert import_without(listed("cell", "forbidden_modules"), modules) == ""


@pytest.mark.slow
def test_everything_but_ros_runs_without_ros():
    modules = [name for name in map(module_name, SOURCES) if not is_in(name, (*NEED_ROS, NEEDS_PYTORCH3D))]
    assert len(modules) > 100
    assert import_without(listed("ros", "forbidden_modules"), modules) == ""


@pytest.mark.slow
def test_the_blocked_import_does_block():
    assert import_without(["trimesh"], [f"{PACKAGE}.geometry.boxes"]) == ""
    assert "must not be imported here" in import_without(["numpy"], [f"{PACKAGE}.geometry.boxes"])


@pytest.mark.parametrize("line", ["torch.jit.script(f)", "import torch.jit", "from torch import jit"])
def test_the_torch_jit_rule_sees_every_spelling(line):
    assert TORCH_JIT.search(line)


def test_only_the_bundle_names_torch_jit():
    sources = {path.relative_to(ROOT / PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES}
    assert [name for name, text in sources.items() if TORCH_JIT.search(text)] == ["bundle/torchscript.py"]


def test_files_stay_short():
    files = [*SOURCES, *(path for folder in ("test", "tools", "benchmark") for path in (ROOT / folder).rglob("*.py"))]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path.name: length for path, length in lengths.items() if length > LONGEST_FILE} == {}
    inside = sorted(lengths[path] for path in SOURCES)
    assert inside[len(inside) // 2] < LONGEST_MEDIAN_FILE
