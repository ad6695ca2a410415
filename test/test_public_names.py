"""What ``import shared_pose_ros as sp`` gives: ten names, imported when asked for; the examples that show them run."""

from __future__ import annotations

import ast
import doctest
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT

import shared_pose_ros as sp

NAMES = [name for name in sp.__all__ if name != "__version__"]


def loaded(code: str) -> set[str]:
    """Modules that a new process has loaded after this code."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_that_of_its_module(name: str) -> None:
    value = getattr(sp, name)
    assert value is getattr(import_module(f"shared_pose_ros.{sp._HOMES[name]}"), name) and value.__name__ == name
    assert f"``{name}``" in sp.__doc__


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse((ROOT / "shared_pose_ros" / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(alias.name, line.module) for line in block.body for alias in line.names}
    assert seen == {(name, f"shared_pose_ros.{sp._HOMES[name]}") for name in NAMES} and len(seen) == 10


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PoseEstimater'"):
        sp.PoseEstimater  # noqa: B018
    assert set(NAMES) <= set(dir(sp))


@pytest.mark.slow
def test_the_import_loads_no_library_and_the_estimator_none_of_the_training() -> None:
    assert not {"torch", "numpy", "cv2", "yaml"} & loaded("import shared_pose_ros")
    names = loaded("import shared_pose_ros as sp; sp.PoseEstimator, sp.PoseEstimate, sp.BundleError, sp.draw_estimates")
    assert "torch" in names and not {"warp", "trimesh", "kornia", "shared_pose_ros.training"} & names


def test_the_docstring_s_example_runs() -> None:
    result = doctest.testmod(sp)
    assert result.attempted > 8 and result.failed == 0


@pytest.mark.slow
def test_the_example_prints_and_draws_the_poses_of_an_image(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "estimate_image.py", "--picture", tmp_path / "poses.png"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = done.stdout.splitlines()
    assert (
        len(lines) == 8 and lines[0].startswith("clevis: confidence 0.") and "true [-0.025 -0.025  0.718] m" in lines[0]
    )
    assert np.ptp(cv2.imread(str(tmp_path / "poses.png"))) > 200
