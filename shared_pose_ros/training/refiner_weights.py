"""What a refiner's training leaves, and what it may begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from shared_pose_ros.network.refiner import REFINER_SIZE, PoseRefiner
from shared_pose_ros.network.strided_encoder import CompactEncoder
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint


def refiner_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint of a refiner's training: a file, or the folder that holds it.

    Raises:
        CheckpointError: missing, damaged, or another training's.
    """
    path = Path(path) / CHECKPOINT_NAME if Path(path).is_dir() else Path(path)
    state = load_checkpoint(path)
    if "refiner" not in state:
        raise CheckpointError(f"{path} holds no refiner; give the folder of a shared_pose train-refiner")
    return state


def refiner_weights(checkpoint: Path) -> PoseRefiner:
    """The refiner that a training left, with averaged weights, in evaluation mode.

    Args:
        checkpoint: file or folder.

    Raises:
        CheckpointError: as ``refiner_checkpoint``.
    """
    refiner = PoseRefiner()
    refiner.load_state_dict(refiner_checkpoint(checkpoint)["refiner"])
    return refiner.eval()


def refiner_on_encoder(weights: dict[str, Tensor], crop_size: int, origin: str) -> PoseRefiner:
    """An untrained refiner whose trunks begin as a trained encoder.

    Args:
        weights: of the encoder.
        crop_size: that it was trained with.
        origin: for messages.

    Raises:
        CheckpointError: an encoder that is not the compact one.
    """
    encoder = CompactEncoder(REFINER_SIZE)
    try:
        encoder.load_state_dict(encoder.resized(weights, crop_size, REFINER_SIZE))
    except RuntimeError as error:
        raise CheckpointError(
            f"{origin} has an encoder that is not of width compact, the refiner's trunks are; give one of that width"
        ) from error
    return PoseRefiner(encoder)
