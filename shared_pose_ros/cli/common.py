"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shared_pose_ros.meshes.object_set import ObjectSet

_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_object_arguments(parser: argparse.ArgumentParser) -> None:
    """--objects, --unit and --subset: which object set."""
    parser.add_argument("--objects", required=True, help="objects.yaml, a BOP models folder, or a folder of mesh files")
    parser.add_argument("--unit", default=None, help="unit of the meshes of a plain folder: m, cm, mm or in")
    parser.add_argument("--subset", default=None, help="class ids to keep, comma-separated, in the network's order")


def load_objects(options: argparse.Namespace) -> ObjectSet:
    """The object set that ``add_object_arguments`` asked for."""
    # Imported here: a cell without the training extras still has `estimate`.
    from shared_pose_ros.meshes.object_set import ObjectSet

    subset = options.subset.split(",") if options.subset else None
    return ObjectSet.load(options.objects, unit=options.unit, subset=subset)


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
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
