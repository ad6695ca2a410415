"""``shared_pose train-refiner``: CAD in, a refiner that serves any object out."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm

from shared_pose_ros.bundle import load_bundle, unpack_refiner
from shared_pose_ros.bundle_export import read_refiner, trained_weights
from shared_pose_ros.cli.common import (
    add_run_arguments,
    add_setting_arguments,
    parse_duration,
    read_settings,
    tell_left_out,
)
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.refiner import REFINER_SIZE, PoseRefiner
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, ENCODER_NAME
from shared_pose_ros.training.config import RefinerConfig
from shared_pose_ros.training.distributed import set_threads
from shared_pose_ros.training.refiner_pairs import NetworkAnswers, image_settings, sample_shares
from shared_pose_ros.training.refiner_trainer import RefinerProgress, RefinerTrainer
from shared_pose_ros.training.refiner_validation import RefinerValidation
from shared_pose_ros.training.refiner_weights import refiner_checkpoint, refiner_on_encoder, refiner_weights
from shared_pose_ros.training.run_report import REPORT_NAME
from shared_pose_ros.training.transfer import encoder_of_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose train-refiner --objects models/parts --encoder models/demo_parts.pose.pt --out runs/refiner\n"
        "  shared_pose train-refiner --objects models/parts --random-parts 200 --encoder models/demo_parts.pose.pt \\\n"
        "      --backgrounds photos/ --time-budget 10h --out runs/refiner\n"
        "  shared_pose train-refiner --objects cad/ --unit mm --start-from runs/refiner --samples 200000 --out runs/b\n"
        "  shared_pose train-refiner --objects models/parts --out runs/refiner --resume"
    )
    parser.add_argument(
        "--objects", action="append", required=True, metavar="PATH",
        help="objects.yaml, a BOP models folder, or a folder of mesh files; may be repeated, see --set shares",
    )  # fmt: skip
    parser.add_argument(
        "--unit", action="append", default=[],
        help="unit of the meshes of plain folders: m, cm, mm or in; once for all --objects, or once for each",
    )  # fmt: skip
    parser.add_argument(
        "--random-parts", type=int, default=0, metavar="N", help="as many parts made at random besides (default: 0)"
    )
    parser.add_argument("--random-seed", type=int, default=0, help="of the first random part (default: 0)")
    add_setting_arguments(parser, RefinerConfig, "refiner")
    parser.add_argument("--samples", type=int, help="length of the training (default: the preset's)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--encoder", type=Path, metavar="BUNDLE_OR_FOLDER",
        help="begin the trunks as the compact encoder of a bundle, of a pose training or of train-encoder",
    )  # fmt: skip
    weights.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER_OR_FILE",
        help="begin with the weights of another refiner's training, of a refiner.npz or of a bundle's refiner",
    )
    parser.add_argument(
        "--network", type=Path, action="append", default=[], metavar="BUNDLE",
        help="a pose bundle whose answers for its own objects are among the hypotheses, see --set answered_share; may "
        "be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--stop-after", type=parse_duration, default=math.inf,
        help="stop this sitting after 90s, 30m, 10h …, whatever the rates; --resume goes on",
    )  # fmt: skip
    add_run_arguments(
        parser, "length of the whole training, over all sittings: 90s, 30m, 10h …; the rates fall over it, and "
        "--samples counts no more"
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    config = read_settings(options, RefinerConfig, ("samples", "seed"))
    set_threads(config.threads)
    # Weights before objects: a wrong path is said at once, random parts take their time.
    begin, earlier_samples = (None, 0) if options.resume else _begin(options)
    objects, shares = _objects(options, config)
    device = choose_device(options.device)
    trainer = RefinerTrainer(
        objects, shares, config, options.out, device, options.backgrounds, options.resume, options.preset, begin,
        earlier_samples, _answers(options.network, objects, config, device),
    )  # fmt: skip
    budget = options.time_budget
    total = 100 if budget else config.samples
    with tqdm(total=total, unit="%" if budget else "sample", unit_scale=True, mininterval=1.0) as bar:
        result = trainer.train(budget, lambda progress: _show(bar, progress), options.stop_after)
    print(f"{trainer.samples} samples of {len(objects)} objects in {trainer.seconds / 60:.0f} min; {_said(result)}")
    print(f"report: {options.out / REPORT_NAME}")
    again = "" if trainer.fraction(budget) >= 1.0 else ", or go on with --resume"
    print(f"the refiner is in {options.out / CHECKPOINT_NAME}{again}")
    return 0


def _objects(options: argparse.Namespace, config: RefinerConfig) -> tuple[ObjectSet, Tensor]:
    """All objects as one set, and their shares of the samples."""
    units, count = options.unit, len(options.objects)
    if len(units) not in (0, 1, count):
        raise ValueError(f"--unit is given {len(units)} times, --objects {count} times; give one unit, or one for each")
    if options.random_parts < 0:
        raise ValueError(f"--random-parts is {options.random_parts}; give a number of parts, 0 for none")
    units = units * count if len(units) == 1 else units or [None] * count
    sets = [ObjectSet.load(path, unit=unit) for path, unit in zip(options.objects, units)]
    for each in sets:
        tell_left_out(each)
    if options.random_parts:
        # Imported here: only random parts need manifold3d.
        from shared_pose_ros.meshes.random_parts import random_object_set

        print(f"{options.random_parts} random parts are being made …", flush=True)
        sets.append(random_object_set(options.random_parts, options.random_seed, detect=True))
    models = tuple(model for each in sets for model in each)
    return ObjectSet(models), sample_shares([len(each) for each in sets], config.shares)


def _answers(
    bundles: list[Path], objects: ObjectSet, config: RefinerConfig, device: torch.device
) -> NetworkAnswers | None:
    """Of the bundles' networks; None without any."""
    networks = []
    pad = image_settings(config)[0][0].crop_pad
    for path in bundles:
        bundle = load_bundle(path, device, "auto")
        if (bundle.metadata.crop_size, bundle.metadata.crop_pad) != (REFINER_SIZE, pad):
            raise ValueError(
                f"{path} takes crops of {bundle.metadata.crop_size} pixels and pad {bundle.metadata.crop_pad:g}; the "
                f"refiner's are {REFINER_SIZE} pixels and {pad:g}: leave that --network out"
            )
        class_ids = [item.class_id for item in bundle.metadata.objects]
        if not set(class_ids) & set(objects.class_ids):
            raise ValueError(f"{path} knows none of the objects; give their CAD with --objects, or leave it out")
        network = cast(Any, bundle.module).network
        networks.append((lambda crops, index, network=network: network(crops, index)[0], class_ids))
    return NetworkAnswers(networks, objects) if networks else None


def _begin(options: argparse.Namespace) -> tuple[PoseRefiner | None, int]:
    """Weights to begin with, and the samples that they have seen."""
    if options.start_from:
        if options.start_from.is_file() and options.start_from.name != CHECKPOINT_NAME:
            refiner = unpack_refiner(read_refiner(options.start_from))
            return refiner.network, refiner.facts.samples
        state = refiner_checkpoint(options.start_from)
        samples = state["step"] * state["config"]["batch_size"] + state["earlier_samples"]
        return refiner_weights(options.start_from), samples
    if options.encoder is None:
        return None, 0
    path: Path = options.encoder
    if path.name == ENCODER_NAME or (path.is_dir() and not (path / CHECKPOINT_NAME).exists()):
        source = encoder_of_checkpoint(path)
        return refiner_on_encoder(source.encoder, source.crop_size, source.origin), 0
    weights = trained_weights(path)
    encoder = {name.removeprefix("encoder."): t for name, t in weights.network.items() if name.startswith("encoder.")}
    return refiner_on_encoder(encoder, weights.crop_size, str(path)), 0


def _said(result: RefinerValidation) -> str:
    return (
        f"on synthetic validation: median error {result.median_20:.1f}° -> {result.median_20_refined:.1f}° from within "
        f"20°, {result.median_50:.1f}° -> {result.median_50_refined:.1f}° from within 50°; mean error "
        f"{result.mean_after:.1f}°, expected {result.expected_after:.1f}°"
    )


def _show(bar: tqdm, progress: RefinerProgress) -> None:
    done = 100 * min(progress.fraction, 1.0) if bar.unit == "%" else progress.samples
    bar.update(done - bar.n)
    said = {"samples": f"{progress.samples}", "left": f"{progress.seconds_left / 60:.0f}min"}
    if (found := progress.validation) is not None:
        bar.write(f"{progress.samples} samples, {progress.samples_per_second:.0f}/s: {_said(found)}")
    bar.set_postfix(said, refresh=False)
