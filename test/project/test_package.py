"""One version, complete manifests, and files that an installation puts where ROS looks for them."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from checkout import ROOT, made_by_make

import shared_pose_ros

MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
VERSION = MANIFEST.findtext("version")
SOURCES = sorted((ROOT / "shared_pose_ros").rglob("*.py"))

# The distribution that provides a module, where the names differ.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "pytorch3d": "easypytorch3d", "warp": "warp-lang", "yaml": "PyYAML"}
# torch's own logger needs the tensorboard package, which nothing of ours imports by name.
NEEDED_INDIRECTLY = {"tensorboard"}
# No distribution of Linux packages these, so rosdep could only call pip, which newer systems forbid.
WHEELS_ONLY = {
    *("codespell", "fast-simplification", "import-linter", "kornia", "manifold3d", "rosbags", "ruff", "tensorboard"),
    *("trimesh", "types-PyYAML", "warp-lang"),
}


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def setup_arguments():
    """What setup.py hands to setuptools."""
    import setuptools

    captured = {}
    original, setuptools.setup = setuptools.setup, captured.update
    try:
        code = compile((ROOT / "setup.py").read_text(encoding="utf-8"), str(ROOT / "setup.py"), "exec")
        exec(code, {"__file__": str(ROOT / "setup.py"), "__name__": "__main__"})
    finally:
        setuptools.setup = original
    return captured


def third_party_imports(paths):
    """{top-level module: files that import it} for what is neither ours nor Python's."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "shared_pose_ros":
                    found.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_the_version_is_written_in_package_xml_alone():
    assert shared_pose_ros.__version__ == VERSION
    assert VERSION not in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert VERSION not in (ROOT / "shared_pose_ros" / "__init__.py").read_text(encoding="utf-8")


def test_the_installed_version_is_used_without_package_xml(tmp_path):
    # As after an installation: the module stands in site-packages, package.xml does not stand beside it.
    package = tmp_path / "shared_pose_ros"
    package.mkdir()
    (package / "__init__.py").write_text((ROOT / "shared_pose_ros" / "__init__.py").read_text(encoding="utf-8"))
    information = tmp_path / "shared_pose_ros-9.8.7.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shared_pose_ros\nVersion: 9.8.7\n")
    command = [sys.executable, "-c", "import shared_pose_ros; print(shared_pose_ros.__version__)"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "9.8.7"


def test_setup_takes_the_manifest(setup_arguments):
    assert setup_arguments["version"] == VERSION
    assert setup_arguments["name"] == MANIFEST.findtext("name") == "shared_pose_ros"
    assert setup_arguments["license"] == MANIFEST.findtext("license") == "Apache-2.0"


def test_the_changelog_has_the_version():
    versions = re.findall(r"^(\d+\.\d+\.\d+) \(.*\)\n-{5,}$", (ROOT / "CHANGELOG.rst").read_text(), flags=re.MULTILINE)
    assert VERSION in versions


def test_every_room_is_installed(setup_arguments):
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    assert set(setup_arguments["packages"]) == folders


def test_share_holds_what_ros_looks_for(setup_arguments):
    destinations = {
        f"{folder}/{Path(source).name}": source
        for folder, sources in setup_arguments["data_files"]
        for source in sources
    }
    assert destinations["share/ament_index/resource_index/packages/shared_pose_ros"] == "resource/shared_pose_ros"
    assert destinations["share/shared_pose_ros/package.xml"] == "package.xml"
    for folder in ("launch", "config", "examples", "models"):
        committed = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert committed, folder
        for path in committed:
            relative = path.relative_to(ROOT).as_posix()
            assert destinations[f"share/shared_pose_ros/{relative}"] == relative


def test_programs_lead_to_functions(setup_arguments):
    programs = {}
    for line in setup_arguments["entry_points"]["console_scripts"]:
        name, target = (part.strip() for part in line.split("="))
        programs[name] = target
    assert programs == {
        "shared_pose": "shared_pose_ros.cli.main:main",
        "shared_pose_node": "shared_pose_ros.ros.node:main",
    }
    for target in programs.values():
        module, function = target.split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        names |= {
            alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        assert function in names, target


def test_pip_and_the_manifest_name_what_is_imported(setup_arguments):
    requirements = [*setup_arguments["install_requires"], *sum(setup_arguments["extras_require"].values(), [])]
    declared = {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
    in_manifest = {node.text for node in MANIFEST if node.tag in ("depend", "exec_depend")}
    imported = third_party_imports([*SOURCES, *(ROOT / "launch").glob("*.py"), *(ROOT / "examples").glob("*.py")])
    missing = {
        module: files
        for module, files in imported.items()
        if module not in in_manifest and normalized(DISTRIBUTIONS.get(module, module)) not in declared
    }
    assert missing == {}


def test_nothing_is_required_in_vain(setup_arguments):
    requirements = [
        *setup_arguments["install_requires"],
        *setup_arguments["extras_require"]["train"],
        *setup_arguments["extras_require"]["replay"],
        *setup_arguments["extras_require"]["pytorch3d"],
    ]
    imported = {normalized(DISTRIBUTIONS.get(module, module)) for module in third_party_imports(SOURCES)}
    declared = {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
    assert declared - imported - NEEDED_INDIRECTLY == set()


def test_the_minimum_versions_are_those_of_setup(setup_arguments):
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements" / "minimum.txt").read_text(), re.MULTILINE))
    declared = dict(requirement.split(">=") for requirement in setup_arguments["install_requires"])
    assert pinned.keys() == declared.keys()
    # The pin is the first release of the series that setup.py names which has wheels or an apt package.
    assert {name: pinned[name] for name in pinned if not f"{pinned[name]}.".startswith(f"{declared[name]}.")} == {}


def test_the_manifest_has_the_test_requirements_that_are_no_wheels_only(setup_arguments):
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in setup_arguments["extras_require"]["test"]}
    assert names > WHEELS_ONLY
    in_manifest = {node.text for node in MANIFEST if node.tag == "test_depend"}
    assert in_manifest == {f"python3-{name}" for name in names - WHEELS_ONLY - {"torch"}}


def locked(use):
    """{distribution: versions} of one locked file."""
    versions = {}
    for line in (ROOT / "requirements" / f"{use}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split(";")[0].split("==")
            versions.setdefault(normalized(name), set()).add(version.strip())
    return versions


def test_the_locked_files_cover_what_setup_asks_for(setup_arguments):
    uses = {"runtime": setup_arguments["install_requires"], **setup_arguments["extras_require"]}
    for use, requirements in uses.items():
        names = {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
        assert names - set(locked(use)) == set(), f"run `make lock`: {use}"


def test_the_locked_files_agree():
    together = {}
    for use in ("runtime", "ros", "train", "replay", "test"):
        for name, versions in locked(use).items():
            assert together.setdefault(name, versions) == versions, name
    assert together["torch"] == {"2.13.0"}
    # torch brings these itself, and only its CUDA build wants them.
    assert [name for name in together if name.startswith(("nvidia-", "cuda-")) or name == "triton"] == []
    # The environment with PyTorch3D differs in torch alone: both renderers run there as they do here.
    reference = locked("pytorch3d")
    assert reference.pop("torch") == {"2.12.0"}
    assert {name: together[name] for name in reference if name in together} == {
        name: versions for name, versions in reference.items() if name in together
    }


@made_by_make
def test_this_environment_is_the_locked_one():
    assert metadata.version("torch").split("+")[0] in locked("runtime")["torch"]
    assert metadata.version("numpy") in locked("runtime")["numpy"]
    assert metadata.version("ros-rclpy") in locked("ros")["ros-rclpy"]
