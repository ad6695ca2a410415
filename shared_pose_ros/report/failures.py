"""The sections of an evaluation's report about its failures: their residual rotations, and what warns of them.

Every function returns markup, empty where there is nothing to show; groups as in ``sections``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult
from shared_pose_ros.evaluation.pose_metrics import table_metrics
from shared_pose_ros.evaluation.reliability import error_pairs, reliability
from shared_pose_ros.evaluation.result_tables import (
    group_cells,
    group_heads,
    object_rows,
    percent,
    reliability_text,
    rule_cells,
    rule_heads,
)
from shared_pose_ros.html_page import paragraph, table
from shared_pose_ros.plots import FAINT, curves, scatter
from shared_pose_ros.report.calibration import ConfidenceBin, acceptances, calibration_error, confidence_bins
from shared_pose_ros.report.charts import grouped_bars, share_rows
from shared_pose_ros.report.residual_rotations import (
    AXIS_DEG,
    CORRECT,
    CORRECT_DEG,
    NAMED_DEG,
    NEAR,
    NEAR_DEG,
    OTHER,
    Residual,
    RotationCounts,
    describe,
    probability_of_a_name,
    probability_of_an_axis,
    rotation_counts,
)
from shared_pose_ros.report.sections import Group, heads_of, side_by_side, titled

_PROMISED = "mean confidence"
_SPAN_DEG = (0.5, 180.0)  # of the plot of expected errors
_ROTATION_COLOURS = ("#2f7fc4", "#e0700f", "#c9443f", "#8a66c4", "#93705f")
_KIND_COLOURS = {CORRECT: "#2c9a43", NEAR: "#86ac3c", OTHER: FAINT}


def confusion(evaluation: Evaluation, found: Sequence[Residual | None]) -> list[str]:
    """How the estimates of each object are rotated; empty if no residual rotation is known."""
    counts = rotation_counts(evaluation.instances, found)
    order = [row.class_id for row in object_rows(evaluation)]
    counts.sort(key=lambda count: order.index(count.class_id))
    if not counts:
        return []
    said = (
        "The residual rotation D = R_truthᵀ R_estimate of the object in its CAD frame, the smallest that its declared "
        f"symmetries allow. Correct: below {CORRECT_DEG:g}°. A named one: within {NAMED_DEG:g}° of it and nearer to it "
        f"than to the truth. Near miss: below {NEAR_DEG:g}° without a name. Other angle about an axis: within "
        f"{AXIS_DEG:g}° of it. Axes are the CAD's; where z points up, 180° about x, y or a diagonal of the two put the "
        "part upside down. Of rotations that a declared symmetry makes equal, only the first is named. Without "
        f"symmetry {percent(probability_of_a_name())} % of random rotations would have a name, and "
        f"{percent(probability_of_an_axis())} % of random axes would be called x, y or z. Instances that a detector "
        "missed are left out."
    )
    rows = []
    for c in counts:
        correct, words = str(c.counts.get(CORRECT, 0)), _words(c.counts) or "–"
        rows.append([c.class_id, str(c.instances), correct, words, _degrees(c.wrong_degrees)])
    heads = heads_of("object", "instances", "correct", "residual rotations of the others", "their median error °")
    return [paragraph(said), _rotation_rows(counts), table(heads, rows, kind="rotations")]


def calibration(group: Group) -> list[str]:
    """Reliability diagram, expected calibration error and what a threshold on the confidence would keep."""
    found = {label: {_span(b): b for b in confidence_bins(e.instances)} for label, e in group.items()}
    kept = {label: acceptances(evaluation.instances) for label, evaluation in group.items()}
    errors = ", ".join(f"{label} {percent(calibration_error(e.instances))} %" for label, e in group.items())
    said = (
        f"Correct is a rotation error below {CORRECT_DEG:g}°. Expected calibration error (ten bins): {errors}. A bar "
        "lower than the grey one beside it is a bin that promises too much, a higher one a bin that promises too "
        "little. The curve shows what is gained by using the most confident answers only."
    )
    trade = {label: [(100 * a.kept, 100 * a.correct) for a in rows] for label, rows in kept.items()}
    kept_plot = curves("Correct among the most confident answers, %", trade, "answers kept, %", 100.0)
    lines = [paragraph(said), side_by_side(_reliability(found), kept_plot)]
    heads = heads_of("confidence %", "instances", "mean confidence %", "correct %")
    kept_heads = heads_of(
        "kept from confidence %", "answers kept %", "correct among them %", "of all correct answers %"
    )
    for label in group:
        rows = [[name, str(b.instances), percent(b.confidence), percent(b.correct)] for name, b in found[label].items()]
        kept_rows = [[percent(x) for x in (a.threshold, a.kept, a.correct, a.correct_kept)] for a in kept[label]]
        lines += titled(label, group, side_by_side(table(heads, rows), table(kept_heads, kept_rows)))
    return lines


def expected_errors(group: Group) -> list[str]:
    """Whether the refiner's expected errors are honest; empty where there are none."""
    found = {label: reliability(evaluation.instances) for label, evaluation in group.items()}
    known = {label: each for label, each in found.items() if each is not None}
    if not known:
        return []
    points = {label: list(zip(*(x.tolist() for x in error_pairs(group[label].instances)))) for label in known}
    said = (
        "A point is an instance. Below the dashed line an estimate is better than expected, above it worse. Points far "
        "above it are flipped poses that the refiner took for right. A median of true errors near that of the expected "
        "ones makes a group honest; a mean far above its median is due to flips."
    )
    title = "True over expected rotation error, degrees"
    lines = [paragraph(said), scatter(title, points, "expected error, degrees", _SPAN_DEG, "as expected")]
    for label, each in known.items():
        groups = table(heads_of(*group_heads()), [group_cells(row) for row in each.groups])
        rules = table(heads_of(*rule_heads()), [rule_cells(row) for row in each.rules])
        lines += titled(label, group, paragraph(reliability_text(each)) + side_by_side(groups, rules))
    return lines


def instance_table(evaluation: Evaluation, found: Sequence[Residual | None]) -> str:
    """Every instance, the worst first."""
    errors = f"{evaluation.score_name} %", "rotation error °", "residual rotation", "best hypothesis °"
    others = [metric for metric in table_metrics() if metric.name != "rotation_deg"]
    heads = heads_of(
        *("object", "scene", "image", "instance", *errors, "visible %", "off axis °", "box IoU %", "confidence %"),
        *(metric.head for metric in others),
    )
    pairs = sorted(zip(evaluation.instances, found), key=lambda pair: (pair[0].score, -pair[0].rotation_deg))
    rows = [
        [*_instance_cells(result, residual), *(metric.text(result.metrics[metric.name]) for metric in others)]
        for result, residual in pairs
    ]
    return table(heads, rows, kind="instances")


def _reliability(found: Mapping[str, Mapping[str, ConfidenceBin]]) -> str:
    """Correct answers by bin of the confidence, beside the mean confidence of the first evaluation's bin."""
    low = {name: b.low for bins in found.values() for name, b in bins.items()}
    first = next(iter(found.values()))
    groups = {name: f"n = {first[name].instances if name in first else 0}" for name in sorted(low, key=low.__getitem__)}
    heights: dict[str, list[float | None]] = {
        label: [100 * bins[name].correct if name in bins else None for name in groups] for label, bins in found.items()
    }
    heights[_PROMISED] = [100 * first[name].confidence if name in first else None for name in groups]
    title = "Correct answers, %, by confidence"
    return grouped_bars(title, groups, heights, "confidence of the answer, %", 100.0, (_PROMISED,))


def _instance_cells(r: InstanceResult, residual: Residual | None) -> list[str]:
    place = [r.class_id, str(r.scene_id), str(r.im_id), str(r.gt_id), f"{100 * r.score:.0f}", f"{r.rotation_deg:.1f}"]
    said = "missed" if not r.detected else (describe(residual) or "·") if residual else "–"
    rest = [100 * r.visib, r.off_axis_deg, 100 * r.box_iou, 100 * r.confidence]
    return [*place, said, f"{r.oracle_rotation_deg:.1f}", *(f"{value:.0f}" for value in rest)]


def _rotation_rows(counts: Sequence[RotationCounts]) -> str:
    """A row per object; the most frequent named rotations have a colour, the rest count as other ones."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update({kind: number for kind, number in count.counts.items() if kind not in _KIND_COLOURS})
    named = [kind for kind, _ in total.most_common(len(_ROTATION_COLOURS))]
    colours = {CORRECT: _KIND_COLOURS[CORRECT], NEAR: _KIND_COLOURS[NEAR], **dict(zip(named, _ROTATION_COLOURS))}
    colours[OTHER] = _KIND_COLOURS[OTHER]
    rows: dict[str, dict[str, int]] = {}
    for count in counts:
        row = rows[count.class_id] = dict.fromkeys(colours, 0)
        for kind, number in count.counts.items():
            row[kind if kind in colours else OTHER] += number
    return share_rows("Residual rotations of the estimates, instances", rows, colours)


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in counts.items() if kind != CORRECT)


def _degrees(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f}"


def _span(found: ConfidenceBin) -> str:
    return f"{100 * found.low:.0f}–{100 * found.high:.0f}"
