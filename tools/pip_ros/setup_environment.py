#!/usr/bin/env python3
"""Make a virtual environment of the pip installation, or bring it up to date; run by `make setup` and `make parity`.

    python3 tools/pip_ros/setup_environment.py .venv
    python3 tools/pip_ros/setup_environment.py .venv-pytorch3d --kind pytorch3d

Each step's inputs are remembered by hash in ENVIRONMENT/setup.json, so a second run only compares hashes. A step that
was interrupted may have left half a package behind: then the environment is made anew, mostly from pip's cache. The
same happens if the checkout was moved or Python was replaced, since an environment holds absolute paths.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent
USES = ("runtime", "ros", "test")
LOCKED = tuple(ROOT / "requirements" / f"{use}.txt" for use in USES)
LOCKED_PYTORCH3D = (ROOT / "requirements" / "pytorch3d.txt",)
RECORD = "setup.json"
MAKE_ENVIRONMENT = ("-m", "venv")
RESTARTABLE = ("interfaces",)  # steps that clean up after an interrupted run of their own


class SetupError(RuntimeError):
    """The environment cannot be made; the message is one sentence that says what to do."""


class Step(NamedTuple):
    """One command of the set-up and the files that it depends on."""

    name: str
    announcement: str
    inputs: tuple[Path, ...]
    command: Callable[[Path], list[str]]


def steps() -> list[Step]:
    """The steps in order; each assumes those before it."""
    builder = TOOLS / "build_interfaces.py"
    sources = (path for folder in ("vision_msgs", "tf2_msgs") for path in (TOOLS / folder).rglob("*") if path.is_file())
    interfaces = (builder, *sorted(sources))
    compiled = Step(
        "interfaces",
        "building vision_msgs and tf2_msgs (a minute)",
        interfaces,
        lambda python: [str(python), str(builder)],
    )
    return [_packages(LOCKED), compiled, _this_package()]


def steps_pytorch3d() -> list[Step]:
    """The steps of the environment with PyTorch3D: another torch, no ROS."""
    return [_packages(LOCKED_PYTORCH3D), _this_package()]


def _packages(locked: tuple[Path, ...]) -> Step:
    arguments = [argument for path in locked for argument in ("-r", str(path))]
    return Step("packages", "installing packages (minutes)", locked, lambda python: _pip(python, "install", *arguments))


def _this_package() -> Step:
    # Without --use-pep517 an old pip runs setup.py itself, and programs land where `ros2 run` wants them: setup.cfg.
    editable = ["install", "--no-deps", "--no-build-isolation", "--use-pep517", "-e", str(ROOT)]
    metadata = tuple(ROOT / name for name in ("setup.py", "setup.cfg", "package.xml"))
    return Step("shared_pose_ros", "installing shared_pose_ros", metadata, lambda python: _pip(python, *editable))


def _pip(python: Path, *arguments: str) -> list[str]:
    return [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents of `files`."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def origin() -> dict[str, str]:
    """What an environment is tied to: this checkout and this Python."""
    return {"root": str(ROOT), "python": sys.version, "base": os.path.realpath(sys.base_prefix)}


def read_record(environment: Path) -> dict:
    """The environment's record; empty if it has none that can be read."""
    try:
        return json.loads((environment / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_record(environment: Path, record: dict) -> None:
    """Replace the environment's record in one step, so that an interruption leaves the old one or the new one."""
    temporary = environment / (RECORD + ".new")
    temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")
    os.replace(temporary, environment / RECORD)


def is_reusable(environment: Path, record: dict) -> bool:
    """Whether the environment was made here, by this Python, and no interrupted step left half its work behind."""
    python_works = (environment / "bin" / "python").exists()
    return python_works and record.get("origin") == origin() and record.get("unfinished") in (None, *RESTARTABLE)


def clean_environment() -> dict[str, str]:
    """Environment variables without those of a sourced ROS installation or of another Python environment."""
    foreign = ("PYTHON", "AMENT_", "CMAKE_PREFIX", "COLCON_", "LD_LIBRARY_PATH", "_ROS_WHEELS", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}


def run_logged(command: list[str], log: Path) -> None:
    """Run `command`, adding its output to `log`; SetupError with its last error line if it fails."""
    with log.open("a", encoding="utf-8") as stream:
        start = stream.tell()
        stream.write(f"$ {' '.join(command)}\n")
        stream.flush()
        result = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=clean_environment(), check=False)
    if result.returncode != 0:
        output = log.read_text(encoding="utf-8", errors="replace")[start:].splitlines()
        errors = [line for line in output if line.lower().startswith("error")] or output
        raise SetupError(f"{errors[-1].removeprefix('error: ').removeprefix('ERROR: ')} (all of it is in {log})")


def create(environment: Path) -> dict:
    """Make an empty environment with pip; returns its record."""
    shutil.rmtree(environment, ignore_errors=True)
    environment.mkdir(parents=True)
    record = {"origin": origin(), "unfinished": "environment", "steps": {}}
    write_record(environment, record)
    run_logged([sys.executable, *MAKE_ENVIRONMENT, str(environment)], environment / "setup.log")
    record["unfinished"] = None
    write_record(environment, record)
    return record


def set_up(environment: Path, kind: str = "ros") -> bool:
    """Bring `environment` up to date, with the steps of its kind; returns whether anything had to be done."""
    record = read_record(environment)
    if not record and environment.exists() and any(environment.iterdir()):
        raise SetupError(f"{environment} was not made by make: remove it, or choose another place with make VENV=DIR.")
    changed = not is_reusable(environment, record)
    if changed:
        print(f"creating {environment}", flush=True)
        record = create(environment)
    for step in steps_pytorch3d() if kind == "pytorch3d" else steps():
        digest = digest_of(step.inputs)
        if record["steps"].get(step.name) == digest:
            continue
        changed = True
        print(step.announcement, flush=True)
        record["unfinished"] = step.name
        write_record(environment, record)
        run_logged(step.command(environment / "bin" / "python"), environment / "setup.log")
        record["steps"][step.name] = digest
        record["unfinished"] = None
        write_record(environment, record)
    return changed


def main() -> int:
    """Set up under a lock, so that two calls of make do not build the same environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", type=Path, help="folder of the virtual environment")
    parser.add_argument("--kind", choices=("ros", "pytorch3d"), default="ros", help="what it is for (default: ros)")
    options = parser.parse_args()
    environment = options.environment.absolute()
    environment.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    try:
        with open(f"{environment}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = set_up(environment, options.kind)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the next run starts over.", file=sys.stderr)
        return 130
    if changed:
        print(f"{environment} is ready ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
