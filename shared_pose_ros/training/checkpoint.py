"""Checkpoints: written atomically, read with a reason when they cannot be used."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training.config import Settings, changed_settings, config_from_dict
from shared_pose_ros.training.provenance import describe_object, source_commit

CHECKPOINT_NAME = "checkpoint.pt"
# Names of their own: neither kind of training can be taken for the other, and one folder may hold both.
ENCODER_NAME = "encoder.pt"
ENCODER_CHECKPOINT_NAME = "encoder_training.pt"
_FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or used; the message says why and what to do."""


def object_set_fingerprint(objects: ObjectSet) -> str:
    """SHA-256 over class ids and mesh geometry, in order: two sets with the same one train the same network."""
    digest = hashlib.sha256()
    for model in objects:
        digest.update(model.class_id.encode())
        digest.update(model.mesh.vertices.tobytes())
        digest.update(model.mesh.faces.tobytes())
    return digest.hexdigest()


def training_record(objects: ObjectSet, preset: str, known: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """What each checkpoint of a training says of it; ``known`` describes what the network knew before ``objects``."""
    return {
        "preset": preset,
        "commit": source_commit(),
        "objects": [*known, *(describe_object(model) for model in objects)],
        "fingerprint": object_set_fingerprint(objects),
    }


def check_replaceable(path: Path, resume: bool) -> None:
    """Refuse to begin anew, which is without ``resume``, where a checkpoint is. Raises CheckpointError."""
    if path.exists() and not resume:
        raise CheckpointError(f"{path} exists; add --resume to go on, or choose another --out")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the target, flush to disk, rename: a kill at any moment leaves the old or the new file, whole.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; the previous checkpoint stays.
    """
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as stream:
            torch.save({"format": _FORMAT, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(f"{path} could not be written ({error}); free space or choose another --out") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, damaged, or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; train first, or leave --resume out")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise CheckpointError(f"{path} is damaged ({error}); restore a copy or start again in another --out") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of format {_FORMAT}; start again in another --out")
    return state


def load_resumable(path: Path, objects: ObjectSet, config: Settings, free: Sequence[str]) -> dict[str, Any]:
    """Read a checkpoint to go on from; refuse another training's.

    Args:
        path: of the checkpoint.
        objects: the set given now.
        config: the settings given now; what an older version did not know counts as its default.
        free: settings that may differ, since they change nothing about what is learnt.

    Raises:
        CheckpointError: as of ``load_checkpoint``; other objects or another setting.
    """
    state = load_checkpoint(path)
    if state["fingerprint"] != object_set_fingerprint(objects):
        trained = ", ".join(entry["class_id"] for entry in state["objects"])
        raise CheckpointError(
            f"{path} was trained on other objects ({trained}) than given "
            f"({', '.join(objects.class_ids)}); give the same object set or another --out"
        )
    begun = config_from_dict(state["config"], type(config))
    for key, (old, new) in changed_settings(begun.to_dict(), config.to_dict()).items():
        if key not in free:
            raise CheckpointError(
                f"{path} was made with {key} {old}, this run has {new}; resume with the same setting, or begin anew "
                "in another --out (a pose training may --start-from this one)"
            )
    return state
