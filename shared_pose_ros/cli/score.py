"""``shared_pose score``: errors and average recalls of a BOP results file, ours or another's."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared_pose_ros.cli.common import add_dataset_arguments, cad_shown
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_models import file_vertices
from shared_pose_ros.evaluation.bop_results import read_results, seconds_per_image
from shared_pose_ros.evaluation.instance_scoring import Chance
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import PROTOCOLS, get_protocol
from shared_pose_ros.evaluation.results_scoring import Recalls, Scoring, score_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose score cosypose_tless-test.csv --bop datasets/tless --split test_primesense \\\n"
        "    --models datasets/tless/models_eval --errors out/errors.json"
    )
    parser.add_argument("results", type=Path, help="CSV: scene_id,im_id,obj_id,score,R,t,time")
    add_dataset_arguments(parser)
    parser.add_argument("--errors", type=Path, required=True, help="where the errors of every pair go (JSON)")
    names = sorted(name for name, protocol in PROTOCOLS.items() if protocol.boxes is None)
    parser.add_argument("--protocol", choices=names, default="bop19", help="default: bop19")
    parser.add_argument(
        "--delta", type=float, default=15.0, help="of VSD, mm (default: 15; the benchmark: 5 for ITODD)"
    )
    parser.add_argument("--add", action="store_true", help="also ADD and ADI (ADD-S) of every pair")
    parser.add_argument("--chance", type=int, default=3, help="random rotations for each estimate (default: 3)")
    offset = "where in a pixel surfaces are looked at: 0 its centre (default), 0.5 as bop_toolkit's OpenGL renderers"
    parser.add_argument("--pixel-offset", type=float, default=0.0, help=offset)


def run(options: argparse.Namespace) -> int:
    """Score, print the recalls, write the errors."""
    if options.chance < 1:
        raise ValueError(f"--chance {options.chance} gives no chance row; give at least 1")
    if not 0.0 < options.delta < 1000.0:
        raise ValueError(f"--delta {options.delta} mm is no tolerance of a depth sensor; give for example 15")
    estimates = read_results(options.results)
    dataset = load_bop(options.bop, options.split)
    objects = cad_shown(options, dataset)
    scorer = PoseScorer(
        objects,
        options.max_faces,
        points=[file_vertices(model) for model in objects],
        pixel_offset=options.pixel_offset,
    )
    protocol = dataclasses.replace(get_protocol(options.protocol), delta=options.delta * 1e-3)
    with tqdm(total=len(dataset.frames), unit="image") as bar:
        scoring = score_results(
            estimates, dataset, scorer, protocol, Chance(options.chance), options.add,
            progress=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    print(_table(scoring))
    seconds = seconds_per_image(estimates)
    print("time an image: " + (f"{seconds:.3f} s" if seconds is not None else "unknown"))
    document = {"results": options.results.name, "seconds_per_image": seconds, "vsd_taus": list(protocol.taus)}
    document["vsd_taus_unit"] = "m" if protocol.tau_in_metres else "diameter"
    _write(options.errors, {**document, **_document(scoring)})
    print(f"errors of {len(scoring.pairs)} pairs: {options.errors}")
    return 0


def _document(scoring: Scoring) -> dict[str, Any]:
    """The scoring as JSON; ADD and ADI only where they were asked for."""
    pairs = [dataclasses.asdict(pair) for pair in scoring.pairs]
    for pair in pairs:
        for key in ("add", "adi"):
            if pair[key] is None:
                del pair[key]
    return {
        "protocol_line": scoring.protocol_line,
        "average_recalls": dataclasses.asdict(scoring.recalls),
        "chance": dataclasses.asdict(scoring.chance),
        "left_out": scoring.left_out,
        "errors": pairs,
    }


def _write(path: Path, document: dict[str, Any]) -> None:
    """Indented, but a pair a line: there may be many."""
    head = json.dumps({key: value for key, value in document.items() if key != "errors"}, indent=1)
    pairs = ",\n".join(json.dumps(pair) for pair in document["errors"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head[:-2]},\n "errors": [\n{pairs}\n ]\n}}\n', encoding="utf-8")


def _table(scoring: Scoring) -> str:
    """Markdown: a row an object, all targets together, the unweighted mean over objects, and chance."""
    metrics = list(scoring.recalls.total)

    def rows(recalls: Recalls, prefix: str) -> list[tuple[str, int, dict[str, float]]]:
        count = sum(recalls.targets.values())
        return [(f"{prefix}all targets", count, recalls.total), (f"{prefix}mean over objects", count, recalls.mean)]

    lines = [["object", "targets", *(f"{metric} %" for metric in metrics)], ["---"] + ["---:"] * (1 + len(metrics))]
    objects = [(str(n), scoring.recalls.targets[n], recalls) for n, recalls in scoring.recalls.objects.items()]
    for name, count, recalls in [*objects, *rows(scoring.recalls, ""), *rows(scoring.chance, "chance, ")]:
        lines.append([name, str(count), *(f"{100 * recalls[metric]:.1f}" for metric in metrics)])
    left_out = ", ".join(f"{reason} {count}" for reason, count in scoring.left_out.items() if count) or "none"
    notes = [f"Protocol: {scoring.protocol_line}.", f"Left out: {left_out}."]
    return "\n".join([*(_line(cells) for cells in lines), "", *notes])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
