"""What a checkpoint records besides weights, so that exporting needs no CAD and a bundle tells where it came from."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from shared_pose_ros.meshes.object_set import ObjectModel


def describe_object(model: ObjectModel) -> dict[str, Any]:
    """Plain values of a ``bundle.BundleObject``."""
    return {
        "class_id": model.class_id,
        "aliases": list(model.aliases),
        "name": model.name,
        "diameter": float(model.diameter),
        "extents": [float(value) for value in model.extents],
        "centre": [float(value) for value in model.centre],
        "scale": float(model.scale),
        "symmetries": model.symmetries.to_dict(),
    }


def source_commit() -> str:
    """The commit of the checkout that this module runs from, "unknown" outside one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def hardware(device: torch.device) -> str:
    """One line: the processor and the threads in use, and the GPU where ``device`` is one."""
    line = f"{processor_name()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
    return f"{torch.cuda.get_device_name(device)}; {line}" if device.type == "cuda" else line


def processor_name() -> str:
    """The processor's name; its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
