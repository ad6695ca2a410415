"""``shared_pose train``: CAD in, checkpoint out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.cli.common import add_object_arguments, add_run_arguments, load_objects, read_settings
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.training.config import TUNINGS, TrainingConfig
from shared_pose_ros.training.trainer import Progress, Trainer, tune_allocator
from shared_pose_ros.training.transfer import encoder_of_checkpoint, weights_of_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose train --objects models/parts --out runs/parts --time-budget 60m\n"
        "  shared_pose train --objects cad/ --unit mm --backgrounds photos/ --out runs/mine\n"
        "  shared_pose train --objects models/parts --out runs/parts --resume\n"
        "  shared_pose train --objects models/parts --encoder runs/encoder --tuning last_layer --out runs/tuned"
    )
    add_object_arguments(parser)
    presets = "compact, paper, a variant of them (docs/training.md), or a YAML file (default: compact)"
    parser.add_argument("--preset", default="compact", help=presets)
    parser.add_argument(
        "--tuning",
        choices=TUNINGS,
        help="which part of the encoder learns (default: the preset's); frozen and last_layer need --encoder",
    )
    parser.add_argument("--samples", type=int, help="length of the training (default: the preset's)")
    parser.add_argument("--seed", type=int, help="default: the preset's")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--encoder", type=Path, help="folder of shared_pose train-encoder, or its encoder.pt")
    weights.add_argument(
        "--start-from", type=Path, help="folder of another training of these objects: take its weights"
    )
    add_run_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    config = read_settings(options, TrainingConfig, ("tuning", "samples", "seed"))
    if config.tuning != "full" and not (options.resume or options.encoder or options.start_from):
        raise ValueError(
            f"tuning {config.tuning} keeps the encoder's convolutions as they are, and untrained ones see nothing; "
            "give --encoder (from shared_pose train-encoder) or --start-from, or choose --tuning full"
        )
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 2) // 2))
    tune_allocator()
    # A resumed run has its weights already.
    begin = not options.resume
    trainer = Trainer(
        load_objects(options), config, options.out, choose_device(options.device),
        options.backgrounds, options.resume, options.preset,
        weights_of_checkpoint(options.start_from) if options.start_from and begin else None,
        encoder_of_checkpoint(options.encoder) if options.encoder and begin else None,
    )  # fmt: skip
    with tqdm(total=config.samples, initial=trainer.samples, unit="sample", unit_scale=True) as bar:
        result = trainer.train(options.time_budget, lambda progress: _show(bar, progress))
    done = trainer.samples >= config.samples
    print(
        f"{trainer.samples} of {config.samples} samples; on synthetic validation: median error {result.median:.1f}°, "
        f"best hypothesis {result.oracle_median:.1f}°, {100 * result.recall_15:.0f} % under 15°"
    )
    print(f"next: shared_pose export {options.out} --out NAME.pose.pt" + ("" if done else ", or go on with --resume"))
    return 0


def _show(bar: tqdm, progress: Progress) -> None:
    bar.update(progress.samples - bar.n)
    if progress.validation is not None:
        bar.set_postfix(error=f"{progress.validation.median:.0f}°", left=f"{progress.seconds_left / 60:.0f}min")
