"""``shared_pose render-bop``: an own object set's cluttered scenes as a dataset in BOP layout."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.cli.common import add_object_arguments, load_objects
from shared_pose_ros.scenes.bop_export import render_bop, settings_for
from shared_pose_ros.scenes.clutter import SceneSettings

_DEFAULTS = SceneSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose render-bop --objects models/parts --out parts_bop --scenes 5 --views 4\n"
        "  shared_pose evaluate --bundle models/demo_parts.pose.pt --bop parts_bop --json out/parts.json"
    )
    add_object_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="the dataset's root, made where it is missing")
    parser.add_argument("--split", default="test", help="folder of the scenes (default: test)")
    parser.add_argument("--scenes", type=int, default=5, help="clutter scenes (default: 5)")
    parser.add_argument("--views", type=int, default=_DEFAULTS.views, help="images of each (default: %(default)s)")
    parts = "parts in a scene (default: 6-10)"
    parser.add_argument("--parts", type=_range, default=_DEFAULTS.parts, metavar="MIN-MAX", help=parts)
    parser.add_argument("--size", type=_size, default=_DEFAULTS.size, metavar="HxW", help="pixels (default: 480x640)")
    parser.add_argument("--seed", type=int, default=1, help="of everything (default: 1)")


def run(options: argparse.Namespace) -> int:
    """Render and write; prints which number each class id got."""
    for name in ("scenes", "views"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)} gives no images; give at least 1")
    if options.seed < 0:
        raise ValueError(f"--seed {options.seed} is negative; give 0 or more")
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    objects = load_objects(options)
    given = {"scenes": options.scenes, "views": options.views, "parts": options.parts, "seed": options.seed}
    settings = settings_for(objects, dataclasses.replace(_DEFAULTS, **given), options.size)
    with tqdm(total=settings.scenes * settings.views, unit="image") as bar:
        numbers = render_bop(options.out, objects, settings, options.split, lambda done, _: bar.update(done - bar.n))
    print("object numbers: " + ", ".join(f"{number} {class_id}" for class_id, number in numbers.items()))
    count = settings.scenes * settings.views
    print(f"{options.out}: split {options.split}, {count} images; CAD in {options.out / 'models'}")
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no image size; give HEIGHTxWIDTH, for example 480x640")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of parts; give for example 6-10")
    return int(match[1]), int(match[2] or match[1])
