"""Tables of accuracy: the T-LESS bundle, the systems of a campaign side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from page_text import rotations, table

from shared_pose_ros.evaluation.result_tables import percent
from shared_pose_ros.report.system_tables import PUBLISHED, angles, spread

BASELINE = "random rotations"
"""What the pages call the random-rotation baseline, `chance` in the results."""
THIRTY = "tless30.json"
SYSTEMS = "tables_tless30-systems.json"
"""The paper's systems on equal terms: two tables, the plot of accuracy, a row of the headlines."""


def campaign_table(result: Mapping[str, Any], number: int) -> str:
    """A table of `shared_pose tables` with its notes: 0 accuracy; 1 cost, without notes of the first."""
    made = result["tables"][number]
    notes = [note for note in made["notes"] if number == 0 or note.startswith(("Time", "File"))]
    heads = [BASELINE if head == "chance" else head for head in made["heads"]]
    return "\n\n".join([table(heads, made["rows"], aligned=True), *notes])


def systems_table(result: Mapping[str, Any], objects: bool = False) -> str:
    """A row per system, mean ± standard deviation over its seeds, and the baseline; with ``objects`` a column each too.

    The training samples have a column where systems differ in them.
    """
    systems = result["systems"]
    first = systems[0]["evaluations"][0]
    shown = first["objects"] if objects else []
    counted = len({system["samples"] for system in systems}) > 1
    rows = []
    for system in systems:
        seeds, samples = system["evaluations"], [f"{system['samples']:,}"] * counted
        own = [spread([seed["objects"][place]["score"] for seed in seeds]) for place in range(len(shown))]
        rows.append([system["name"], *samples, *own, *_figures([seed["summary"] for seed in seeds])])
    chance = [percent(row["chance_score"]) for row in shown]
    angle = f"{first['summary']['chance_rotation_error_deg_median']:.1f}"
    rows.append([BASELINE, *[""] * counted, *chance, percent(first["summary"]["chance_score"]), angle, "", ""])
    head = ["", *["training samples"] * counted, *(f"{row['class_id']} ({row['instances']})" for row in shown)]
    head += ["mean AR_VSD %", "rotation error, median °", "under 15° %", "best hypothesis, AR_VSD %"]
    made = table(head, rows, aligned=True)
    line = first["protocol_line"]
    return f"{made}\n\n{line[0].upper()}{line[1:]}. Machine: {result['machine']}."


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean score, rotation error, share under 15°, best hypothesis: of one row per seed."""
    return [
        spread([row["score"] for row in rows]),
        angles([row["rotation_error_deg_median"] for row in rows]),
        spread([row["recall_deg"][-1] for row in rows]),
        spread([row["oracle_score"] for row in rows]),
    ]


def corrected(one_set: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a set of tless30.json, the evaluation that is corrected along the viewing ray."""
    return next(row for row in one_set["evaluations"] if row["corrected"])


def bundle_objects(result: Mapping[str, Any]) -> str:
    """Object by object on the first set, in two columns of objects."""
    rows = corrected(result["sets"][0])["objects"]
    cells = [
        [
            f"{row['class_id']} ({row['instances']})", percent(row["score"]), f"{row['rotation_error_deg_median']:.1f}",
            percent(row["oracle_score"]), percent(row["chance_score"]),
        ]
        for row in rows
    ]  # fmt: skip
    half = (len(cells) + 1) // 2
    cells += [[""] * 5] * (2 * half - len(cells))
    head = ["object (instances)", "AR_VSD %", "rotation error °", "best hypothesis %", f"{BASELINE} %"] * 2
    return table(head, [left + right for left, right in zip(cells[:half], cells[half:])], aligned=True)


def bundle_sets(result: Mapping[str, Any]) -> str:
    """The bundle on each set, with and without correction; conditions and commands."""
    rows, notes = [], []
    for one in result["sets"]:
        for found in one["evaluations"]:
            own = found["summary"]
            name = f"{one['data']}, {own['instances']} instances" + ("" if found["corrected"] else ", not corrected")
            chance = [percent(own["chance_score"]), f"{own['chance_rotation_error_deg_median']:.1f}"]
            rows.append([name, *_figures([own]), *chance])
        notes += [f"`{one['command']}`: {corrected(one)['protocol_line']}."]
    published = percent(PUBLISHED["shared +FT"].score)
    rows.append([f"*published, other images, {PUBLISHED['shared +FT'].samples:,} samples*", published, *[""] * 5])
    head = ["", "mean AR_VSD %", "rotation error, median °", "under 15° %", "best hypothesis, AR_VSD %"]
    head += [f"{BASELINE} %", f"{BASELINE} °"]
    about = (
        f"Bundle `{result['bundle']}`, weights SHA-256 `{result['weights_sha256'][:9]}…`, {rotations(result['turns'])} "
        f"per crop, {result['precision']}; {result['hardware']}; torch {result['torch']}; {result['date']}."
    )
    return "\n\n".join([table(head, rows, aligned=True), about, *notes])


def accuracy_tables(read: Callable[[str], Any]) -> dict[str, Callable[[], str]]:
    """The tables by their names; ``read`` gives a result by its file's name."""
    return {
        "tless-sets": lambda: bundle_sets(read(THIRTY)),
        "tless-objects": lambda: bundle_objects(read(THIRTY)),
        "tless-systems-accuracy": lambda: campaign_table(read(SYSTEMS), 0),
        "tless-systems-cost": lambda: campaign_table(read(SYSTEMS), 1),
        "tless-ablation": lambda: systems_table(read("tables_tless-ablation.json")),
        "three-parts": lambda: systems_table(read("tables_three-parts.json"), objects=True),
    }
