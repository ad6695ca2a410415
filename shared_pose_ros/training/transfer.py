"""Start a training from the weights of another one: another crop size, other objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, ENCODER_NAME, CheckpointError, load_checkpoint

_ENCODER = "encoder."
_OUTPUT = ("head.output.weight", "head.output.bias")


@dataclass(frozen=True)
class TrainedWeights:
    """What another training left.

    Attributes:
        origin: file or folder, for messages.
        network: state of a ``PoseNetwork``.
        class_ids: its objects, in order.
        hypotheses: n.
        crop_size: S.
        samples: that it has seen, those of its own predecessors included.
        objective: state of the auxiliary decoders; None where it was not kept.
    """

    origin: str
    network: dict[str, Tensor]
    class_ids: tuple[str, ...]
    hypotheses: int
    crop_size: int
    samples: int
    objective: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class EncoderWeights:
    """A pre-trained encoder.

    Attributes:
        origin: file, for messages.
        encoder: state of an ``Encoder``.
        width: its width.
        crop_size: S.
        config: settings of its training, plain values.
        source: where it came from, plain values for the record.
    """

    origin: str
    encoder: dict[str, Tensor]
    width: str
    crop_size: int
    config: dict[str, Any]
    source: dict[str, Any]


def encoder_of_checkpoint(path: Path) -> EncoderWeights:
    """The encoder that a pre-training left in its folder, or the file itself.

    Raises:
        CheckpointError: no file, or one that holds something else.
    """
    path = Path(path) / ENCODER_NAME if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise CheckpointError(f"no encoder at {path}; make one with shared_pose train-encoder")
    state = load_checkpoint(path)
    if "encoder" not in state:
        raise CheckpointError(
            f"{path} holds no pre-trained encoder; give {ENCODER_NAME} or its folder, or --start-from for the weights "
            "of a pose training"
        )
    config = state["config"]
    source = {key: state[key] for key in ("step", "preset", "commit", "fingerprint")}
    return EncoderWeights(str(path), state["encoder"], config["width"], config["crop_size"], config, source)


def load_encoder(source: EncoderWeights, network: PoseNetwork, crop_size: int) -> None:
    """Give ``network``, of crops of side ``crop_size``, a pre-trained encoder; its head stays as it is.

    Raises:
        CheckpointError: another encoder width.
    """
    try:
        network.encoder.load_state_dict(network.encoder.resized(source.encoder, source.crop_size, crop_size))
    except RuntimeError as error:
        raise CheckpointError(
            f"{source.origin} is an encoder of width {source.width}, this network has another; choose a preset of that "
            f"width or add --set width={source.width}"
        ) from error


def weights_of_checkpoint(folder: Path) -> TrainedWeights:
    """The weights in a training folder; raises CheckpointError where there are none."""
    state: dict[str, Any] = load_checkpoint(Path(folder) / CHECKPOINT_NAME)
    config = state["config"]
    return TrainedWeights(
        origin=str(folder),
        network=state["network"],
        class_ids=tuple(entry["class_id"] for entry in state["objects"]),
        hypotheses=config["hypotheses"],
        crop_size=config["crop_size"],
        samples=state.get("earlier_samples", 0) + state["step"] * config["batch_size"],
        objective=state["objective"],
    )


def transfer(source: TrainedWeights, network: PoseNetwork, class_ids: Sequence[str], crop_size: int) -> list[str]:
    """Copy what fits: the encoder, the shared layers of the head, and the output rows of objects in both sets.

    Args:
        source: the trained weights.
        network: receives them; rows of new objects keep their initial values.
        class_ids: its objects, in order.
        crop_size: its S.

    Returns:
        The class ids whose rows were copied; none where the number of hypotheses differs.

    Raises:
        CheckpointError: another encoder width.
    """
    weights = dict(source.network)
    encoder = {name.removeprefix(_ENCODER): weights[name] for name in weights if name.startswith(_ENCODER)}
    own = network.state_dict()
    n = network.head.hypotheses
    kept = [name for name in class_ids if name in source.class_ids] if source.hypotheses == n else []
    for name in _OUTPUT:
        trained = weights.pop(name)
        for class_id in kept:
            to = output_rows(list(class_ids).index(class_id), len(class_ids), n)
            own[name][to] = trained[output_rows(source.class_ids.index(class_id), len(source.class_ids), n)]
    try:
        resized = network.encoder.resized(encoder, source.crop_size, crop_size)
        weights.update({_ENCODER + name: tensor for name, tensor in resized.items()})
        network.load_state_dict({**weights, **{name: own[name] for name in _OUTPUT}})
    except RuntimeError as error:
        raise CheckpointError(f"{source.origin} has another encoder width ({error}); set width as it was") from error
    return kept


def output_rows(index: int, objects: int, hypotheses: int) -> Tensor:
    """Rows of the head's output layer that belong to one object: its n logits, then its n·6 pose numbers."""
    logits = torch.arange(hypotheses) + index * hypotheses
    poses = torch.arange(6 * hypotheses) + (objects + 6 * index) * hypotheses
    return torch.cat([logits, poses])
