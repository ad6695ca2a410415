"""Figures of a report: recall over thresholds, random rotations beside it, errors by what made the instance hard.

Convention: shares and scores in 0…1, angles in degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult, middle_tolerance
from shared_pose_ros.evaluation.metrics import symmetric_rotation_error
from shared_pose_ros.evaluation.result_tables import ObjectRow, object_rows
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries

THETAS = tuple(number / 50 for number in range(51))
DEGREES = tuple(float(number) for number in range(46))
_DRAWS = 10_000  # a share of 0.5 is then known to 0.5 points


@dataclass(frozen=True)
class Factor:
    """Something that may make an instance hard.

    Attributes:
        name: what it is.
        unit: of the edges.
        edges: of the bins, low ≤ value < high; the last bin is open.
        value: of an instance.
        of_misses: whether it is known of instances that a detector missed.
    """

    name: str
    unit: str
    edges: tuple[float, ...]
    value: Callable[[InstanceResult], float]
    of_misses: bool = True

    def labels(self) -> list[str]:
        """Names of the bins."""
        last = f"≥ {self.edges[-2]:g}{self.unit}"
        return [f"{low:g}–{high:g}{self.unit}" for low, high in zip(self.edges, self.edges[1:-1])] + [last]


VISIBILITY = Factor("visible share", " %", (0, 20, 40, 60, 80, 95, 100), lambda result: 100 * result.visib)
OFF_AXIS = Factor("angle off the optical axis", "°", (0, 5, 10, 15, 20, 25, 30, 180), lambda r: r.off_axis_deg)
BOX = Factor(
    "overlap of the given and the true box (IoU)", " %", (0, 50, 60, 70, 80, 90, 100), lambda r: 100 * r.box_iou, False
)


def boxes_differ(results: Iterable[InstanceResult]) -> bool:
    """Whether some box was not the true one (an IoU below 0.999: rounding is no noise); a miss has none."""
    return any(result.detected and result.box_iou < 0.999 for result in results)


def factor_rows(evaluation: Evaluation, factor: Factor) -> list[ObjectRow]:
    """A row of figures per bin that holds an instance, over all its instances; ``class_id`` is the bin's name."""
    known = [result for result in evaluation.instances if result.detected or factor.of_misses]
    values = np.array([factor.value(result) for result in known])
    index = np.searchsorted(factor.edges[1:-1], values, side="right")
    rows = []
    for number, label in enumerate(factor.labels()):
        chosen = [replace(r, class_id=label) for r, i in zip(known, index) if i == number]
        if chosen:
            rows += object_rows(replace(evaluation, instances=tuple(chosen)))
    return rows


def vsd_recall(results: Sequence[InstanceResult], thetas: Sequence[float] = THETAS) -> list[float]:
    """Share with VSD < θ at the middle tolerance for each θ, unweighted mean over objects."""
    return _mean_over_objects(results, thetas, lambda r: [r.e_vsd[middle_tolerance(len(r.e_vsd))]])


def random_vsd_recall(results: Sequence[InstanceResult], thetas: Sequence[float] = THETAS) -> list[float]:
    """The same for the random rotations of each instance; empty where they were not kept.

    A miss counts as wrong once for every draw of the others, so that it weighs as much as they do.
    """
    found = [result for result in results if result.detected]
    if not found or not all(result.chance_e_vsd for result in found):
        return []
    missed = (1.0,) * len(found[0].chance_e_vsd)
    return _mean_over_objects(results, thetas, lambda r: r.chance_e_vsd if r.detected else missed)


def rotation_recall(errors: Sequence[float], degrees: Sequence[float] = DEGREES) -> list[float]:
    """Share of the errors below each angle."""
    values = np.asarray(errors, dtype=np.float64)
    return [float((values < limit).mean()) if len(values) else float("nan") for limit in degrees]


def random_rotation_recall(
    results: Sequence[InstanceResult], objects: ObjectSet, degrees: Sequence[float] = DEGREES
) -> list[float]:
    """Share below each angle for rotations uniform on SO(3), objects weighted by their instances.

    Without symmetry it is (θ − sin θ)/π; misses are wrong for them too. Empty if an object is not in the set.
    """
    classes = sorted({result.class_id for result in results})
    if not classes or any(objects.index(class_id) is None for class_id in classes):
        return []
    weights = [sum(r.class_id == class_id and r.detected for r in results) / len(results) for class_id in classes]
    shares = [random_recall(objects.model(class_id).symmetries, degrees) for class_id in classes]
    return [float(share) for share in np.array(weights) @ np.array(shares)]


def random_recall(symmetries: Symmetries, degrees: Sequence[float] = DEGREES) -> list[float]:
    """Share of 10,000 uniform random rotations with a symmetric rotation error below each angle."""
    drawn = random_rotations(_DRAWS, torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = symmetric_rotation_error(drawn, torch.eye(3, dtype=torch.float64), symmetries)
    return rotation_recall(errors.tolist(), degrees)


def _mean_over_objects(
    results: Sequence[InstanceResult], thetas: Sequence[float], errors: Callable[[InstanceResult], Sequence[float]]
) -> list[float]:
    pooled: dict[str, list[float]] = {}
    for result in results:
        pooled.setdefault(result.class_id, []).extend(errors(result))
    shares = [[float((np.array(values) < theta).mean()) for theta in thetas] for values in pooled.values()]
    return np.mean(shares, axis=0).tolist() if shares else []
