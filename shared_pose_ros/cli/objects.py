"""``shared_pose objects``: what is in an object set, and what it looks like."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from shared_pose_ros.cli.common import add_object_arguments, load_objects
from shared_pose_ros.meshes.object_set import ObjectSet
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
    """Print a line per object, and one on its surface; draw if asked."""
    objects = load_objects(options)
    print(f"{'class_id':<14} {'name':<26} {'extents [mm]':<22} {'diameter':>9} {'faces':>7}  symmetries")
    for model in objects:
        extents = " × ".join(f"{1000 * value:.1f}" for value in model.extents)
        print(
            f"{model.class_id:<14} {model.name:<26} {extents:<22} {1000 * model.diameter:>6.1f} mm "
            f"{len(model.mesh.faces):>7}  {_describe(model.symmetries)}"
        )
    _print_surfaces(objects)
    if options.picture:
        picture = object_rows(objects)
        if not cv2.imwrite(str(options.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise ValueError(f"{options.picture} cannot be written; give a .png or .jpg in an existing folder")
        print(f"picture: {options.picture}")
    return 0


def _print_surfaces(objects: ObjectSet) -> None:
    """A line per object on what its file holds, and one per note; ``Surface`` says what the counts are."""
    print(f"\n{'class_id':<14} {'watertight':>10} {'volume':>12} {'area':>12} {'bodies':>6}", end=" ")
    print(
        f"{'open edges':>10} {'unpaired':>8} {'duplicate':>9} {'double':>6} {'degenerate':>10} {'slivers':>7} reversed"
    )
    for model in objects:
        if (found := model.surface) is not None:
            volume = f"{found.volume * 1e6:.4g} cm³" if found.watertight else "-"
            area = f"{found.area * 1e4:.4g} cm²"
            print(
                f"{model.class_id:<14} {'yes' if found.watertight else 'no':>10} {volume:>12} {area:>12} "
                f"{found.bodies:>6} {found.open_edges:>10} {found.crowded_edges:>8} {found.duplicate_faces:>9} "
                f"{found.double_faces:>6} {found.degenerate_faces:>10} {found.slivers:>7} {found.reversed_faces:>8}"
            )
    for model in objects:
        for note in model.notes:
            print(f"{model.path.name}: {note}")


def _describe(symmetries: Symmetries) -> str:
    parts = []
    if len(symmetries.continuous):
        parts.append(f"{len(symmetries.continuous)} axis of revolution")
    if len(symmetries.discrete):
        parts.append(f"{len(symmetries.discrete) + 1} equivalent poses")
    return ", ".join(parts) or "none"
