#!/usr/bin/env python3
"""Write requirements/*.txt: every version that the pip installation uses, one file a use.

Run by `make lock` with an environment that has `uv`. The direct requirements have one home each: setup.py for the
package and its extras, requirements/ros.in for the ROS wheels. All uses are resolved together, so that any of the files
can be installed with any other. The versions already locked stay, unless `--upgrade` is given. The exception is
`pytorch3d`: an environment of its own, which has another torch and otherwise the same versions.

torch's CUDA libraries are left out: torch names their exact versions itself, and its CPU build does not want them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = "3.10"
USES = {
    "runtime": ("what a cell needs beside ROS", ["setup.py"]),
    "train": ("training and evaluation", ["setup.py", "--extra", "train"]),
    "replay": ("reading and writing bags", ["setup.py", "--extra", "replay"]),
    "test": ("tests, linters and the type checker, with all that they use", ["setup.py", "--extra", "test"]),
    "benchmark": ("what the benchmarks compare with and draw with", ["setup.py", "--extra", "benchmark"]),
    "docs": ("building the documentation", ["setup.py", "--extra", "docs"]),
    "ros": ("ROS 2 Jazzy from wheels, and what builds vision_msgs", ["requirements/ros.in"]),
}
EXTRAS = ("train", "replay", "test", "benchmark", "docs")
TOGETHER = ["setup.py", *(word for extra in EXTRAS for word in ("--extra", extra)), "requirements/ros.in"]
# Not in USES: its torch is that of setup.py's extra.
REFERENCE = ("PyTorch3D beside training and tests", ["setup.py", "--extra", "test", "--extra", "pytorch3d"])
TORCH = "torch==2.13.0"
OWNED_BY_TORCH = re.compile(r"^(triton|nvidia-[\w-]+|cuda-[\w-]+)==")


def resolve(inputs: list[str], constraints: Path) -> list[str]:
    """Pinned requirements of `inputs` for every supported Python, one a line, without torch's own pins."""
    command = ["uv", "pip", "compile", "--universal", "--python-version", OLDEST_PYTHON, "--constraint", constraints]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet", *inputs]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    # A machine's own CPU build would be locked as 2.13.0+cpu, a version that others cannot get.
    lines = (re.sub(r"^(torch==[\d.]+).*", r"\1", line) for line in output.splitlines())
    return sorted({line for line in lines if not OWNED_BY_TORCH.match(line)})


def write(use: str, purpose: str, requirements: list[str]) -> None:
    """Write one locked file."""
    lines = [f"# {purpose}; written by `make lock`, not by hand", *requirements]
    path_of(use).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"requirements/{use}.txt: {len(requirements)} versions")


def path_of(use: str) -> Path:
    """The locked file of a use."""
    return ROOT / "requirements" / f"{use}.txt"


def main() -> int:
    """Resolve all uses together, then each one within that resolution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of those locked now")
    arguments = parser.parse_args()
    files = [path_of(use) for use in (*USES, "pytorch3d")]
    known = {line for path in files if path.is_file() for line in path.read_text(encoding="utf-8").splitlines()}
    locked = sorted(line for line in known if not line.startswith(("#", "torch=="))) if not arguments.upgrade else []
    with tempfile.TemporaryDirectory() as directory:
        constraints = Path(directory) / "constraints.txt"
        constraints.write_text("\n".join([TORCH, *locked]), encoding="utf-8")
        together = resolve(TOGETHER, constraints)
        constraints.write_text("\n".join(together), encoding="utf-8")
        for use, (purpose, inputs) in USES.items():
            write(use, purpose, resolve(inputs, constraints))
        others = [line for line in {*locked, *together} if not line.startswith("torch==")]
        constraints.write_text("\n".join(sorted(others)), encoding="utf-8")
        purpose, inputs = REFERENCE
        write("pytorch3d", purpose, resolve(inputs, constraints))
    return 0


if __name__ == "__main__":
    sys.exit(main())
