"""An object set as a BOP models folder, and an object's BOP number.

    MODELS/models_info.json      diameter, extents and symmetries by object number, in millimetres
    MODELS/obj_000001.ply        binary, millimetres

BOP knows objects by number, detectors by name. The entry of a number in models_info.json keeps the name (``class_id``,
``name``, ``aliases``, which other readers ignore), so that ``ObjectSet.load`` gives the same objects again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopDataset, BopError
from shared_pose_ros.meshes.object_set import ObjectModel, ObjectSet
from shared_pose_ros.meshes.ply import read_ply, write_ply

_MM_PER_METRE = 1e3
_MAX_NUMBER = 999_999


def object_numbers(objects: ObjectSet) -> dict[str, int]:
    """BOP number of each class id: the class id or alias that is a positive whole number, else the lowest free one.

    Example:
        >>> object_numbers(ObjectSet.load("models/parts", subset=["tee", "shaft"]))  # doctest: +SKIP
        {'tee': 6, 'shaft': 2}
    """
    numbers: dict[str, int] = {}
    for model in objects:
        given = [int(label) for label in (model.class_id, *model.aliases) if _is_number(label)]
        if given:
            numbers[model.class_id] = given[0]
    free = (number for number in count(1) if number not in set(numbers.values()))
    chosen = {model.class_id: next(free) for model in objects if model.class_id not in numbers}
    return {model.class_id: {**numbers, **chosen}[model.class_id] for model in objects}


def write_bop_models(folder: str | Path, objects: ObjectSet) -> dict[str, int]:
    """Write meshes and models_info.json; a folder that holds the same objects already is left as it is.

    Args:
        folder: made where it is missing.
        objects: the CAD.

    Returns:
        The number of each class id.

    Raises:
        BopError: the folder holds other objects.
    """
    folder = Path(folder)
    numbers = object_numbers(objects)
    infos = {str(numbers[m.class_id]): _model_info(m) for m in sorted(objects, key=lambda m: numbers[m.class_id])}
    text = json.dumps(infos, indent=1)
    path = folder / "models_info.json"
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise BopError(f"{folder} holds other objects; remove it or choose another folder")
        return numbers
    folder.mkdir(parents=True, exist_ok=True)
    for model in objects:
        vertices = model.mesh.vertices.astype(np.float64) * _MM_PER_METRE
        write_ply(folder / f"obj_{numbers[model.class_id]:06d}.ply", vertices, model.mesh.faces, "unit: millimetre")
    path.write_text(text, encoding="utf-8")
    return numbers


def dataset_objects(
    dataset: BopDataset, models: Path | None = None, estimators: Sequence[PoseEstimator] = ()
) -> ObjectSet:
    """CAD of the objects in a dataset: with estimators of those that one of them knows, if that is enough.

    Where the data have no depth, it is rendered, and any object may stand in front.

    Args:
        dataset: the data.
        models: the CAD; ROOT/models_cad or ROOT/models by default.
        estimators: of the objects that matter.

    Raises:
        ValueError: there is no CAD.
    """
    usual = (dataset.root / name for name in ("models_cad", "models"))
    folder = models or next((folder for folder in usual if folder.is_dir()), None)
    if folder is None:
        raise ValueError(f"{dataset.root} has no models_cad or models folder; name the CAD with --models")
    shown = {instance.class_id for frame in dataset.frames for instance in frame.instances}
    objects = ObjectSet.load(folder, shown=shown)
    if not estimators or not all(frame.has_depth() for frame in dataset.frames):
        return objects
    labels = {model.class_id: (model.class_id, *model.aliases) for model in objects}
    known = [
        model
        for model in objects
        if any(one.object_index(label) is not None for one in estimators for label in labels[model.class_id])
    ]
    return ObjectSet(tuple(known)) if known else objects


def file_vertices(model: ObjectModel) -> np.ndarray:
    """Vertices ``(V, 3)`` float64 in metres as a BOP models folder's file holds them, those without a face included.

    bop_toolkit measures MSSD, MSPD, ADD and ADI over them. Of other files the cleaned mesh's.
    """
    if model.path.suffix.lower() == ".ply" and model.path.parent.joinpath("models_info.json").is_file():
        return read_ply(model.path)[0] * model.unit
    return model.mesh.vertices.astype(np.float64)


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and label == str(int(label)) and 0 < int(label) <= _MAX_NUMBER


def _model_info(model: ObjectModel) -> dict[str, Any]:
    low, size = model.mesh.bounds[0] * _MM_PER_METRE, model.extents * _MM_PER_METRE
    info: dict[str, Any] = {"diameter": model.diameter * _MM_PER_METRE}
    info |= {f"min_{axis}": float(value) for axis, value in zip("xyz", low)}
    info |= {f"size_{axis}": float(value) for axis, value in zip("xyz", size)}
    if len(model.symmetries.discrete):
        in_mm = model.symmetries.discrete.copy()
        in_mm[:, :3, 3] *= _MM_PER_METRE
        info["symmetries_discrete"] = [matrix.ravel().tolist() for matrix in in_mm]
    if model.symmetries.continuous:
        info["symmetries_continuous"] = [
            {"axis": axis.tolist(), "offset": (offset * _MM_PER_METRE).tolist()}
            for axis, offset in model.symmetries.continuous
        ]
    return info | {"class_id": model.class_id, "name": model.name, "aliases": list(model.aliases)}
