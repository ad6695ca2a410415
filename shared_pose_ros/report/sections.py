"""The sections of an evaluation's report about scores: plots and the same figures as tables, for a group of them.

A group holds evaluations that may be compared: one protocol, one set of conditions; they differ in the system and in
the viewing-ray correction. Every function returns markup, empty where there is nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult, middle_tolerance
from shared_pose_ros.evaluation.protocols import PROTOCOLS
from shared_pose_ros.evaluation.result_tables import RECALL_DEGREES, ObjectRow, object_rows, summary_row
from shared_pose_ros.html_page import heading, paragraph, table
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.plots import curves
from shared_pose_ros.report.charts import grouped_bars
from shared_pose_ros.report.error_statistics import (
    BOX,
    DEGREES,
    OFF_AXIS,
    THETAS,
    VISIBILITY,
    Factor,
    boxes_differ,
    chance_rotation_recall,
    chance_vsd_recall,
    factor_rows,
    rotation_recall,
    vsd_recall,
)
from shared_pose_ros.report.residual_rotations import CORRECT_DEG

Group = Mapping[str, Evaluation]
CHANCE, ORACLE = "chance", "best hypothesis"
_RECALLS = tuple(f"< {limit}° %" for limit in RECALL_DEGREES)
_TABLE_THETAS = tuple(number / 10 for number in range(1, 11))
_TABLE_DEGREES = (5.0, 10.0, 15.0, 20.0, 30.0, 45.0)


def headline(evaluation: Evaluation) -> str:
    """The evaluation in two sentences."""
    mean, rows = summary_row(evaluation), object_rows(evaluation)
    wrong = sum(result.rotation_deg >= CORRECT_DEG for result in evaluation.instances)
    misses = sum(not result.detected for result in evaluation.instances)
    missed = f", of them {misses} missed by the detector" if misses else ""
    weakest = min(rows, key=lambda row: row.score)
    return (
        f"{evaluation.system}: {evaluation.score_name} {percent(mean.score)} %, where chance reaches "
        f"{percent(mean.chance_score)} %; median rotation error {mean.rotation_error_deg_median:.1f}° over "
        f"{mean.instances} instances of {len(rows)} objects. {wrong} of {mean.instances} are off by {CORRECT_DEG:g}° "
        f"or more{missed}; the weakest object is {weakest.class_id} with {percent(weakest.score)} %."
    )


def summary(group: Group, objects: ObjectSet | None) -> list[str]:
    """A row a system and setting, and chance."""
    first = next(iter(group.values()))
    name = first.score_name
    heads = heads_of("", "instances", f"{name} %", f"best hypothesis, {name} %", "rotation error, median °",
                   "best hypothesis, median °", *_RECALLS)  # fmt: skip
    rows = [[label, *_summary_cells(summary_row(evaluation))] for label, evaluation in group.items()]
    by_chance = summary_row(first)
    recall = chance_rotation_recall(first.instances, objects, RECALL_DEGREES) if objects else []
    shares = [percent(share) for share in recall] or ["–"] * len(RECALL_DEGREES)
    degrees = f"{by_chance.chance_rotation_error_deg_median:.1f}"
    chance = [CHANCE, str(by_chance.instances), percent(by_chance.chance_score), "–", degrees, "–", *shares]
    lines = [table(heads, rows, chance)]
    seen = [{(r.scene_id, r.im_id, r.gt_id) for r in evaluation.instances} for evaluation in group.values()]
    if any(places != seen[0] for places in seen):
        lines.append(paragraph(f"Not all evaluations cover the same instances; chance is that of {next(iter(group))}."))
    lines += [
        paragraph(f"{label}: {evaluation.protocol_line}. Left out: {_left_out(evaluation)}.", "protocol")
        for label, evaluation in group.items()
    ]
    return lines


def by_object(group: Group) -> list[str]:
    """Score and error of every object, chance beside them."""
    rows = {label: object_rows(evaluation) for label, evaluation in group.items()}
    everything = _pooled(group)
    names = [row.class_id for row in object_rows(everything)]
    return [
        *_bars_of_rows(rows, names, everything.score_name, "object"),
        *(line for label, e in group.items() for line in titled(label, group, _row_table("object", rows[label], e))),
    ]


def by_factor(group: Group, factor: Factor) -> list[str]:
    """Score and error by bins of a factor, all objects together."""
    rows = {label: factor_rows(evaluation, factor) for label, evaluation in group.items()}
    everything = _pooled(group)
    names = [row.class_id for row in factor_rows(everything, factor)]
    return [
        *_bars_of_rows(rows, names, everything.score_name, factor.name),
        *(line for label in group for line in titled(label, group, _row_table(factor.name, rows[label]))),
    ]


def factors(group: Group) -> list[Factor]:
    """The factors that this group tells something about: box noise only where boxes differ from the true ones."""
    noisy = any(boxes_differ(evaluation.instances) for evaluation in group.values())
    return [VISIBILITY, OFF_AXIS, *([BOX] if noisy else [])]


def recall_curves(group: Group, objects: ObjectSet | None) -> list[str]:
    """Recall over the threshold of VSD and of the rotation error, with chance."""
    first = next(iter(group.values()))
    vsd = _with_chance(group, lambda results: vsd_recall(results, THETAS), chance_vsd_recall(first.instances))
    by_chance = chance_rotation_recall(first.instances, objects) if objects else []
    rotation = _with_chance(group, lambda results: rotation_recall([r.rotation_deg for r in results]), by_chance)
    best = "" if len(group) == 1 else f", {next(iter(group))}"
    rotation[ORACLE + best] = rotation_recall([r.oracle_rotation_deg for r in first.instances])
    said = (
        f"Left: share with a visible surface discrepancy below θ, {_tolerance(first)}, unweighted mean over objects. "
        "Right: share of all instances with a symmetric rotation error below an angle. Chance: random rotations, drawn "
        "for each instance (left) and uniform on all rotations with the objects' symmetries (right)."
    )
    left = curves("Recall by VSD, %", _points(THETAS, vsd), "θ", 100.0, faint=(CHANCE,))
    right = curves("Recall by rotation error, %", _points(DEGREES, rotation), "degrees", 100.0, faint=(CHANCE,))
    return [
        paragraph(said),
        side_by_side(left, right),
        _curve_table("VSD < θ, %", THETAS, vsd, _TABLE_THETAS),
        _curve_table("rotation error below, %", DEGREES, rotation, _TABLE_DEGREES, "°"),
    ]


def percent(share: float) -> str:
    """A share in 0…1 as per cent with a decimal, – for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _summary_cells(row: ObjectRow) -> list[str]:
    degrees = f"{row.rotation_error_deg_median:.1f}", f"{row.oracle_rotation_error_deg_median:.1f}"
    recalls = [percent(share) for share in row.recall_deg]
    return [str(row.instances), percent(row.score), percent(row.oracle_score), *degrees, *recalls]


def _row_table(first: str, rows: Sequence[ObjectRow], evaluation: Evaluation | None = None) -> str:
    scores = "score %", "chance score %", "best hypothesis %"
    heads = heads_of(first, "instances", *scores, "rotation error °", "chance °", "best hypothesis °", *_RECALLS)
    last = _row_cells(summary_row(evaluation)) if evaluation else None
    return table(heads, [_row_cells(row) for row in rows], last)


def _row_cells(row: ObjectRow) -> list[str]:
    scores = [percent(value) for value in (row.score, row.chance_score, row.oracle_score)]
    degrees = (
        row.rotation_error_deg_median,
        row.chance_rotation_error_deg_median,
        row.oracle_rotation_error_deg_median,
    )
    recalls = [percent(share) for share in row.recall_deg]
    return [row.class_id, str(row.instances), *scores, *(f"{value:.1f}" for value in degrees), *recalls]


def _bars_of_rows(
    rows: Mapping[str, Sequence[ObjectRow]], names: Sequence[str], score_name: str, x_label: str
) -> list[str]:
    """Two plots over the names of rows, in the order given: scores with chance, median rotation errors."""
    named = {label: {row.class_id: row for row in of_label} for label, of_label in rows.items()}
    most = {name: max(found[name].instances for found in named.values() if name in found) for name in names}
    groups = {name: f"n = {count}" for name, count in most.items()}
    # Chance is the same for all that saw the same instances; the first that saw any stands for them.
    chance = [next(found[name] for found in named.values() if name in found) for name in names]

    def heights(value: Callable[[ObjectRow], float]) -> dict[str, list[float | None]]:
        return {
            label: [value(found[name]) if name in found else None for name in groups] for label, found in named.items()
        }

    scores = heights(lambda row: 100 * row.score)
    scores[CHANCE] = [100 * row.chance_score for row in chance]
    errors = heights(lambda row: row.rotation_error_deg_median)
    errors[CHANCE] = [row.chance_rotation_error_deg_median for row in chance]
    left = grouped_bars(f"{score_name}, mean, %", groups, scores, x_label, 100.0, (CHANCE,))
    right = grouped_bars("Rotation error, median, degrees", groups, errors, x_label, 180.0, (CHANCE,))
    return [side_by_side(left, right)]


def _pooled(group: Group) -> Evaluation:
    """All results of a group as one evaluation: what any of its members saw."""
    first = next(iter(group.values()))
    return replace(first, instances=tuple(r for evaluation in group.values() for r in evaluation.instances))


def _with_chance(
    group: Group, recall: Callable[[Sequence[InstanceResult]], list[float]], by_chance: list[float]
) -> dict[str, list[float]]:
    found = {label: recall(evaluation.instances) for label, evaluation in group.items()}
    return {**found, CHANCE: by_chance} if by_chance else found


def _points(xs: Sequence[float], series: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(x, 100 * y) for x, y in zip(xs, ys)] for name, ys in series.items()}


def _curve_table(
    first: str,
    xs: Sequence[float],
    series: Mapping[str, Sequence[float]],
    shown: Sequence[float],
    unit: str = "",
) -> str:
    places = [min(range(len(xs)), key=lambda place: abs(xs[place] - x)) for x in shown]
    rows = [[name, *(percent(ys[place]) for place in places)] for name, ys in series.items()]
    return table([first, *(f"{x:g}{unit}" for x in shown)], rows)


def _tolerance(evaluation: Evaluation) -> str:
    """The tolerance of the VSD curve in words."""
    protocol = PROTOCOLS.get(evaluation.protocol)
    number = middle_tolerance(len(evaluation.instances[0].e_vsd))
    if protocol is None or number >= len(protocol.taus):
        return f"tolerance {number + 1} of the protocol's"
    tau = protocol.taus[number]
    return f"τ = {1000 * tau:g} mm" if protocol.tau_in_metres else f"τ = {100 * tau:g} % of the diameter"


def _left_out(evaluation: Evaluation) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in evaluation.skipped.items() if count) or "none"


def titled(label: str, group: Group, markup: str) -> list[str]:
    """The markup, under the label where the group has several."""
    return [markup] if len(group) == 1 else [heading(label, level=4), markup]


def heads_of(*names: str) -> list[str]:
    """Heads of columns in which a unit stays with its word."""
    return [name.replace(" °", "\u00a0°").replace(" %", "\u00a0%").replace("< ", "<\u00a0") for name in names]


def side_by_side(*parts: str) -> str:
    """Markup of plots or tables that stand beside each other where the page is wide enough."""
    return '<div class="side">' + "".join(parts) + "</div>"
