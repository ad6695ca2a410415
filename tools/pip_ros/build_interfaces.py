#!/usr/bin/env python3
"""Build vision_msgs and tf2_msgs from their field lists and install them into an environment with the ROS wheels.

Run with the environment's own Python:  .venv/bin/python tools/pip_ros/build_interfaces.py

1. Rewrites, in the wheels' exported CMake files, the paths of the machine that built the wheels.
2. Configures, builds and installs tools/pip_ros/PACKAGE with CMake.
3. Compares the installed type hashes with those of the real package and imports the messages.

A second run finds the same sources already installed and returns at once. An interrupted run leaves no mark of
completion, so the next one starts over.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCES = Path(__file__).resolve().parent

# The type hashes of vision_msgs 4.1.1 and geometry2: equal hashes are what lets two ROS 2 programs talk to each other.
TYPE_HASHES = {
    "vision_msgs": {
        "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
        "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
        "VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
        "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    },
    "tf2_msgs": {"TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"},
}

# The wheels' build image keeps each Python under /opt/python/<tag>; <tag> is cp311-cp311 for Python 3.11.
NUMPY_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+t?/lib/python3\.\d+t?/site-packages/numpy/_?core/include")
PYTHON_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+t?/include/python3\.\d+t?")

# Variables of a sourced ROS installation or of another environment, which would mix its packages into this build.
FOREIGN_VARIABLES = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH", "ROS_DISTRO")


class BuildError(RuntimeError):
    """The build cannot go on; the message is one sentence that says what to do."""


def rewrite_exported_paths(share: Path, python_headers: str, numpy_headers: str) -> int:
    """Replace the build machine's header directories in `share/*/cmake/*.cmake`; returns how many files changed."""
    changed = 0
    for path in sorted(share.glob("*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        # A function as replacement: a backslash in a path must not be read as a group reference.
        rewritten = NUMPY_HEADERS.sub(lambda _: numpy_headers, text)
        rewritten = PYTHON_HEADERS.sub(lambda _: python_headers, rewritten)
        if rewritten != text:
            path.write_text(rewritten, encoding="utf-8")
            changed += 1
    return changed


def sources_digest(package: str) -> str:
    """SHA-256 over everything that the installed result depends on: the sources, this program and the Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (Path(__file__), *sorted(p for p in (SOURCES / package).rglob("*") if p.is_file())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def installed_type_hashes(package: str, prefix: Path) -> dict[str, str]:
    """Read {message name: type hash} from the type descriptions under `prefix/share/PACKAGE/msg`.

    Raises BuildError if a message named in TYPE_HASHES has no type description.
    """
    hashes = {}
    for name in TYPE_HASHES[package]:
        path = prefix / "share" / package / "msg" / f"{name}.json"
        if not path.is_file():
            raise BuildError(f"{path} was not installed: remove the environment and set it up again.")
        entries = json.loads(path.read_text(encoding="utf-8"))["type_hashes"]
        by_type = {entry["type_name"]: entry["hash_string"] for entry in entries}
        hashes[name] = by_type[f"{package}/msg/{name}"]
    return hashes


def check_type_hashes(package: str, prefix: Path) -> None:
    """Raise BuildError unless every installed type hash equals that of the real package."""
    for name, found in installed_type_hashes(package, prefix).items():
        expected = TYPE_HASHES[package][name]
        if found != expected:
            raise BuildError(
                f"{package}/{name} has the type hash {found} instead of {expected}: its fields in "
                f"{SOURCES / package / 'msg'} differ from those of the real package and must be restored."
            )


def check_import(package: str, python: str) -> None:
    """Raise BuildError unless a fresh Python can import the messages and their compiled type support."""
    code = (
        f"from {package}.msg import {next(iter(TYPE_HASHES[package]))} as Message\n"
        "Message.__class__.__import_type_support__()\n"
        "raise SystemExit(None if Message._TYPE_SUPPORT else 'its compiled type support is missing')"
    )
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise BuildError(f"{package} was built but does not import ({reason}): remove {sys.prefix}, set up again.")


def _run(command: list[str], log: Path, env: dict[str, str]) -> None:
    """Run `command`, adding its output to `log`; BuildError with the first error line if it fails."""
    with log.open("a", encoding="utf-8") as stream:
        result = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=env, check=False)
    if result.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if re.search(r"\b(error|Error)\b", line)]
        reason = (errors or lines or ["no output"])[0].strip()
        raise BuildError(f"`{' '.join(command[:2])} ...` failed ({reason}); all of it is in {log}.")


def build(package: str, prefix: Path, jobs: int) -> None:
    """Build and install a package into `prefix`, an environment that holds the ROS wheels and the running Python."""
    import numpy

    python_headers = sysconfig.get_path("include")
    if not (Path(python_headers) / "Python.h").is_file():
        raise BuildError(f"{python_headers}/Python.h is missing: install Python's headers (Debian: python3-dev).")
    rewrite_exported_paths(prefix / "share", python_headers, numpy.get_include())

    build_directory = prefix / "build" / package
    shutil.rmtree(build_directory, ignore_errors=True)
    build_directory.mkdir(parents=True)
    log = prefix / "build" / f"{package}.log"
    log.unlink(missing_ok=True)
    env = {key: value for key, value in os.environ.items() if key not in FOREIGN_VARIABLES}
    env["PATH"] = f"{prefix / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    cmake = shutil.which("cmake", path=env["PATH"])
    if cmake is None:
        raise BuildError("cmake is missing from the environment: pip install -r requirements/ros.txt.")
    site_packages = Path(sysconfig.get_path("platlib")).relative_to(prefix)
    configure = [cmake, "-S", str(SOURCES / package), "-B", str(build_directory)]
    configure += [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DBUILD_TESTING=OFF"]
    configure += [f"-DPython3_EXECUTABLE={sys.executable}", f"-DPYTHON_INSTALL_DIR={site_packages}"]
    _run(configure, log, env)
    _run([cmake, "--build", str(build_directory), "--parallel", str(jobs)], log, env)
    _run([cmake, "--install", str(build_directory)], log, env)
    shutil.rmtree(build_directory)


def provide(package: str, prefix: Path, jobs: int, force: bool) -> None:
    """Build if needed, check always; BuildError if the package cannot be had."""
    mark = prefix / "share" / package / "built_from.sha256"
    digest = sources_digest(package)
    current = mark.is_file() and mark.read_text(encoding="utf-8").strip() == digest
    if force or not current:
        print(f"building {package} ...", flush=True)
        mark.unlink(missing_ok=True)
        build(package, prefix, jobs)
    check_type_hashes(package, prefix)
    check_import(package, sys.executable)
    mark.write_text(digest + "\n", encoding="utf-8")
    print(f"{package}: type hashes of {', '.join(TYPE_HASHES[package])} equal those of the real package")


def main() -> int:
    """Provide all packages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time (default: cores)")
    parser.add_argument("--force", action="store_true", help="build even if the same sources are installed already")
    arguments = parser.parse_args()
    try:
        if sys.prefix == sys.base_prefix:
            raise BuildError("this Python is not in a virtual environment: run it as .venv/bin/python.")
        for package in TYPE_HASHES:
            provide(package, Path(sys.prefix), arguments.jobs, arguments.force)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
