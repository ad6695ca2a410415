"""``shared_pose objects``: what is in an object set, and what it looks like."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from shared_pose_ros.cli.common import add_object_arguments, load_objects
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training.sample_images import shaded_views

_VIEWS = 6
_TILE = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n  shared_pose objects --objects models/parts --picture parts.png\n"
        "  shared_pose objects --objects cad/ --unit mm"
    )
    add_object_arguments(parser)
    parser.add_argument("--picture", type=Path, help="write a picture: a row an object, views from all sides")


def run(options: argparse.Namespace) -> int:
    """Print a line an object; draw if asked."""
    objects = load_objects(options)
    print(f"{'class_id':<14} {'name':<26} {'extents [mm]':<22} {'diameter':>9} {'faces':>7}  symmetries")
    for model in objects:
        extents = " × ".join(f"{1000 * value:.1f}" for value in model.extents)
        print(
            f"{model.class_id:<14} {model.name:<26} {extents:<22} {1000 * model.diameter:>6.1f} mm "
            f"{len(model.mesh.faces):>7}  {_describe(model.symmetries)}"
        )
    if options.picture:
        picture = draw_objects(objects)
        if not cv2.imwrite(str(options.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise ValueError(f"{options.picture} cannot be written; give a .png or .jpg in an existing folder")
        print(f"picture: {options.picture}")
    return 0


def draw_objects(objects: ObjectSet) -> np.ndarray:
    """A row an object, ``(k·160, 6·160, 3)`` uint8 RGB; the first view has R = identity."""
    views = random_rotations(_VIEWS, torch.Generator().manual_seed(0))
    views[0] = torch.eye(3)
    index = torch.arange(len(objects)).repeat_interleave(_VIEWS)
    meshes = pack_meshes([model.normalized() for model in objects])
    tiles = shaded_views(meshes, index, views.repeat(len(objects), 1, 1), _TILE, make_rasterizer())
    rows = tiles.reshape(len(objects), _VIEWS, _TILE, _TILE).transpose(0, 2, 1, 3).reshape(-1, _VIEWS * _TILE)
    picture = np.repeat(rows[:, :, None], 3, axis=2)
    for row, model in enumerate(objects):
        place = (6, row * _TILE + 18)
        cv2.putText(picture, model.class_id, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 220, 120), 1, cv2.LINE_AA)
    return picture


def _describe(symmetries: Symmetries) -> str:
    parts = []
    if len(symmetries.continuous):
        parts.append(f"{len(symmetries.continuous)} axis of revolution")
    if len(symmetries.discrete):
        parts.append(f"{len(symmetries.discrete) + 1} equivalent poses")
    return ", ".join(parts) or "none"
