"""``shared_pose train``: CAD in, checkpoint out."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.bundle_export import extended_bundle, trained_weights
from shared_pose_ros.cli.common import (
    add_object_arguments,
    add_run_arguments,
    add_setting_arguments,
    load_objects,
    read_settings,
)
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import RASTERIZERS
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from shared_pose_ros.training.config import TUNINGS, TrainingConfig
from shared_pose_ros.training.distributed import Processes, joined_processes, set_threads
from shared_pose_ros.training.run_report import REPORT_NAME
from shared_pose_ros.training.trainer import Trainer
from shared_pose_ros.training.training_log import Progress
from shared_pose_ros.training.transfer import encoder_of_checkpoint


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
        "--separate", action="store_true", help="object-specific networks: one training per object, in OUT/CLASS_ID"
    )
    parser.add_argument(
        "--rasterizer", choices=RASTERIZERS, default="warp", help="backend of the renders (default: warp)"
    )
    add_run_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    stages = _stages(options, options.out, options.resume)
    config = stages[0].config
    if config.tuning != "full" and not (options.resume or options.encoder or options.start_from or options.extend):
        raise ValueError(
            f"tuning {config.tuning} keeps the encoder's convolutions as they are, and untrained ones see nothing; "
            "give --encoder (from shared_pose train-encoder) or --start-from, or choose --tuning full"
        )
    if options.separate and options.extend:
        raise ValueError("--separate makes networks of one object each, --extend adds to one; give one of the two")
    set_threads(config.threads)
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
            own = _stages(options, out, options.resume and out.exists())
            _train_stages(options, ObjectSet((model,)), own, deadline, *place)
    return 0


@dataclass(frozen=True)
class _Stage:
    """One preset of the training: its settings, its folder, and what it begins with."""

    preset: str
    config: TrainingConfig
    out: Path
    resume: bool
    encoder: Path | None
    start_from: Path | None


def _stages(options: argparse.Namespace, out: Path, resume: bool) -> list[_Stage]:
    """A stage per preset, from the weights of the one before; the last one's folder is ``out``, others lie in it."""
    names = options.preset.split(",") if not options.extend else options.preset.split(",")[-1:]
    configs = [read_settings(options, TrainingConfig, ("tuning", "seed"), name) for name in names]
    if options.samples is not None:
        share = options.samples / sum(config.samples for config in configs)
        lengths = [round(config.samples * share) for config in configs[:-1]]
        lengths.append(options.samples - sum(lengths))
        configs = [replace(config, samples=length) for config, length in zip(configs, lengths)]
    folders = [*(out / f"{number}-{Path(name).stem}" for number, name in enumerate(names[:-1], start=1)), out]
    first = _Stage(names[0], configs[0], folders[0], resume, options.encoder, options.start_from)
    later = [
        _Stage(name, config, folder, resume and (folder / CHECKPOINT_NAME).exists(), None, before)
        for name, config, folder, before in zip(names[1:], configs[1:], folders[1:], folders)
    ]
    return [first, *later]


def _train_stages(
    options: argparse.Namespace,
    objects: ObjectSet,
    stages: list[_Stage],
    deadline: float,
    processes: Processes,
    device: torch.device,
) -> None:
    """One stage after the other; a finished one is not done again."""
    for stage in stages:
        checkpoint = stage.out / CHECKPOINT_NAME
        goes_on = stage.resume and stage is not stages[-1] and checkpoint.exists()
        if goes_on and load_checkpoint(checkpoint)["step"] >= stage.config.steps:
            continue
        if not _train(options, objects, stage, deadline, processes, device):
            return


def _train(
    options: argparse.Namespace,
    objects: ObjectSet,
    stage: _Stage,
    deadline: float,
    processes: Processes,
    device: torch.device,
) -> bool:
    """One network; returns whether all samples are done."""
    config, extend = stage.config, None
    if options.extend:
        extend, config = extended_bundle(options.extend, objects, config)
    begin = not stage.resume  # a resumed run has its weights already
    trainer = Trainer(
        objects, config, stage.out, device, options.backgrounds, stage.resume, stage.preset,
        start_from=trained_weights(stage.start_from) if stage.start_from and begin else None,
        extend=extend,
        encoder=encoder_of_checkpoint(stage.encoder) if stage.encoder and begin else None,
        processes=processes,
        rasterizer=options.rasterizer,
    )  # fmt: skip
    quiet = not processes.leads
    with tqdm(
        total=config.samples, initial=trainer.samples, unit="sample", unit_scale=True, disable=quiet, mininterval=1.0
    ) as bar:
        left = None if math.isinf(deadline) else max(deadline - time.monotonic(), 0.0)
        result = trainer.train(left, lambda progress: _show(bar, progress))
    done = trainer.samples >= config.samples
    if quiet:
        return done
    print(
        f"{trainer.samples} of {config.samples} samples; on synthetic validation: median error {result.median:.1f}°, "
        f"best hypothesis {result.oracle_median:.1f}°, {100 * result.recall_15:.0f} % under 15°"
    )
    print(f"report: {stage.out / REPORT_NAME}")
    again = "" if done else ", or go on with --resume"
    print(f"next: shared_pose export {stage.out} --out NAME.pose.pt{again}")
    return done


def _show(bar: tqdm, progress: Progress) -> None:
    bar.update(progress.samples - bar.n)
    if progress.validation is not None:
        bar.set_postfix(error=f"{progress.validation.median:.0f}°", left=f"{progress.seconds_left / 60:.0f}min")
