"""From a training folder to a bundle."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from shared_pose_ros.bundle import SUFFIX, BundleMetadata, BundleObject, export_bundle
from shared_pose_ros.meshes.object_set import ObjectModel
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint
from shared_pose_ros.training.config import config_from_dict


def describe_object(model: ObjectModel) -> dict[str, Any]:
    """Plain values of a ``BundleObject``, kept in the checkpoint so that exporting needs no CAD."""
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


def export_checkpoint(folder: Path, out: Path) -> BundleMetadata:
    """Write the bundle of a training folder's checkpoint.

    Args:
        folder: of ``shared_pose train --out``.
        out: the bundle's path.

    Raises:
        CheckpointError: no usable checkpoint.
        BundleError: the bundle cannot be made or written.
    """
    state = load_checkpoint(Path(folder) / CHECKPOINT_NAME)
    config = config_from_dict(state["config"])
    objects = tuple(_bundle_object(entry) for entry in state["objects"])
    network = PoseNetwork(len(objects), config.hypotheses, config.width, config.crop_size, config.normalize_code)
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit its own configuration ({error})") from error
    metadata = BundleMetadata(
        name=Path(out).name.removesuffix(SUFFIX),
        objects=objects,
        hypotheses=config.hypotheses,
        crop_pad=config.synthesis.crop_pad,
        crop_size=config.crop_size,
        encoder_width=config.width,
        tuning=config.tuning,
        normalize_code=config.normalize_code,
        preset=state["preset"],
        samples=state.get("earlier_samples", 0) + state["step"] * config.batch_size,
        seed=config.seed,
        commit=state["commit"],
        metrics=state.get("metrics", {}),
    )
    return export_bundle(network, metadata, Path(out))


def source_commit() -> str:
    """The commit of the checkout that this module runs from, "unknown" outside one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _bundle_object(entry: dict[str, Any]) -> BundleObject:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return BundleObject(**values)
