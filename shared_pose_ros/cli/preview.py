"""``shared_pose preview``: a picture of the crops that a training would learn from."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from shared_pose_ros.cli.common import add_object_arguments, add_setting_arguments, load_objects, read_settings
from shared_pose_ros.training.config import TrainingConfig
from shared_pose_ros.training.sample_images import batch_grid

_JPEG_QUALITY = 80  # a page of documentation should load fast


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n  shared_pose preview --objects models/parts --preset robust --picture batch.png\n"
        "  shared_pose preview --objects cad/ --unit mm --backgrounds photos/ --set synthesis.occluders=1 "
        "--picture batch.jpg"
    )
    add_object_arguments(parser)
    add_setting_arguments(parser, TrainingConfig, "compact")
    parser.add_argument("--rows", type=int, default=4, help="of the grid (default: 4)")
    parser.add_argument("--columns", type=int, default=8, help="of the grid (default: 8)")
    parser.add_argument("--picture", type=Path, required=True, help="the .png or .jpg to write")


def run(options: argparse.Namespace) -> int:
    """Make a batch, write it as a picture."""
    if options.rows < 1 or options.columns < 1:
        raise ValueError(f"a grid of {options.rows}×{options.columns} shows nothing; give at least 1 row and 1 column")
    config, objects = read_settings(options, TrainingConfig, ("seed",)), load_objects(options)
    picture = batch_grid(objects, config, options.rows, options.columns, options.backgrounds)
    _write(options.picture, picture)
    print(f"picture: {options.picture}, {options.rows * options.columns} crops of {config.crop_size} pixels")
    return 0


def _write(path: Path, picture: np.ndarray) -> None:
    settings = {".png": [], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]}.get(path.suffix)
    if settings is None or not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings):
        raise ValueError(f"{path} cannot be written; give a .png or .jpg in an existing folder")
