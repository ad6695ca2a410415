"""The sections of an evaluation's report about scores: plots and the same figures as tables, for a group of them.

A group holds evaluations that may be compared: one protocol, one set of conditions; they differ in the system and in
the allocentric-to-egocentric correction. Every function returns markup, empty where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult, middle_tolerance
from shared_pose_ros.evaluation.pose_metrics import PoseMetric, table_metrics
from shared_pose_ros.evaluation.protocols import PROTOCOLS
from shared_pose_ros.evaluation.result_tables import BASELINE, ObjectRow, left_out, object_rows, percent, summary_row
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
    factor_rows,
    random_rotation_recall,
    random_vsd_recall,
    rotation_recall,
    vsd_recall,
)
from shared_pose_ros.report.residual_rotations import CORRECT_DEG

Group = Mapping[str, Evaluation]
ORACLE = "best hypothesis"
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
        f"{evaluation.system}: {evaluation.score_name} {percent(mean.score)} %, where random rotations reach "
        f"{percent(mean.chance_score)} %; median rotation error {mean.rotation_error_deg_median:.1f}° over "
        f"{mean.instances} instances of {len(rows)} objects. {wrong} of {mean.instances} are off by {CORRECT_DEG:g}° "
        f"or more{missed}; the weakest object is {weakest.class_id} with {percent(weakest.score)} %."
    )


def summary(group: Group, objects: ObjectSet | None) -> list[str]:
    """A row per system and setting, and the baseline."""
    first = next(iter(group.values()))
    name, metrics = first.score_name, table_metrics()
    heads = ["", "instances", f"{name} %", f"{ORACLE}, {name} %"]
    for m in metrics:
        heads += [f"{m.title}, {m.summary} {m.shown_unit}", f"{ORACLE}, {m.summary} {m.shown_unit}"]
    heads += [head for m in metrics for head in m.limit_heads]
    rows = []
    for label, evaluation in group.items():
        row = summary_row(evaluation)
        cells = [label, str(row.instances), percent(row.score), percent(row.oracle_score)]
        cells += [m.text(row.metrics[source + m.column]) for m in metrics for source in ("", "oracle_")]
        rows.append([*cells, *_shares(row)])
    random = summary_row(first)
    last = [BASELINE, str(random.instances), percent(random.chance_score), "–"]
    for m in metrics:
        last += [m.text(random.metrics[f"chance_{m.column}"]), "–"]
    for m in metrics:
        drawn = objects if m.name == "rotation_deg" else None
        recall = random_rotation_recall(first.instances, drawn, m.limits) if drawn else []
        last += [percent(share) for share in recall] or ["–"] * len(m.limits)
    lines = [table(heads_of(*heads), rows, last)]
    seen = [{(r.scene_id, r.im_id, r.gt_id) for r in evaluation.instances} for evaluation in group.values()]
    if any(places != seen[0] for places in seen):
        said = f"Not all evaluations cover the same instances; the baseline is that of {next(iter(group))}."
        lines.append(paragraph(said))
    lines += [
        paragraph(f"{label}: {evaluation.protocol_line}. Left out: {left_out(evaluation.skipped)}.", "protocol")
        for label, evaluation in group.items()
    ]
    return lines


def by_object(group: Group) -> list[str]:
    """Score and metrics of every object, the baseline beside them."""
    rows = {label: object_rows(evaluation) for label, evaluation in group.items()}
    everything = _pooled(group)
    names = [row.class_id for row in object_rows(everything)]
    return [
        *_bars_of_rows(rows, names, everything.score_name, "object"),
        *(line for label, e in group.items() for line in titled(label, group, _row_table("object", rows[label], e))),
    ]


def by_factor(group: Group, factor: Factor) -> list[str]:
    """Score and metrics by bins of a factor, all objects together."""
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
    """Recall over the threshold of VSD and of the rotation error, with the baseline."""
    first = next(iter(group.values()))
    vsd = _with_baseline(group, lambda results: vsd_recall(results, THETAS), random_vsd_recall(first.instances))
    random = random_rotation_recall(first.instances, objects) if objects else []
    rotation = _with_baseline(group, lambda results: rotation_recall([r.rotation_deg for r in results]), random)
    best = "" if len(group) == 1 else f", {next(iter(group))}"
    rotation[ORACLE + best] = rotation_recall([r.oracle_rotation_deg for r in first.instances])
    said = (
        f"Left: share with a visible surface discrepancy below θ, {_tolerance(first)}, unweighted mean over objects. "
        "Right: share of all instances with a symmetric rotation error below an angle. Baseline: random rotations, "
        "drawn for each instance (left) and uniform on all rotations with the objects' symmetries (right)."
    )
    left = curves("Recall by VSD, %", _points(THETAS, vsd), "θ", 100.0, faint=(BASELINE,))
    right = curves("Recall by rotation error, %", _points(DEGREES, rotation), "degrees", 100.0, faint=(BASELINE,))
    return [
        paragraph(said),
        side_by_side(left, right),
        _curve_table("VSD < θ, %", THETAS, vsd, _TABLE_THETAS),
        _curve_table("rotation error below, %", DEGREES, rotation, _TABLE_DEGREES, "°"),
    ]


def _row_table(first: str, rows: Sequence[ObjectRow], evaluation: Evaluation | None = None) -> str:
    metrics = table_metrics()
    heads = [first, "instances", "score %", "baseline score %", f"{ORACLE} %"]
    for m in metrics:
        heads += [m.head, f"baseline {m.shown_unit}", f"{ORACLE} {m.shown_unit}"]
    heads += [head for m in metrics for head in m.limit_heads]
    last = _row_cells(summary_row(evaluation)) if evaluation else None
    return table(heads_of(*heads), [_row_cells(row) for row in rows], last)


def _row_cells(row: ObjectRow) -> list[str]:
    cells = [row.class_id, str(row.instances), *map(percent, (row.score, row.chance_score, row.oracle_score))]
    cells += [m.text(row.metrics[s + m.column]) for m in table_metrics() for s in ("", "chance_", "oracle_")]
    return [*cells, *_shares(row)]


def _shares(row: ObjectRow) -> list[str]:
    return [percent(share) for m in table_metrics() if m.limits for share in row.recalls[m.recall_column]]


def _bars_of_rows(
    rows: Mapping[str, Sequence[ObjectRow]], names: Sequence[str], score_name: str, x_label: str
) -> list[str]:
    """Plots over the names of rows, in the order given: scores and metrics, with the baseline's."""
    named = {label: {row.class_id: row for row in of_label} for label, of_label in rows.items()}
    most = {name: max(found[name].instances for found in named.values() if name in found) for name in names}
    groups = {name: f"n = {count}" for name, count in most.items()}
    # The baseline is the same for all that saw the same instances; the first that saw any stands for them.
    random = [next(found[name] for found in named.values() if name in found) for name in names]

    def plot(title: str, top: float | None, value: Callable[[ObjectRow, str], float]) -> str:
        heights: dict[str, list[float | None]] = {
            label: [value(found[name], "") if name in found else None for name in groups]
            for label, found in named.items()
        }
        heights[BASELINE] = [value(row, "chance_") for row in random]
        highest = max(height for own in heights.values() for height in own if height is not None)
        return grouped_bars(title, groups, heights, x_label, top or highest, (BASELINE,))

    def shown(metric: PoseMetric) -> Callable[[ObjectRow, str], float]:
        return lambda row, source: metric.shown(row.metrics[source + metric.column])

    plots = [plot(f"{score_name}, mean, %", 100.0, lambda row, source: 100 * getattr(row, f"{source}score"))]
    for m in table_metrics():
        unit, top = ("degrees", 180.0) if m.unit == "°" else (m.shown_unit, None)
        plots.append(plot(f"{m.title[0].upper()}{m.title[1:]}, {m.summary}, {unit}", top, shown(m)))
    return [side_by_side(*plots)]


def _pooled(group: Group) -> Evaluation:
    """All results of a group as one evaluation: what any of its members saw."""
    first = next(iter(group.values()))
    return replace(first, instances=tuple(r for evaluation in group.values() for r in evaluation.instances))


def _with_baseline(
    group: Group, recall: Callable[[Sequence[InstanceResult]], list[float]], random: list[float]
) -> dict[str, list[float]]:
    found = {label: recall(evaluation.instances) for label, evaluation in group.items()}
    return {**found, BASELINE: random} if random else found


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


def titled(label: str, group: Group, markup: str) -> list[str]:
    """The markup, under the label where the group has several."""
    return [markup] if len(group) == 1 else [heading(label, level=4), markup]


def heads_of(*names: str) -> list[str]:
    """Heads of columns in which a unit stays with its word."""
    return [name.replace(" °", "\u00a0°").replace(" %", "\u00a0%").replace("< ", "<\u00a0") for name in names]


def side_by_side(*parts: str) -> str:
    """Markup of plots or tables that stand beside each other where the page is wide enough."""
    return '<div class="side">' + "".join(parts) + "</div>"
