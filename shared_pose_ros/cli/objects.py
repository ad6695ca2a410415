"""``shared_pose objects``: what is in an object set, and what it looks like."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from shared_pose_ros.cli.common import add_object_arguments, load_objects
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.training.sample_images import object_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n  shared_pose objects --objects models/parts --picture parts.png\n"
        "  shared_pose objects --objects cad/ --unit mm"
    )
    add_object_arguments(parser)
    parser.add_argument("--picture", type=Path, help="write a picture: a row per object, views from all sides")


def run(options: argparse.Namespace) -> int:
    """Print a line per object; draw if asked."""
    objects = load_objects(options)
    print(f"{'class_id':<14} {'name':<26} {'extents [mm]':<22} {'diameter':>9} {'faces':>7}  symmetries")
    for model in objects:
        extents = " × ".join(f"{1000 * value:.1f}" for value in model.extents)
        print(
            f"{model.class_id:<14} {model.name:<26} {extents:<22} {1000 * model.diameter:>6.1f} mm "
            f"{len(model.mesh.faces):>7}  {_describe(model.symmetries)}"
        )
    if options.picture:
        picture = object_rows(objects)
        if not cv2.imwrite(str(options.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise ValueError(f"{options.picture} cannot be written; give a .png or .jpg in an existing folder")
        print(f"picture: {options.picture}")
    return 0


def _describe(symmetries: Symmetries) -> str:
    parts = []
    if len(symmetries.continuous):
        parts.append(f"{len(symmetries.continuous)} axis of revolution")
    if len(symmetries.discrete):
        parts.append(f"{len(symmetries.discrete) + 1} equivalent poses")
    return ", ".join(parts) or "none"
