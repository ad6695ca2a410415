"""``shared_pose export``: a training folder becomes one bundle file."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_pose_ros.baselines.object_specific import combine_networks
from shared_pose_ros.bundle import SUFFIX, TURNS, BundleMetadata, BundleObject, export_bundle
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint
from shared_pose_ros.training.config import TrainingConfig, config_from_dict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example:\n  shared_pose export runs/parts --out models/parts.pose.pt"
    parser.add_argument("folder", type=Path, help="the folder of shared_pose train --out")
    parser.add_argument("--out", type=Path, required=True, help="the bundle to write, NAME.pose.pt")
    parser.add_argument(
        "--turns", type=int, choices=TURNS, default=4,
        help="looks at each crop: 4 (default), in four quarter turns, more accurate; 1, as the paper, faster",
    )  # fmt: skip
    parser.add_argument("--half", action="store_true", help="store the weights in fp16: half the file")


def run(options: argparse.Namespace) -> int:
    """Export, verify and describe."""
    metadata = export_folder(options.folder, options.out, options.turns, "fp16" if options.half else "fp32")
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(metadata.objects)} objects, {metadata.samples} samples, {size:.1f} MB")
    print(f"weights SHA-256 {metadata.weights_sha256}")
    return 0


def export_folder(folder: Path, out: Path, turns: int = 4, storage: str = "fp32") -> BundleMetadata:
    """Write the bundle of a training: of its checkpoint, or of all object-specific ones (``train --separate``).

    Args:
        folder: of ``shared_pose train --out``.
        out: the bundle's path.
        turns: 1, or 4 to look at each crop in four quarter turns.
        storage: of the weights, "fp32" or "fp16".

    Raises:
        CheckpointError: no usable checkpoint, or object-specific networks on different encoders.
        BundleError: the bundle cannot be made or written.
    """
    folder = Path(folder)
    trained = [] if (folder / CHECKPOINT_NAME).exists() else _separate_networks(folder)
    if trained:
        network = combine_networks([one.network for one in trained])
    else:
        trained = [_load(folder)]
        network = trained[0].network
    config, state = trained[0].config, trained[0].state
    metadata = BundleMetadata(
        name=Path(out).name.removesuffix(SUFFIX),
        objects=tuple(item for one in trained for item in one.objects),
        hypotheses=config.hypotheses,
        crop_pad=config.synthesis.crop_pad,
        crop_size=config.crop_size,
        encoder_width=config.width,
        tuning=config.tuning,
        normalize_code=config.normalize_code,
        preset=state["preset"],
        samples=sum(one.samples for one in trained),
        seed=config.seed,
        commit=state["commit"],
        turns=turns,
        storage=storage,
        metrics=state.get("metrics", {}) if len(trained) == 1 else {},
    )
    return export_bundle(network, metadata, Path(out))


@dataclass(frozen=True)
class _Trained:
    """A checkpoint: its network, settings, objects, samples, and everything else in it."""

    network: PoseNetwork
    config: TrainingConfig
    objects: tuple[BundleObject, ...]
    samples: int
    state: dict[str, Any]


def _separate_networks(folder: Path) -> list[_Trained]:
    """Those that ``train --separate`` left: a folder is called as its network's only object."""
    folders = [path.parent for path in sorted(folder.glob(f"*/{CHECKPOINT_NAME}"))]
    found = [(path.name, _load(path)) for path in folders]
    return [trained for name, trained in found if [item.class_id for item in trained.objects] == [name]]


def _load(folder: Path) -> _Trained:
    state = load_checkpoint(folder / CHECKPOINT_NAME)
    config = config_from_dict(state["config"])
    objects = tuple(BundleObject.from_dict(entry) for entry in state["objects"])
    network = PoseNetwork(len(objects), config.hypotheses, config.width, config.crop_size, config.normalize_code)
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit its own configuration ({error})") from error
    samples = state.get("earlier_samples", 0) + state["step"] * config.batch_size
    return _Trained(network, config, objects, samples, state)
