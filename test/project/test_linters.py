"""The linters' settings find what they should, and each package.xml is one that ROS's own parser accepts."""

import subprocess
import sys

import pytest
from catkin_pkg.package import InvalidPackage, parse_package, parse_package_string
from checkout import ROOT

MANIFESTS = (ROOT / "package.xml", *sorted((ROOT / "tools" / "pip_ros").glob("*/package.xml")))


def run(*command):
    """Exit status and output of a command run in the checkout."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_ruff_checks_docstrings_and_mistakes(tmp_path):
    # Were a rule group dropped from ruff.toml, `make lint` would pass on anything.
    (tmp_path / "bad.py").write_text("import os\n\n\ndef area(w, h):\n    assert w > 0\n    return w * h\n")
    config = str(ROOT / "ruff.toml")
    status, output = run(sys.executable, "-m", "ruff", "check", "--no-cache", "--config", config, str(tmp_path))
    assert status == 1
    assert all(rule in output for rule in ("D100", "D103", "F401", "S101")), output


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_ros_accepts_the_manifest(path):
    warnings = []
    package = parse_package(str(path), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3 and package.get_build_type().startswith("ament_")
    for depends in (package.exec_depends, package.test_depends, package.build_depends):
        names = [depend.name for depend in depends]
        assert sorted(names) == sorted(set(names)), "a dependency stands twice"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("<exec_depend>rclpy</exec_depend>", "<run_depend>rclpy</run_depend>", "run_depend"),
        (" email=", " mail=", "maintainer"),
        ("<version>0", "<version>", "version"),
    ],
)
def test_the_parser_finds_errors(old, new, error):
    good = MANIFESTS[0].read_text(encoding="utf-8")
    assert old in good
    with pytest.raises(InvalidPackage, match=error):
        parse_package_string(good.replace(old, new, 1)).validate()


def test_shell_scripts_parse():
    status, output = run("bash", "-n", ".ci/run")
    assert status == 0, output
