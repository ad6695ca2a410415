"""Tables of evaluations as Markdown and JSON.

A row an object and their unweighted mean, and in every row what chance and the oracle over hypotheses reach.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult

RECALL_DEGREES = (5, 10, 15)


@dataclass(frozen=True)
class ObjectRow:
    """Figures of one object, or of all.

    Attributes:
        class_id: object, or ``mean``.
        instances: how many.
        score: mean score.
        rotation_error_deg_median: symmetry-aware.
        recall_deg: share of instances below 5, 10 and 15 degrees.
        chance_score: the same score for random rotations.
        chance_rotation_error_deg_median: rotation error of random rotations.
        oracle_score: the score if the best hypothesis were always picked.
        oracle_rotation_error_deg_median: rotation error of the best hypothesis.
    """

    class_id: str
    instances: int
    score: float
    rotation_error_deg_median: float
    recall_deg: tuple[float, ...]
    chance_score: float
    chance_rotation_error_deg_median: float
    oracle_score: float
    oracle_rotation_error_deg_median: float


def object_rows(evaluation: Evaluation) -> list[ObjectRow]:
    """One row an object, numbers in numeric order and then names."""
    by_class: dict[str, list[InstanceResult]] = {}
    for result in evaluation.instances:
        by_class.setdefault(result.class_id, []).append(result)
    order = sorted(by_class, key=lambda c: (0, int(c), c) if c.isdecimal() else (1, 0, c))
    return [_object_row(class_id, by_class[class_id]) for class_id in order]


def summary_row(evaluation: Evaluation) -> ObjectRow:
    """Unweighted mean of the objects' rows (METHOD 8); medians and recalls are over all instances."""
    rows = object_rows(evaluation)
    pooled = _object_row("mean", evaluation.instances)
    return ObjectRow(
        class_id="mean",
        instances=pooled.instances,
        score=float(np.mean([row.score for row in rows])),
        rotation_error_deg_median=pooled.rotation_error_deg_median,
        recall_deg=pooled.recall_deg,
        chance_score=float(np.mean([row.chance_score for row in rows])),
        chance_rotation_error_deg_median=pooled.chance_rotation_error_deg_median,
        oracle_score=float(np.mean([row.oracle_score for row in rows])),
        oracle_rotation_error_deg_median=pooled.oracle_rotation_error_deg_median,
    )


def markdown_table(evaluation: Evaluation) -> str:
    """The evaluation as a Markdown table with its protocol line; scores in per cent, angles in degrees."""
    name = evaluation.score_name
    header = ["object", "instances", f"{name} %", "rotation error °", *(f"< {d}° %" for d in RECALL_DEGREES)]
    header += [f"chance {name} %", "chance rotation error °", f"oracle {name} %", "oracle rotation error °"]
    rows = [*object_rows(evaluation), summary_row(evaluation)]
    lines = [_line(header), _line(["---"] + ["---:"] * (len(header) - 1)), *(_line(_cells(row)) for row in rows)]
    left_out = ", ".join(f"{reason} {count}" for reason, count in evaluation.skipped.items() if count) or "none"
    notes = [
        f"System: {evaluation.system}. Protocol: {evaluation.protocol_line}.",
        f"Instances left out: {left_out}. Angles are medians; the last row's {name} is the unweighted mean over "
        "objects, its angles and recalls are over all instances.",
    ]
    return "\n".join([*lines, "", *notes]) + "\n"


def evaluations_to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """A JSON-able dictionary with protocol line, summary, objects and instances of each evaluation."""
    return {
        "evaluations": [
            {
                **{key: value for key, value in asdict(evaluation).items() if key != "instances"},
                "summary": asdict(summary_row(evaluation)),
                "objects": [asdict(row) for row in object_rows(evaluation)],
                "instances": [asdict(instance) for instance in evaluation.instances],
            }
            for evaluation in evaluations
        ]
    }


def write_json(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Write ``evaluations_to_json`` to a file, making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(evaluations_to_json(evaluations), indent=1) + "\n", encoding="utf-8")


def _object_row(class_id: str, results: Sequence[InstanceResult]) -> ObjectRow:
    angles = np.array([r.rotation_deg for r in results])
    return ObjectRow(
        class_id=class_id,
        instances=len(results),
        score=float(np.mean([r.score for r in results])),
        rotation_error_deg_median=float(np.median(angles)),
        recall_deg=tuple(float((angles < limit).mean()) for limit in RECALL_DEGREES),
        chance_score=float(np.mean([r.chance_score for r in results])),
        chance_rotation_error_deg_median=float(np.median([r.chance_rotation_deg for r in results])),
        oracle_score=float(np.mean([r.oracle_score for r in results])),
        oracle_rotation_error_deg_median=float(np.median([r.oracle_rotation_deg for r in results])),
    )


def _cells(row: ObjectRow) -> list[str]:
    def percent(value: float) -> str:
        return f"{100.0 * value:.1f}"

    return [
        row.class_id,
        str(row.instances),
        percent(row.score),
        f"{row.rotation_error_deg_median:.1f}",
        *(percent(value) for value in row.recall_deg),
        percent(row.chance_score),
        f"{row.chance_rotation_error_deg_median:.1f}",
        percent(row.oracle_score),
        f"{row.oracle_rotation_error_deg_median:.1f}",
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
