"""``shared_pose train``: CAD in, checkpoint out."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.bundle import SUFFIX, Bundle, BundleMetadata, load_bundle
from shared_pose_ros.cli.common import (
    add_object_arguments,
    add_run_arguments,
    add_setting_arguments,
    load_objects,
    prepare_training,
    read_settings,
)
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import RASTERIZERS
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from shared_pose_ros.training.config import TUNINGS, TrainingConfig
from shared_pose_ros.training.distributed import Processes, joined_processes
from shared_pose_ros.training.incremental import Extension
from shared_pose_ros.training.run_report import REPORT_NAME
from shared_pose_ros.training.trainer import Progress, Trainer
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
    add_setting_arguments(parser, TrainingConfig, "compact,compact_fine")
    parser.add_argument(
        "--tuning", choices=TUNINGS,
        help="which part of the encoder learns (default: the preset's); frozen and last_layer need --encoder",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, help="length of the training (default: the preset's); of several presets the sum"
    )
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
    parser.add_argument(
        "--rasterizer", choices=RASTERIZERS, default="warp", help="backend of the renders (default: warp)"
    )
    add_run_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    stages = _stages(options)
    config = stages[0].config
    if config.tuning != "full" and not (options.resume or options.encoder or options.start_from or options.extend):
        raise ValueError(
            f"tuning {config.tuning} keeps the encoder's convolutions as they are, and untrained ones see nothing; "
            "give --encoder (from shared_pose train-encoder) or --start-from, or choose --tuning full"
        )
    if options.separate and options.extend:
        raise ValueError("--separate makes networks of one object each, --extend adds to one; give one of the two")
    prepare_training(config.threads)
    objects = load_objects(options)
    deadline = math.inf if options.time_budget is None else time.monotonic() + options.time_budget
    with joined_processes(choose_device(options.device)) as place:
        if not options.separate:
            _train_stages(options, objects, stages, deadline, *place)
            return 0
        for model in objects:
            if time.monotonic() >= deadline:
                break
            print(f"{model.class_id}:")
            out = options.out / model.class_id
            own = argparse.Namespace(**{**vars(options), "out": out, "resume": options.resume and out.exists()})
            _train_stages(own, ObjectSet([model]), _stages(own), deadline, *place)
    return 0


@dataclass(frozen=True)
class _Stage:
    """One preset of the training, its settings, and its folder."""

    preset: str
    config: TrainingConfig
    out: Path


def _stages(options: argparse.Namespace) -> list[_Stage]:
    """A stage for each preset; the last one's folder is --out, the others' lie in it."""
    names = options.preset.split(",") if not options.extend else options.preset.split(",")[-1:]
    configs = [
        read_settings(argparse.Namespace(**{**vars(options), "preset": name}), TrainingConfig, ("tuning", "seed"))
        for name in names
    ]
    if options.samples is not None:
        share = options.samples / sum(config.samples for config in configs)
        lengths = [round(config.samples * share) for config in configs[:-1]]
        lengths.append(options.samples - sum(lengths))
        configs = [replace(config, samples=length) for config, length in zip(configs, lengths)]
    folders = [options.out / f"{number}-{Path(name).stem}" for number, name in enumerate(names[:-1], start=1)]
    return [_Stage(*stage) for stage in zip(names, configs, [*folders, options.out])]


def _train_stages(
    options: argparse.Namespace,
    objects: ObjectSet,
    stages: list[_Stage],
    deadline: float,
    processes: Processes,
    device: torch.device,
) -> None:
    """One stage after the other, each from the weights of the one before; a finished one is not done again."""
    for number, stage in enumerate(stages):
        exists = options.resume and (stage.out / CHECKPOINT_NAME).exists()
        if exists and number + 1 < len(stages):
            state = load_checkpoint(stage.out / CHECKPOINT_NAME)
            if state["step"] >= stage.config.steps:
                continue
        own = argparse.Namespace(**vars(options))
        if number > 0:
            own.encoder, own.start_from, own.resume = None, stages[number - 1].out, exists
        own.time_budget = None if math.isinf(deadline) else max(deadline - time.monotonic(), 0.0)
        if not _train(own, objects, stage, processes, device):
            return


def _train(
    options: argparse.Namespace, objects: ObjectSet, stage: _Stage, processes: Processes, device: torch.device
) -> bool:
    """One network; returns whether all samples are done."""
    config, out = stage.config, stage.out
    extend = None
    if options.extend:
        extend, facts = _extension(options.extend, objects)
        config = _like_bundle(config, facts)
    begin = not options.resume  # a resumed run has its weights already
    trainer = Trainer(
        objects, config, out, device, options.backgrounds, options.resume, stage.preset,
        start_from=_weights(options.start_from) if options.start_from and begin else None,
        extend=extend,
        encoder=encoder_of_checkpoint(options.encoder) if options.encoder and begin else None,
        processes=processes,
        rasterizer=options.rasterizer,
    )  # fmt: skip
    quiet = not processes.leads
    with tqdm(
        total=config.samples, initial=trainer.samples, unit="sample", unit_scale=True, disable=quiet, mininterval=1.0
    ) as bar:
        result = trainer.train(options.time_budget, lambda progress: _show(bar, progress))
    done = trainer.samples >= config.samples
    if quiet:
        return done
    print(
        f"{trainer.samples} of {config.samples} samples; on synthetic validation: median error {result.median:.1f}°, "
        f"best hypothesis {result.oracle_median:.1f}°, {100 * result.recall_15:.0f} % under 15°"
    )
    print(f"report: {out / REPORT_NAME}")
    again = "" if done else ", or go on with --resume"
    print(f"next: shared_pose export {out} --out NAME.pose.pt{again}")
    return done


def _weights(path: Path) -> TrainedWeights:
    """Of a training folder or a bundle."""
    return _bundle_weights(load_bundle(path)) if path.name.endswith(SUFFIX) else weights_of_checkpoint(path)


def _bundle_weights(bundle: Bundle) -> TrainedWeights:
    facts, weights = bundle.metadata, bundle.module.network.state_dict()
    if "head.output.weight" not in weights:
        raise ValueError(f"bundle {facts.name} holds a codebook or separate heads; give one of a shared network")
    return TrainedWeights(
        origin=facts.name,
        network=weights,
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
    described = tuple(asdict(entry) for entry in bundle.metadata.objects)
    return Extension(_bundle_weights(bundle), described, bundle.meshes), bundle.metadata


def _like_bundle(config: TrainingConfig, facts: BundleMetadata) -> TrainingConfig:
    """The settings with the shape of the bundle's network; nothing is left for the auxiliary decoder to teach."""
    synthesis = replace(config.synthesis, crop_pad=facts.crop_pad)
    return replace(
        config, width=facts.encoder_width, crop_size=facts.crop_size, hypotheses=facts.hypotheses,
        normalize_code=facts.normalize_code, tuning=facts.tuning, synthesis=synthesis,
        loss=replace(config.loss, auxiliary_weight=0.0),
    )  # fmt: skip


def _show(bar: tqdm, progress: Progress) -> None:
    bar.update(progress.samples - bar.n)
    if progress.validation is not None:
        bar.set_postfix(error=f"{progress.validation.median:.0f}°", left=f"{progress.seconds_left / 60:.0f}min")
