"""Tables of evaluations and of scored results files, as Markdown and JSON.

A row per object and their unweighted mean; beside every figure stands what random rotations and, of an evaluation, the
best of the hypotheses reach.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult
from shared_pose_ros.evaluation.pose_metrics import plain_values, table_metrics
from shared_pose_ros.evaluation.reliability import (
    USEFUL_DEG,
    WITHIN_DEG,
    ErrorGroup,
    Reliability,
    Rule,
    reliability,
)
from shared_pose_ros.evaluation.results_scoring import Recalls, Scoring

BASELINE = "random-rotation baseline"
_SCORES = ("score", "chance_score", "oracle_score")


@dataclass(frozen=True)
class ObjectRow:
    """Figures of one object, or of all.

    Attributes:
        class_id: object, or ``mean``.
        instances: how many.
        score: mean score.
        metrics: summaries of the metrics that tables show, by ``PoseMetric.column``; with ``chance_`` before it that of
            random rotations, with ``oracle_`` that of the best hypothesis.
        recalls: shares of instances within the limits of these metrics, by ``PoseMetric.recall_column``.
        chance_score: the same score for random rotations.
        oracle_score: the score if the best hypothesis were always picked.
    """

    class_id: str
    instances: int
    metrics: Mapping[str, float]
    recalls: Mapping[str, tuple[float, ...]]
    score: float
    chance_score: float
    oracle_score: float

    @property
    def rotation_error_deg_median(self) -> float:
        """Symmetry-aware rotation error."""
        return self.metrics["rotation_error_deg_median"]

    @property
    def chance_rotation_error_deg_median(self) -> float:
        """Rotation error of random rotations."""
        return self.metrics["chance_rotation_error_deg_median"]


def percent(share: float) -> str:
    """A share in 0…1 as per cent with a decimal, – for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def object_rows(evaluation: Evaluation) -> list[ObjectRow]:
    """One row per object, numbers in numeric order and then names."""
    by_class: dict[str, list[InstanceResult]] = {}
    for result in evaluation.instances:
        by_class.setdefault(result.class_id, []).append(result)
    order = sorted(by_class, key=lambda c: (0, int(c), c) if c.isdecimal() else (1, 0, c))
    return [_object_row(class_id, by_class[class_id]) for class_id in order]


def summary_row(evaluation: Evaluation) -> ObjectRow:
    """Unweighted mean of the objects' scores, as the paper's Table I; metrics and recalls are over all instances."""
    rows = object_rows(evaluation)
    score, random, oracle = (float(np.mean([getattr(row, name) for row in rows])) for name in _SCORES)
    pooled = _object_row("mean", evaluation.instances)
    return replace(pooled, score=score, chance_score=random, oracle_score=oracle)


def markdown_table(evaluation: Evaluation) -> str:
    """The evaluation as a Markdown table with its conditions; scores in per cent, metrics in their units."""
    name, metrics = evaluation.score_name, table_metrics()
    header = ["object", "instances", f"{name} %", *(m.head for m in metrics)]
    header += [head for m in metrics for head in m.limit_heads]
    for source in ("baseline", "oracle"):
        header += [f"{source} {name} %", *(f"{source} {m.head}" for m in metrics)]
    rows = [*object_rows(evaluation), summary_row(evaluation)]
    notes = [
        f"System: {evaluation.system}. Evaluation conditions: {evaluation.protocol_line}.",
        f"Instances left out: {left_out(evaluation.skipped)}. Baseline: random rotations. Angles are medians; the "
        f"last row's {name} is the unweighted mean over objects, its angles and recalls are over all instances.",
    ]
    lines = [*table_lines(header, [_cells(row) for row in rows]), "", *notes]
    found = reliability(evaluation.instances)
    if found is not None:
        groups = table_lines(group_heads(), [group_cells(group) for group in found.groups])
        rules = table_lines(rule_heads(), [rule_cells(rule) for rule in found.rules])
        lines += ["", reliability_text(found), "", *groups, "", *rules]
    return "\n".join(lines) + "\n"


def reliability_text(found: Reliability) -> str:
    """How honest expected errors are, in sentences."""
    correlation = "–" if found.rank_correlation is None else f"{found.rank_correlation:.2f}"
    return (
        f"Expected error of the first hypothesis against its true one: {found.instances} instances in groups of rising "
        f"expectation, {found.without} without one left out. Rank correlation {correlation}; mean expected "
        f"{found.expected_mean:.1f}°, mean true {found.true_mean:.1f}°."
    )


def group_heads() -> list[str]:
    """Heads of the table of ``Reliability.groups``."""
    shares = [f"< {limit:g}° %" for limit in WITHIN_DEG]
    compared = [f"{kind} {which} °" for kind in ("median", "mean") for which in ("expected", "true")]
    return ["expected error °", "instances", *compared, *shares]


def group_cells(group: ErrorGroup) -> list[str]:
    """A row of that table."""
    figures = group.expected_median, group.true_median, group.expected_mean, group.true_mean
    return [group_name(group), str(group.instances), *(f"{x:.1f}" for x in figures), *map(percent, group.within)]


def group_name(group: ErrorGroup) -> str:
    """The span of its expected errors."""
    return f"{group.expected_least:.1f}–{group.expected_most:.1f}"


def rule_heads() -> list[str]:
    """Heads of the table of ``Reliability.rules``."""
    return ["expected error below °", "of all answers %", f"of these within {USEFUL_DEG:g}° %"]


def rule_cells(rule: Rule) -> list[str]:
    """A row of that table."""
    return [f"{rule.below:g}", percent(rule.answers), "–" if rule.useful is None else percent(rule.useful)]


def evaluations_to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """A JSON-able dictionary with conditions, summary, objects and instances of each evaluation."""
    return {
        "evaluations": [
            {
                **{key: value for key, value in vars(evaluation).items() if key != "instances"},
                "summary": plain_values(summary_row(evaluation)),
                "objects": [plain_values(row) for row in object_rows(evaluation)],
                "reliability": _reliability_values(evaluation),
                "instances": [plain_values(instance) for instance in evaluation.instances],
            }
            for evaluation in evaluations
        ]
    }


def write_json(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Write ``evaluations_to_json`` to a file, making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(evaluations_to_json(evaluations), indent=1) + "\n", encoding="utf-8")


def scoring_table(scoring: Scoring) -> str:
    """Markdown: a row per object, all targets together, the unweighted mean over objects, and the baseline."""
    metrics = list(scoring.recalls.total)

    def rows(recalls: Recalls, prefix: str) -> list[tuple[str, int, Mapping[str, float]]]:
        count = sum(recalls.targets.values())
        return [(f"{prefix}all targets", count, recalls.total), (f"{prefix}mean over objects", count, recalls.mean)]

    objects = [(str(n), scoring.recalls.targets[n], recalls) for n, recalls in scoring.recalls.objects.items()]
    listed = [*objects, *rows(scoring.recalls, ""), *rows(scoring.chance, f"{BASELINE}, ")]
    cells = [[name, str(count), *(percent(recalls[m]) for m in metrics)] for name, count, recalls in listed]
    notes = [f"Evaluation conditions: {scoring.protocol_line}.", f"Left out: {left_out(scoring.left_out)}."]
    return "\n".join([*table_lines(["object", "targets", *(f"{metric} %" for metric in metrics)], cells), "", *notes])


def write_scoring(scoring: Scoring, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a scored results file as JSON, after other ``facts``; indented, but a pair per line: there may be many."""
    document = {
        **facts,
        "protocol_line": scoring.protocol_line,
        "average_recalls": asdict(scoring.recalls),
        "chance": asdict(scoring.chance),
        "left_out": scoring.left_out,
    }
    pairs = ",\n".join(json.dumps(plain_values(pair)) for pair in scoring.pairs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{json.dumps(document, indent=1)[:-2]},\n "errors": [\n{pairs}\n ]\n}}\n', encoding="utf-8")


def _reliability_values(evaluation: Evaluation) -> dict[str, Any] | None:
    found = reliability(evaluation.instances)
    return None if found is None else asdict(found)


def _object_row(class_id: str, results: Sequence[InstanceResult]) -> ObjectRow:
    metrics = {
        f"{source}{metric.column}": metric.summarised([r.metrics[source + metric.name] for r in results])
        for source in ("", "chance_", "oracle_")
        for metric in table_metrics()
    }
    recalls = {m.recall_column: m.within([r.metrics[m.name] for r in results]) for m in table_metrics() if m.limits}
    scores = (float(np.mean([getattr(result, name) for result in results])) for name in _SCORES)
    return ObjectRow(class_id, len(results), metrics, recalls, *scores)


def _cells(row: ObjectRow) -> list[str]:
    def values(source: str) -> list[str]:
        return [m.text(row.metrics[source + m.column]) for m in table_metrics()]

    shares = [share for m in table_metrics() if m.limits for share in row.recalls[m.recall_column]]
    cells = [row.class_id, str(row.instances), percent(row.score), *values(""), *map(percent, shares)]
    return [*cells, percent(row.chance_score), *values("chance_"), percent(row.oracle_score), *values("oracle_")]


def left_out(counts: Mapping[str, int]) -> str:
    """What was left out, by reason, in words."""
    return ", ".join(f"{reason} {count}" for reason, count in counts.items() if count) or "none"


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers at the right but for the first column."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
