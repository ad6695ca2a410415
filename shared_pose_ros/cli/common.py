"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from shared_pose_ros.network.backends.precision import PRECISIONS

if TYPE_CHECKING:
    from shared_pose_ros.meshes.object_set import ObjectSet
    from shared_pose_ros.training.config import Settings

DEPTH_RANGE = (0.02, 20.0)
"""Metres, of a depth image's median: beyond it the unit is another one."""
_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_object_arguments(parser: argparse.ArgumentParser) -> None:
    """--objects, --unit and --subset: which object set."""
    add_cad_arguments(parser, required=True)
    parser.add_argument("--subset", default=None, help="class ids to keep, comma-separated, in the network's order")


def add_cad_arguments(parser: argparse.ArgumentParser, required: bool, purpose: str = "") -> None:
    """--objects and --unit: where CAD is; ``purpose`` goes before the help."""
    source = "objects.yaml, a BOP models folder, or a folder of mesh files"
    parser.add_argument("--objects", required=required, help=f"{purpose}{source}")
    parser.add_argument(
        "--unit", default=None, help="unit of the meshes of a plain folder: m, cm, mm, in, or metres per unit"
    )


def load_objects(options: argparse.Namespace) -> ObjectSet:
    """The object set that ``add_object_arguments`` asked for; what it leaves out is told on stderr."""
    # Imported here: a cell without the training extras still has `estimate`.
    from shared_pose_ros.meshes.object_set import ObjectSet

    subset = options.subset.split(",") if options.subset else None
    objects = ObjectSet.load(options.objects, unit=options.unit, subset=subset)
    tell_left_out(objects)
    return objects


def tell_left_out(objects: ObjectSet) -> None:
    """Name what the source of an object set holds and the set does not take."""
    for sentence in objects.left_out:
        print(f"note: {sentence}", file=sys.stderr)


def add_dataset_arguments(parser: argparse.ArgumentParser, max_faces: int | None = None) -> None:
    """--bop, --models, --split and --max-faces: what is scored against; ``max_faces`` is the default, None all."""
    parser.add_argument("--bop", type=Path, required=True, help="root of the dataset, the folder that holds the split")
    parser.add_argument("--models", type=Path, help="CAD of its objects (default: ROOT/models_cad, ROOT/models)")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument(
        "--max-faces",
        type=int,
        default=max_faces,
        help=f"simplify finer CAD to this (default: {max_faces or 'as it is'})",
    )


def add_setting_arguments(parser: argparse.ArgumentParser, kind: type[Settings], preset: str) -> None:
    """--preset, --seed, --set and --backgrounds: which images and which training; ``read_settings`` reads them."""
    from shared_pose_ros.training.config import preset_names

    presets = f"{', '.join(preset_names(kind))}, or a YAML file (default: {preset})"
    parser.add_argument("--preset", default=preset, help=presets)
    parser.add_argument("--seed", type=int, help="default: the preset's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting, e.g. synthesis.tint=0"
    )
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs (default: procedural pictures)")


def add_run_arguments(
    parser: argparse.ArgumentParser, budget: str = "stop after 90s, 30m, 1.5h …; --resume goes on"
) -> None:
    """--time-budget, --resume, --device and --out: what every training takes; ``budget`` is the help of the first."""
    parser.add_argument("--time-budget", type=parse_duration, help=budget)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, configuration and log")


def add_inference_arguments(parser: argparse.ArgumentParser) -> None:
    """--device and --precision: how a bundle runs."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="of the encoder (default: auto, the first of int8, bf16 and fp32 that the processor has instructions for)",
    )  # fmt: skip


def read_settings(
    options: argparse.Namespace, kind: type[Settings], named: tuple[str, ...], preset: str | None = None
) -> Settings:
    """The settings of ``--preset``, changed by the options ``named`` where given, then by every ``--set``.

    ``preset`` is one of several in ``--preset``.

    Raises:
        ValueError: an unknown preset or setting, or a value of the wrong type.
    """
    from shared_pose_ros.training.config import load_preset, override

    config = load_preset(preset or options.preset, kind)
    given: list[tuple[str, Any]] = [(key, getattr(options, key)) for key in named]
    changes = [(key, value) for key, value in given if value is not None]
    for item in options.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item!r} is not KEY=VALUE")
        try:
            changes.append((key, yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise ValueError(f"--set {item!r}: {value!r} is no YAML value; give for example seed=1") from error
    for key, value in changes:
        config = override(config, key, value)
    return config


def import_live(module: str, asked: str, otherwise: str) -> ModuleType:
    """A module that speaks ROS, on demand: the command works without. ValueError says what to do ``otherwise``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{asked} needs ROS 2 and vision_msgs, which are not here ({error}): run `make setup` or source your ROS "
            f"installation (docs/how-to/install.md), or {otherwise}"
        ) from error


def parse_duration(text: str) -> float:
    """Seconds of "90s", "30m", "1.5h" or a plain number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; give for example 90s, 30m or 1.5h")
    return float(match[1]) * _UNITS[match[2] or "s"]


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB of an image file; raises ValueError when it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is missing or no image that OpenCV reads; give a PNG or JPEG file")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_depth(path: str | Path) -> NDArray[np.float32]:
    """A depth image file: a 16-bit PNG in millimetres, or an .npy file of floats in metres.

    Returns:
        ``(h, w)`` float32 metres along z; what is not positive and finite is not measured.

    Raises:
        ValueError: another shape or type, nothing measured, or distances that no camera of a cell has.
    """
    if str(path).lower().endswith(".npy"):
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}); give an .npy file of floats in metres") from error
        unit, wanted = 1.0, "metres as floats of shape (h, w)"
        fits = stored.ndim == 2 and np.issubdtype(stored.dtype, np.floating)
    else:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError(f"{path} is missing or no image that OpenCV reads; give a 16-bit PNG or an .npy file")
        stored, unit, wanted = np.asarray(image), 1e-3, "a 16-bit PNG of one channel in millimetres"
        fits = stored.ndim == 2 and stored.dtype == np.uint16
    if not fits:
        raise ValueError(f"{path} holds {stored.dtype} of shape {stored.shape}; give {wanted}")
    metres = (stored * unit).astype(np.float32)
    measured = metres[np.isfinite(metres) & (metres > 0)]
    if not measured.size:
        raise ValueError(f"{path}: no pixel has a depth; give {wanted}")
    middle, (least, most) = float(np.median(measured)), DEPTH_RANGE
    if not least <= middle <= most:
        raise ValueError(f"{path}: the median depth is {middle:.3g} m, outside {least:g} to {most:g} m; give {wanted}")
    return metres


def parse_camera(text: str) -> NDArray[np.float64]:
    """K of "fx,fy,cx,cy", or of a JSON file with cam_K or K (9 numbers) or fx, fy, cx, cy.

    Returns:
        ``(3, 3)`` pixels.

    Raises:
        ValueError: neither of the two; the message says what was expected.
    """
    if not text.lower().endswith(".json"):
        try:
            fx, fy, cx, cy = (float(item) for item in text.split(","))
        except ValueError:
            raise ValueError(f"camera {text!r} is neither a .json file nor fx,fy,cx,cy in pixels") from None
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    try:
        values = json.loads(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"camera file {text} cannot be read ({error}); give JSON with cam_K") from error
    if isinstance(values, dict):
        try:
            for key in ("cam_K", "K", "k"):
                if key in values:
                    return np.array(values[key], dtype=np.float64).reshape(3, 3)
            if all(key in values for key in ("fx", "fy", "cx", "cy")):
                return parse_camera(",".join(str(values[key]) for key in ("fx", "fy", "cx", "cy")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"camera file {text} does not hold numbers ({error}); give cam_K as 9 numbers") from error
    raise ValueError(f"camera file {text} has neither cam_K (9 numbers) nor fx, fy, cx, cy in pixels")
