"""``shared_pose tables``: every system of a campaign, accuracy and cost side by side."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared_pose_ros.cli.common import add_dataset_arguments, add_inference_arguments
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopDataset, load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects
from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.inference_cost import BATCHES, measure_size, measure_timings
from shared_pose_ros.evaluation.instance_scoring import Evaluation, RandomRotationBaseline
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import PROTOCOLS, get_protocol
from shared_pose_ros.report.system_tables import System, accuracy_table, cost_table, read_config, write_tables
from shared_pose_ros.training.provenance import hardware


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose tables --config config/tables/three-parts.yaml --runs runs/three-parts \\\n"
        "    --bop heldout --out out/three-parts"
    )
    parser.add_argument("--config", type=Path, required=True, help="which bundles are which system, config/tables")
    parser.add_argument("--runs", type=Path, required=True, help="folder that its bundles lie in, of a campaign")
    add_dataset_arguments(parser, max_faces=20_000)
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), help="instead of the configuration's")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables.md, tables.json and CSV files")
    add_inference_arguments(parser)
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing per system and batch size (default: 2)")
    parser.add_argument("--no-cost", action="store_true", help="only the accuracy, no timing")


def run(options: argparse.Namespace) -> int:
    """Evaluate, time, print and write."""
    config = read_config(options.config)
    found = {entry["name"]: sorted(options.runs.glob(entry["bundles"])) for entry in config["systems"]}
    missing = [entry["bundles"] for entry in config["systems"] if not found[entry["name"]]]
    if missing:
        raise ValueError(f"{options.runs} has no {', '.join(missing)}; run the campaign to its end")
    firsts = [PoseEstimator.load(paths[0], options.device, options.precision) for paths in found.values()]
    dataset = load_bop(options.bop, options.split)
    scorer = PoseScorer(dataset_objects(dataset, options.models, firsts), options.max_faces)
    systems = _evaluate(config, found, firsts, dataset, scorer, options)
    machine = hardware(firsts[0].device)
    tables = [accuracy_table(systems, config.get("oracle"))]
    if not options.no_cost:
        sizes = [
            measure_size(paths[0], options.device, options.precision) for paths in tqdm(found.values(), unit="size")
        ]
        timings = measure_timings(firsts, BATCHES, options.seconds)
        measured = zip(systems, sizes, timings)
        systems = [dataclasses.replace(system, size=size, timing=timing) for system, size, timing in measured]
        tables.append(cost_table(systems, machine))
    write_tables(systems, tables, machine, config.get("title", options.config.stem), options.out)
    for table in tables:
        print(table.markdown())
    print(f"written: {options.out}")
    return 0


def _evaluate(
    config: dict[str, Any],
    found: dict[str, list[Path]],
    firsts: list[PoseEstimator],
    dataset: BopDataset,
    scorer: PoseScorer,
    options: argparse.Namespace,
) -> list[System]:
    """Every system with all its bundles, of which ``firsts`` are loaded; random rotations are drawn once for all."""
    protocol, systems = get_protocol(options.protocol or config.get("protocol", "paper")), []
    baseline = RandomRotationBaseline()
    corrected = (bool(config.get("corrected", True)),)
    with tqdm(total=sum(map(len, found.values())) * len(dataset.frames), unit="image") as bar:
        for entry, first in zip(config["systems"], firsts):
            evaluations: list[Evaluation] = []
            for number, path in enumerate(found[entry["name"]]):
                estimator = PoseEstimator.load(path, options.device, options.precision) if number else first
                evaluations += evaluate_bundle(
                    estimator, dataset, scorer, protocol, corrected, baseline, lambda done, count: bar.update()
                )
            samples, published = first.metadata.samples, entry.get("published")
            systems.append(System(entry["name"], tuple(evaluations), samples, published=published))
    return systems
