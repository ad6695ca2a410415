"""``shared_pose train-encoder``: CAD in, a pre-trained encoder out."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from shared_pose_ros.cli.common import (
    add_object_arguments,
    add_run_arguments,
    add_setting_arguments,
    load_objects,
    read_settings,
)
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.distributed import set_threads
from shared_pose_ros.training.encoder_trainer import PICTURE_NAME, EncoderProgress, EncoderTrainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose train-encoder --objects models/parts --out runs/encoder --time-budget 60m\n"
        "  shared_pose train-encoder --objects cad/ --preset encoder_paper --backgrounds photos --out runs/a\n"
        "  shared_pose train-encoder --objects models/parts --out runs/encoder --resume\n"
        "  shared_pose train --objects models/parts --encoder runs/encoder --tuning frozen --out runs/parts"
    )
    add_object_arguments(parser)
    add_setting_arguments(parser, EncoderConfig, "encoder_compact")
    parser.add_argument("--steps", type=int, help="length of the training (default: the preset's)")
    add_run_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    config = read_settings(options, EncoderConfig, ("steps", "seed"))
    set_threads(config.threads)
    trainer = EncoderTrainer(
        load_objects(options), config, options.out, choose_device(options.device),
        options.backgrounds, options.resume, options.preset,
    )  # fmt: skip
    with tqdm(total=config.steps, initial=trainer.step, unit="step") as bar:
        loss = trainer.train(options.time_budget, lambda progress: _show(bar, progress))
    picture = options.out / PICTURE_NAME
    print(f"{trainer.step} of {config.steps} steps; loss on synthetic validation {loss:.4f}; look at {picture}")
    remedy = "" if trainer.step >= config.steps else ", or go on with --resume"
    print(f"next: shared_pose train --encoder {options.out} --tuning frozen|last_layer|full …{remedy}")
    return 0


def _show(bar: tqdm, progress: EncoderProgress) -> None:
    bar.update(progress.step - bar.n)
    rate, left = progress.samples_per_second, progress.seconds_left / 60
    bar.set_postfix(loss=f"{progress.loss:.4f}", samples=f"{rate:.0f}/s", left=f"{left:.0f}min")
