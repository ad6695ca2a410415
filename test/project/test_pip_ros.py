"""The tools behind `make setup`: what they refuse, what they repeat, what they rewrite."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from checkout import ROOT, made_by_make
from rosbags.typesys import Stores, get_typestore

TOOLS = ROOT / "tools" / "pip_ros"


def load(name):
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


preflight = load("preflight")
builder = load("build_interfaces")
setup_environment = load("setup_environment")


@made_by_make
def test_this_machine_is_accepted(tmp_path):
    assert preflight.first_problem(str(tmp_path / "venv")) is None


@pytest.mark.parametrize(("version", "accepted"), [((3, 9), False), ((3, 10), True), ((3, 14), True), ((3, 15), False)])
def test_preflight_knows_the_pythons_with_wheels(version, accepted):
    problem = preflight.check_python(version)
    assert (problem is None) == accepted
    if not accepted:
        assert f"{version[0]}.{version[1]}" in problem
        assert "make PYTHON=" in problem


def test_preflight_knows_the_machines_with_wheels(monkeypatch):
    monkeypatch.setattr(preflight.platform, "machine", lambda: "aarch64")
    assert "aarch64" in preflight.check_machine()
    monkeypatch.setattr(preflight.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(preflight.platform, "libc_ver", lambda: ("glibc", "2.27"))
    assert "2.28" in preflight.check_machine()
    monkeypatch.setattr(preflight.platform, "libc_ver", lambda: ("", ""))
    assert "glibc" in preflight.check_machine()
    monkeypatch.setattr(preflight.sys, "platform", "darwin")
    assert "darwin" in preflight.check_machine()


def test_preflight_names_the_missing_package(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "python3-dev" in preflight.check_python_parts()
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "python3-venv" in preflight.check_python_parts()
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "no-such-compiler" in preflight.check_compiler()
    assert "apt install g++" in preflight.check_compiler()


def test_preflight_wants_room_for_a_new_environment_only(tmp_path):
    assert "1.0 GB free" in preflight.check_disk(str(tmp_path / "venv"), free=1e9)
    assert preflight.check_disk(str(tmp_path / "venv"), free=5e9) is None
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "setup.json").write_text("{}")
    assert preflight.check_disk(str(tmp_path / "venv"), free=1e9) is None


def test_exported_paths_become_those_of_this_machine(tmp_path):
    exported = tmp_path / "std_msgs" / "cmake" / "export.cmake"
    exported.parent.mkdir(parents=True)
    exported.write_text(
        'INCLUDES "/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"\n'
    )
    assert builder.rewrite_exported_paths(tmp_path, "/here/python", "/here/numpy") == 1
    assert exported.read_text() == 'INCLUDES "/here/python;/here/numpy"\n'
    assert builder.rewrite_exported_paths(tmp_path, "/here/python", "/here/numpy") == 0


@made_by_make
@pytest.mark.parametrize("package", ["vision_msgs", "tf2_msgs"])
def test_the_installed_packages_are_the_real_ones(package):
    builder.check_type_hashes(package, Path(sys.prefix))
    builder.check_import(package, sys.executable)


def test_the_hash_of_tf2_msgs_is_that_of_another_implementation():
    found = get_typestore(Stores.ROS2_JAZZY).hash_rihs01("tf2_msgs/msg/TFMessage")
    assert found == builder.TYPE_HASHES["tf2_msgs"]["TFMessage"]


def test_another_type_hash_is_refused(tmp_path):
    folder = tmp_path / "share" / "vision_msgs" / "msg"
    folder.mkdir(parents=True)
    for name, value in builder.TYPE_HASHES["vision_msgs"].items():
        entry = {"type_name": f"vision_msgs/msg/{name}", "hash_string": value}
        (folder / f"{name}.json").write_text(json.dumps({"type_hashes": [entry]}))
    builder.check_type_hashes("vision_msgs", tmp_path)
    entry["hash_string"] = "RIHS01_0"
    (folder / f"{name}.json").write_text(json.dumps({"type_hashes": [entry]}))
    with pytest.raises(builder.BuildError, match=f"{name} has the type hash RIHS01_0"):
        builder.check_type_hashes("vision_msgs", tmp_path)
    with pytest.raises(builder.BuildError, match="TFMessage.json was not installed"):
        builder.check_type_hashes("tf2_msgs", tmp_path)


@pytest.fixture
def fake_steps(monkeypatch, tmp_path):
    """Two steps that note that they ran; returns the list of notes and the file that the second one depends on."""
    ran, source = [], tmp_path / "source.txt"
    source.write_text("one")

    def step(name):
        def command(python):
            ran.append(name)
            return [sys.executable, "-c", (tmp_path / f"{name}.py").read_text() if name == "second" else ""]

        return setup_environment.Step(name, f"doing {name}", (source,) if name == "second" else (), command)

    (tmp_path / "second.py").write_text("")
    monkeypatch.setattr(setup_environment, "MAKE_ENVIRONMENT", ("-m", "venv", "--without-pip"))  # seconds less
    monkeypatch.setattr(setup_environment, "steps", lambda: [step("first"), step("second")])
    return ran, source, tmp_path / "second.py"


def test_setup_repeats_only_what_changed(fake_steps, tmp_path):
    ran, source, _ = fake_steps
    environment = tmp_path / "venv"
    assert setup_environment.set_up(environment)
    assert ran == ["first", "second"]
    assert not setup_environment.set_up(environment)
    source.write_text("two")
    assert setup_environment.set_up(environment)
    assert ran == ["first", "second", "second"]


def test_the_environment_with_pytorch3d_has_steps_of_its_own(fake_steps, tmp_path, monkeypatch):
    ran, _, _ = fake_steps
    names = [step.name for step in setup_environment.steps_pytorch3d()]
    assert names == ["packages", "shared_pose_ros"]
    (locked,) = setup_environment.steps_pytorch3d()[0].inputs
    assert locked.read_text().count("easypytorch3d==") == 1
    monkeypatch.setattr(setup_environment, "steps_pytorch3d", lambda: setup_environment.steps()[:1])
    assert setup_environment.set_up(tmp_path / "venv", kind="pytorch3d")
    assert ran == ["first"]


def test_setup_starts_over_after_a_failed_step(fake_steps, tmp_path):
    ran, _, program = fake_steps
    environment = tmp_path / "venv"
    program.write_text("raise SystemExit('error: the disk is full')")
    with pytest.raises(setup_environment.SetupError, match="the disk is full .*setup.log"):
        setup_environment.set_up(environment)
    program.write_text("")
    assert setup_environment.set_up(environment)
    assert ran == ["first", "second", "first", "second"]


def test_setup_repeats_a_step_that_can_restart(fake_steps, tmp_path, monkeypatch):
    ran, _, program = fake_steps
    monkeypatch.setattr(setup_environment, "RESTARTABLE", ("second",))
    program.write_text("raise SystemExit(1)")
    with pytest.raises(setup_environment.SetupError):
        setup_environment.set_up(tmp_path / "venv")
    program.write_text("")
    assert setup_environment.set_up(tmp_path / "venv")
    assert ran == ["first", "second", "second"]


def test_setup_leaves_a_foreign_folder_alone(fake_steps, tmp_path):
    environment = tmp_path / "mine"
    environment.mkdir()
    (environment / "thesis.tex").write_text("precious")
    with pytest.raises(setup_environment.SetupError, match="not made by make"):
        setup_environment.set_up(environment)
    assert (environment / "thesis.tex").read_text() == "precious"


def test_setup_starts_over_when_the_checkout_moved(fake_steps, tmp_path, monkeypatch):
    ran, _, _ = fake_steps
    environment = tmp_path / "venv"
    setup_environment.set_up(environment)
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path / "elsewhere")
    assert setup_environment.set_up(environment)
    assert ran == ["first", "second", "first", "second"]
