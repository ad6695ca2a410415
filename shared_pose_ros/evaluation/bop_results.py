"""Pose estimates as a BOP results file: CSV with the columns scene_id,im_id,obj_id,score,R,t,time.

Format: https://bop.felk.cvut.cz/challenges/, R as nine numbers row by row, t in millimetres, time in seconds for the
whole image, −1 where unknown; the first line may be the header. Here translations are metres.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared_pose_ros.evaluation.bop import BopDataset, BopError
from shared_pose_ros.evaluation.instance_scoring import Evaluation

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
_COLUMNS = HEADER.split(",")
_MM_PER_METRE = 1e3
# Published files round to a few digits; a matrix farther from a rotation is a mistake (degrees, quaternion, transpose).
_ORTHONORMAL_TOLERANCE = 0.02


@dataclass(frozen=True)
class Estimate:
    """One row.

    Attributes:
        scene_id: number of the scene.
        image_id: number of the image in the scene.
        object_id: BOP number of the object.
        score: confidence; only its order counts.
        rotation: R_m2c ``(3, 3)`` float64.
        translation: ``(3,)`` float64, metres, of the CAD origin.
        seconds: time for all objects of the image, −1 where unknown.
    """

    scene_id: int
    image_id: int
    object_id: int
    score: float
    rotation: np.ndarray
    translation: np.ndarray
    seconds: float = -1.0


def read_results(path: str | Path) -> list[Estimate]:
    """Read a results file in its order; empty lines are passed over.

    Raises:
        BopError: the file is missing or a row malformed; the message names file, line, value and remedy.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BopError(f"{path} cannot be read as text ({error}); give a BOP results file (CSV)") from error
    estimates = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not (number == 1 and line.replace(" ", "") == HEADER):
            estimates.append(_read_row(f"{path}, line {number}", line))
    if not estimates:
        raise BopError(f"{path} holds no estimates; each line has the columns {HEADER}")
    return estimates


def write_results(path: str | Path, estimates: Iterable[Estimate]) -> Path:
    """Write a results file, making its folder; numbers keep their digits."""
    path = Path(path)
    rows = [HEADER]
    for item in estimates:
        rotation = " ".join(repr(float(x)) for x in np.asarray(item.rotation, dtype=np.float64).ravel())
        translation = " ".join(repr(float(x) * _MM_PER_METRE) for x in item.translation)
        numbers = f"{item.scene_id},{item.image_id},{item.object_id},{float(item.score)!r}"
        rows.append(f"{numbers},{rotation},{translation},{float(item.seconds)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def results_name(method: str, dataset: BopDataset) -> str:
    """``METHOD_DATASET-SPLIT.csv``, as bop_toolkit takes it apart: one underscore, no hyphen in the dataset's name."""
    method = re.sub(r"[^A-Za-z0-9.-]+", "-", method).strip("-") or "method"
    data = re.sub(r"[^A-Za-z0-9.]+", "", dataset.root.resolve().name) or "data"
    return f"{method}_{data}-{re.sub(r'[^A-Za-z0-9.]+', '-', dataset.split)}.csv"


def evaluation_estimates(evaluation: Evaluation, dataset: BopDataset) -> list[Estimate]:
    """The first hypotheses of an evaluation as they were scored; what a detector missed is left out.

    Raises:
        BopError: the data's class ids are no object numbers.
    """
    truths = {(f.scene_id, f.image_id, i.gt_id): i.class_id for f in dataset.frames for i in f.instances}
    estimates = []
    for item in evaluation.instances:
        if not item.detected:
            continue
        label = truths[item.scene_id, item.im_id, item.gt_id]
        if not label.isdecimal():
            raise BopError(f"class id {label!r} is no BOP object number; results files hold numbers only")
        rotation, translation = np.array(item.rotation).reshape(3, 3), np.array(item.translation)
        place = item.scene_id, item.im_id, int(label)
        estimates.append(Estimate(*place, item.confidence, rotation, translation, item.image_seconds))
    return estimates


def seconds_per_image(estimates: Sequence[Estimate]) -> float | None:
    """Mean time of an image; None where times are unknown or rows of an image disagree (bop_toolkit refuses those)."""
    times: dict[tuple[int, int], float] = {}
    for item in estimates:
        known = times.setdefault((item.scene_id, item.image_id), item.seconds)
        if item.seconds < 0 or abs(known - item.seconds) > 1e-3:
            return None
    return float(np.mean(list(times.values()))) if times else None


def _read_row(where: str, line: str) -> Estimate:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(_COLUMNS):
        raise BopError(f"{where} has {len(cells)} columns; give {len(_COLUMNS)}: {HEADER}")
    scene, image, number = (_whole(where, name, cell) for name, cell in zip(_COLUMNS[:3], cells))
    score, seconds = _numbers(where, "score", cells[3], 1)[0], _numbers(where, "time", cells[6], 1)[0]
    rotation = _numbers(where, "R", cells[4], 9).reshape(3, 3)
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > _ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0:
        raise BopError(
            f"{where}: R is {cells[4]!r}, {error:.2g} from a rotation (limit {_ORTHONORMAL_TOLERANCE:g}, "
            "determinant 1); give the nine numbers of R_m2c row by row"
        )
    translation = _numbers(where, "t", cells[5], 3) / _MM_PER_METRE
    return Estimate(scene, image, number, float(score), rotation, translation, float(seconds))


def _whole(where: str, name: str, text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise BopError(f"{where}: {name} is {text!r}; give a whole number from 0")
    return int(text)


def _numbers(where: str, name: str, text: str, count: int) -> np.ndarray:
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        need = "a finite number" if count == 1 else f"{count} finite numbers separated by spaces"
        raise BopError(f"{where}: {name} is {text!r}; give {need}")
    return np.array(values, dtype=np.float64)
