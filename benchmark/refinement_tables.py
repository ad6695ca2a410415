"""What refinement brings on T-LESS, and whether its expected errors are honest: evaluates, and writes the page.

Example:
    python benchmark/refinement_tables.py --tless DIR --work out/refinement

DIR is as for ``make benchmark-tless``. An evaluation that lies in ``--work`` already is not made again, so other
weights need another folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refinement import rendering_milliseconds

from shared_pose_ros.bundle import unpack_refiner
from shared_pose_ros.bundle_export import read_refiner
from shared_pose_ros.evaluation.reliability import USEFUL_DEG, ErrorGroup, Rule
from shared_pose_ros.evaluation.result_tables import (
    group_cells,
    group_heads,
    percent,
    rule_cells,
    rule_heads,
    table_lines,
)
from shared_pose_ros.plots import curves
from shared_pose_ros.training.provenance import processor_name

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOT = ROOT / "docs" / "benchmarks" / "refinement.md", ROOT / "docs" / "images" / "refinement.svg"
SETTINGS: Mapping[str, tuple[str, Sequence[str]]] = {
    "off": ("not refined", ("--refine", "0")),
    "one": ("one hypothesis, one step", ("--refine", "1", "--refine-hypotheses", "1")),
    "three": ("three hypotheses, one step", ("--refine", "1", "--refine-hypotheses", "3")),
    "default": ("three hypotheses, two steps: the default", ()),
    "six": ("all six, one step", ("--refine", "1", "--refine-hypotheses", "0")),
    "two": ("all six, two steps", ("--refine", "2", "--refine-hypotheses", "0")),
    "depth": ("depth of a camera (σ 1.5 mm at 0.7 m, holes, steps of 1 mm)", ("--depth", "on", "--depth-noise", "1.5")),
    "exact": ("exact depth", ("--depth", "on")),
}
_DRAWN = {"one": (1, 1), "three": (3, 1), "six": (6, 1), "default": (3, 2), "two": (6, 2)}
"""(hypotheses, steps) of the settings that render."""
_SHOWN = ("off", "two", "depth")
"""Settings whose objects are shown one by one."""
_THUMB_DEG = 5.0
"""Limit on the expected error in the rule of thumb."""
BEGINNING = """# What refinement brings

[Refinement](../explanation/refinement.md) by rendering and the alignment to depth, on the path-traced frames of T-LESS
([the data](tless.md#data)); bundle `models/tless30.pose.pt` with `models/refiner.npz`.

```
python benchmark/refinement_tables.py --tless DIR --work out/refinement
```

"""
HEADS = (
    "setting", "mean AR_VSD %", "median error °", "under 5° %", "under 10° %", "under 15° %",
    "best hypothesis, AR_VSD %", "ms for 8 objects",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate what is missing, write the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark/refinement_tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("--tless", type=Path, required=True, help="folder with models_cad and pbr_dev")
    parser.add_argument("--work", type=Path, required=True, help="folder of the evaluations")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    found = {name: _evaluated(name, options.tless, options.work) for name in SETTINGS}
    cost = _cost(options.work / "cost.json")
    PAGE.write_text(page(found, cost, _replayed_demo(options.work)), encoding="utf-8")
    PLOT.write_text(plot(found, cost["ms"]) + "\n", encoding="utf-8")
    print(f"wrote {PAGE} and {PLOT}")
    return 0


def _evaluated(name: str, tless: Path, work: Path) -> dict[str, Any]:
    """The evaluation of a setting, with the correction for the viewing ray."""
    path = work / f"{name}.json"
    command = [
        "evaluate", "--bundle", str(ROOT / "models/tless30.pose.pt"),
        "--bop", str(tless / "pbr_dev"), "--models", str(tless / "models_cad"), "--split", "test",
        "--corrected", "on", "--json", str(path), *SETTINGS[name][1],
    ]  # fmt: skip
    return _result(path, command)


def _replayed_demo(work: Path) -> dict[str, Any]:
    """The evaluation of the demo's stream, with the default setting."""
    models = ROOT / "models"
    command = [
        "replay", str(models / "demo_bag"), "--bundle", str(models / "demo_parts.pose.pt"),
        "--models", str(models / "parts"), "--report", str(work / "demo"),
    ]  # fmt: skip
    return _result(work / "demo" / "scores.json", command)


def _result(path: Path, command: Sequence[str]) -> dict[str, Any]:
    """The first evaluation in the file, which a command of ``shared_pose`` writes where it is missing or outdated."""
    # Evaluations by older versions do not tell how reliable expected errors are.
    if not path.exists() or "reliability" not in json.loads(path.read_text())["evaluations"][0]:
        subprocess.run([str(Path(sys.executable).parent / "shared_pose"), *command], check=True)
    evaluation: dict[str, Any] = json.loads(path.read_text())["evaluations"][0]
    return evaluation


def _cost(path: Path) -> dict[str, Any]:
    """Milliseconds that refinement takes for eight objects, by setting, and where they were measured."""
    if not path.exists():
        spent = rendering_milliseconds(list(_DRAWN.values()))
        machine = f"{processor_name()}, {torch.get_num_threads()} threads"
        path.write_text(json.dumps({"ms": {name: spent[drawn] for name, drawn in _DRAWN.items()}, "machine": machine}))
    cost: dict[str, Any] = json.loads(path.read_text())
    return cost


def plot(found: Mapping[str, Mapping[str, Any]], ms: Mapping[str, float]) -> str:
    """Error against milliseconds for eight objects, as an SVG file's text; without refinement at 0 ms."""
    medians = {name: found[name]["summary"]["rotation_error_deg_median"] for name in ("off", *_DRAWN)}
    off = (0.0, medians["off"])
    points = {name: (ms[name], medians[name]) for name in _DRAWN}
    series = {
        "one step: none, 1, 3, 6 hypotheses": [off, *(points[name] for name, drawn in _DRAWN.items() if drawn[1] == 1)],
        "two steps: 3, 6 hypotheses": [points[name] for name, drawn in _DRAWN.items() if drawn[1] == 2],
    }
    drawn = curves("Median rotation error on T-LESS, °", series, "ms for eight objects, beside those of the network")
    # In a file of its own it needs what a page gives.
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff;color:#222" ', 1)


def page(found: Mapping[str, Mapping[str, Any]], cost: Mapping[str, Any], demo: Mapping[str, Any]) -> str:
    """The page's Markdown, from the evaluations of the settings, their cost, and that of the demo's stream."""
    lines = [BEGINNING.rstrip("\n"), ""]
    lines += table_lines(HEADS, [_setting_row(name, evaluation, cost["ms"]) for name, evaluation in found.items()])
    lines += [
        "",
        "Milliseconds are those of crops, renders and comparisons, the least of many runs with two threads, on:",
        f"{cost['machine']}. The alignment to depth comes on top, where there is a depth image.",
        "",
        "![Error against milliseconds](../images/refinement.svg)",
    ]
    lines += ["", "Median rotation error (°) and AR_VSD (%) of each object:", ""]
    heads = [head for name in _SHOWN for head in (f"{SETTINGS[name][0]}: AR_VSD", "°")]
    objects = zip(*(found[name]["objects"] for name in _SHOWN))
    lines += table_lines(["object (instances)", *heads], [_object_row(rows) for rows in objects])
    lines += ["", *_reliability(found), "", *_demo_parts(demo)]
    protocol = found["off"]["protocol_line"]
    return "\n".join([*lines, "", f"Evaluation conditions of the first row: {protocol}.", ""])


def _setting_row(name: str, evaluation: Mapping[str, Any], ms: Mapping[str, float]) -> list[str]:
    summary = evaluation["summary"]
    shares = [f"{100 * share:.1f}" for share in summary["recall_deg"]]
    spent = ms["default"] if name in ("depth", "exact") else ms.get(name, 0.0)
    scores = [f"{100 * summary[key]:.1f}" for key in ("score", "oracle_score")]
    return [
        SETTINGS[name][0],
        scores[0],
        f"{summary['rotation_error_deg_median']:.1f}",
        *shares,
        scores[1],
        f"{spent:g}",
    ]


def _object_row(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    figures = [(f"{100 * row['score']:.1f}", f"{row['rotation_error_deg_median']:.1f}") for row in rows]
    return [f"{rows[0]['class_id']} ({rows[0]['instances']})", *(cell for pair in figures for cell in pair)]


def _reliability(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The section on expected errors: a rule of thumb, the default's tables, and a row per setting that has some."""
    default = found["default"]["reliability"]
    groups = [group_cells(ErrorGroup(**group)) for group in default["groups"]]
    thumb = _rule(default)
    useful = "none" if thumb.useful is None else f"{100 * thumb.useful:.0f} %"
    # Of what was aligned to depth, few keep the refiner's answer.
    rendered = [name for name in found if name not in ("depth", "exact") and found[name]["reliability"]]
    heads = ["setting", "rank correlation", "mean expected °", "mean true °"]
    heads += [f"below {_THUMB_DEG:g}°: of all answers %", f"below {_THUMB_DEG:g}°: within {USEFUL_DEG:g}° %"]
    return [
        "## Is the expected error honest?",
        "",
        *_trained_with(),
        "",
        "**Rule of thumb**, with the default setting: of the answers with an",
        f"[expected error](../explanation/refinement.md#the-expected-error) below {thumb.below:g}°, {useful} are",
        f"within {USEFUL_DEG:g}° of the truth. They are {100 * thumb.answers:.0f} % of all answers. Other limits:",
        "",
        *table_lines(rule_heads(), [rule_cells(Rule(**rule)) for rule in default["rules"]]),
        "",
        "The same answers in groups of rising expectation. A mean far above its median tells of flipped poses.",
        "",
        *table_lines(group_heads(), groups),
        "",
        "All settings that refine by rendering:",
        "",
        *table_lines(heads, [_reliability_row(name, found[name]["reliability"]) for name in rendered]),
    ]


def _demo_parts(demo: Mapping[str, Any]) -> list[str]:
    """The same on the demo's stream, and part by part: one may spoil a rule."""
    known = demo["reliability"]
    below = f"below {_THUMB_DEG:g}°"
    heads = ["part", "answers", "median expected °", "median true °", below, f"{below}: within {USEFUL_DEG:g}° %"]
    return [
        "### On the demo's parts",
        "",
        f"The demo's stream, with the default setting: {known['instances']} answers, rank correlation",
        f"{known['rank_correlation']:.2f}, mean expected {known['expected_mean']:.1f}°,",
        f"mean true {known['true_mean']:.1f}°.",
        "",
        *table_lines(rule_heads(), [rule_cells(Rule(**rule)) for rule in known["rules"]]),
        "",
        "Part by part. Where the median true error is far above the expected one, the refiner does not see what tells",
        "two poses of the part apart:",
        "",
        *table_lines(heads, [_part_row(item["class_id"], demo["instances"]) for item in demo["objects"]]),
    ]


def _trained_with() -> list[str]:
    """What the committed refiner's training had: expected errors are honest for parts like these at best."""
    facts = unpack_refiner(read_refiner(ROOT / "models/refiner.npz")).facts
    return [f"The refiner was trained with {facts.samples:,} samples of: {facts.objects}."]


def _part_row(class_id: str, instances: Sequence[Mapping[str, Any]]) -> list[str]:
    own = [one for one in instances if one["class_id"] == class_id and one["expected_deg"] is not None]
    expected, true = (np.array([one[name] for one in own]) for name in ("expected_deg", "rotation_deg"))
    near = expected < _THUMB_DEG
    useful = percent(float((true[near] < USEFUL_DEG).mean())) if near.any() else "–"
    return [class_id, str(len(own)), f"{np.median(expected):.1f}", f"{np.median(true):.1f}", str(near.sum()), useful]


def _reliability_row(name: str, known: Mapping[str, Any]) -> list[str]:
    correlation = known["rank_correlation"]
    means = f"{known['expected_mean']:.1f}", f"{known['true_mean']:.1f}"
    ranks = "–" if correlation is None else f"{correlation:.2f}"
    return [SETTINGS[name][0], ranks, *means, *rule_cells(_rule(known))[1:]]


def _rule(known: Mapping[str, Any]) -> Rule:
    """The rule of thumb of a setting."""
    return next(Rule(**rule) for rule in known["rules"] if rule["below"] == _THUMB_DEG)


if __name__ == "__main__":
    sys.exit(main())
