"""``shared_pose train``: CAD in, checkpoint out."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.bundle import SUFFIX, Bundle, BundleMetadata, load_bundle
from shared_pose_ros.cli.common import (
    add_object_arguments,
    add_run_arguments,
    add_setting_arguments,
    load_objects,
    read_settings,
)
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training.config import TUNINGS, TrainingConfig
from shared_pose_ros.training.distributed import Processes, joined_processes
from shared_pose_ros.training.extend import Extension
from shared_pose_ros.training.run_report import REPORT_NAME
from shared_pose_ros.training.trainer import Progress, Trainer, tune_allocator
from shared_pose_ros.training.transfer import TrainedWeights, encoder_of_checkpoint, weights_of_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose train --objects models/parts --out runs/parts --time-budget 60m\n"
        "  shared_pose train --objects cad/ --unit mm --backgrounds photos/ --out runs/mine\n"
        "  shared_pose train --objects models/parts --out runs/parts --resume\n"
        "  shared_pose train --objects models/parts --encoder runs/encoder --tuning last_layer --out runs/tuned\n"
        "  shared_pose train --objects new/ --unit mm --extend parts.pose.pt --samples 200000 --out runs/more"
    )
    add_object_arguments(parser)
    add_setting_arguments(parser, TrainingConfig, "compact")
    parser.add_argument(
        "--tuning", choices=TUNINGS,
        help="which part of the encoder learns (default: the preset's); frozen and last_layer need --encoder",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, help="length of the training (default: the preset's)")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--encoder", type=Path, help="folder of shared_pose train-encoder, or its encoder.pt")
    weights.add_argument(
        "--start-from", type=Path, metavar="FOLDER_OR_BUNDLE",
        help="begin with the weights of another training; objects and crop size may differ",
    )  # fmt: skip
    weights.add_argument(
        "--extend", type=Path, metavar="BUNDLE",
        help="add --objects to this bundle: its own objects keep their output exactly, new output rows learn",
    )  # fmt: skip
    parser.add_argument(
        "--separate", action="store_true", help="object-specific networks: one training an object, in OUT/CLASS_ID"
    )
    add_run_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    config = read_settings(options, TrainingConfig, ("tuning", "samples", "seed"))
    if config.tuning != "full" and not (options.resume or options.encoder or options.start_from or options.extend):
        raise ValueError(
            f"tuning {config.tuning} keeps the encoder's convolutions as they are, and untrained ones see nothing; "
            "give --encoder (from shared_pose train-encoder) or --start-from, or choose --tuning full"
        )
    if options.separate and options.extend:
        raise ValueError("--separate makes networks of one object each, --extend adds to one; give one of the two")
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 2) // (2 * processes_here)))
    tune_allocator()
    objects = load_objects(options)
    with joined_processes(choose_device(options.device)) as place:
        if not options.separate:
            _train(options, objects, config, options.out, *place)
            return 0
        for model in objects:
            print(f"{model.class_id}:")
            _train(options, ObjectSet([model]), config, options.out / model.class_id, *place)
    return 0


def _train(
    options: argparse.Namespace,
    objects: ObjectSet,
    config: TrainingConfig,
    out: Path,
    processes: Processes,
    device: torch.device,
) -> None:
    """One network."""
    extend = None
    if options.extend:
        extend, facts = _extension(options.extend, objects)
        config = _like_bundle(config, facts)
    begin = not options.resume  # a resumed run has its weights already
    trainer = Trainer(
        objects, config, out, device, options.backgrounds, options.resume, options.preset,
        start_from=_weights(options.start_from) if options.start_from and begin else None,
        extend=extend,
        encoder=encoder_of_checkpoint(options.encoder) if options.encoder and begin else None,
        processes=processes,
    )  # fmt: skip
    quiet = not processes.leads
    with tqdm(
        total=config.samples, initial=trainer.samples, unit="sample", unit_scale=True, disable=quiet, mininterval=1.0
    ) as bar:
        result = trainer.train(options.time_budget, lambda progress: _show(bar, progress))
    if quiet:
        return
    done = trainer.samples >= config.samples
    print(
        f"{trainer.samples} of {config.samples} samples; on synthetic validation: median error {result.median:.1f}°, "
        f"best hypothesis {result.oracle_median:.1f}°, {100 * result.recall_15:.0f} % under 15°"
    )
    print(f"report: {out / REPORT_NAME}")
    print(f"next: shared_pose export {out} --out NAME.pose.pt" + ("" if done else ", or go on with --resume"))


def _weights(path: Path) -> TrainedWeights:
    """Of a training folder or a bundle."""
    return _bundle_weights(load_bundle(path)) if path.name.endswith(SUFFIX) else weights_of_checkpoint(path)


def _bundle_weights(bundle: Bundle) -> TrainedWeights:
    facts = bundle.metadata
    return TrainedWeights(
        origin=facts.name,
        network=bundle.module.network.state_dict(),
        class_ids=tuple(entry.class_id for entry in facts.objects),
        hypotheses=facts.hypotheses,
        crop_size=facts.crop_size,
        samples=facts.samples,
    )


def _extension(path: Path, objects: ObjectSet) -> tuple[Extension, BundleMetadata]:
    """The bundle's network and facts; ValueError if it knows one of the objects already."""
    bundle = load_bundle(path)
    known = {name for entry in bundle.metadata.objects for name in (entry.class_id, *entry.aliases)}
    twice = sorted(known.intersection(objects.class_ids))
    if twice:
        raise ValueError(f"{path} knows {', '.join(twice)} already; leave them out with --subset or rename them")
    described = tuple(dataclasses.asdict(entry) for entry in bundle.metadata.objects)
    return Extension(_bundle_weights(bundle), described), bundle.metadata


def _like_bundle(config: TrainingConfig, facts: BundleMetadata) -> TrainingConfig:
    """The settings with the shape of the bundle's network; nothing is left for the surface term to teach."""
    synthesis = dataclasses.replace(config.synthesis, crop_pad=facts.crop_pad)
    return dataclasses.replace(
        config, width=facts.encoder_width, crop_size=facts.crop_size, hypotheses=facts.hypotheses,
        normalize_code=facts.normalize_code, tuning=facts.tuning, synthesis=synthesis,
        loss=dataclasses.replace(config.loss, surface_weight=0.0),
    )  # fmt: skip


def _show(bar: tqdm, progress: Progress) -> None:
    bar.update(progress.samples - bar.n)
    if progress.validation is not None:
        bar.set_postfix(error=f"{progress.validation.median:.0f}°", left=f"{progress.seconds_left / 60:.0f}min")
