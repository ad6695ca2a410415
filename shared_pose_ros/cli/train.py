"""``shared_pose train``: CAD in, checkpoint out."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from shared_pose_ros.cli.common import add_object_arguments, load_objects, parse_duration
from shared_pose_ros.estimator import choose_device
from shared_pose_ros.rendering.rasterizer import RASTERIZERS
from shared_pose_ros.training.config import TUNINGS, TrainingConfig, load_preset, override
from shared_pose_ros.training.trainer import Progress, Trainer, tune_allocator
from shared_pose_ros.training.transfer import weights_of_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose train --objects models/parts --out runs/parts --time-budget 60m\n"
        "  shared_pose train --objects cad/ --unit mm --backgrounds photos/ --out runs/mine\n"
        "  shared_pose train --objects models/parts --out runs/parts --resume"
    )
    add_object_arguments(parser)
    parser.add_argument("--preset", default="compact", help="compact, paper, or a YAML file (default: compact)")
    parser.add_argument("--tuning", choices=TUNINGS, help="which part of the encoder learns (default: the preset's)")
    parser.add_argument("--samples", type=int, help="length of the training (default: the preset's)")
    parser.add_argument("--seed", type=int, help="default: the preset's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting, e.g. loss.d_max=20"
    )
    parser.add_argument("--time-budget", type=parse_duration, help="stop after 90s, 30m, 1.5h …; --resume goes on")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--start-from", type=Path, help="folder of another training of these objects: take its weights")
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs (default: procedural pictures)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument(
        "--rasterizer", choices=RASTERIZERS, default="warp", help="backend of the renders (default: warp)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, configuration and log")


def run(options: argparse.Namespace) -> int:
    """Train and say what came out."""
    config = _config(options)
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 2) // 2))
    tune_allocator()
    trainer = Trainer(
        load_objects(options), config, options.out, choose_device(options.device),
        options.backgrounds, options.resume, options.preset,
        weights_of_checkpoint(options.start_from) if options.start_from else None,
        options.rasterizer,
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


def _config(options: argparse.Namespace) -> TrainingConfig:
    try:
        config = load_preset(options.preset)
    except yaml.YAMLError as error:
        raise ValueError(f"preset {options.preset} is no YAML ({error}); correct the file") from error
    named = {key: getattr(options, key) for key in ("tuning", "samples", "seed") if getattr(options, key) is not None}
    config = dataclasses.replace(config, **named)
    for item in options.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item!r} is not KEY=VALUE")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {item!r}: {value!r} is no YAML value; give for example loss.d_max=20") from error
        config = override(config, key, parsed)
    return config


def _show(bar: tqdm, progress: Progress) -> None:
    bar.update(progress.samples - bar.n)
    if progress.validation is not None:
        bar.set_postfix(error=f"{progress.validation.median:.0f}°", left=f"{progress.seconds_left / 60:.0f}min")
