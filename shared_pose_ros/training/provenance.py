"""What a checkpoint records besides weights, so that exporting needs no CAD and a bundle tells where it came from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

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
