"""``shared_pose score``: errors and average recalls of a BOP results file, ours or another's."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from tqdm import tqdm

from shared_pose_ros.cli.common import add_dataset_arguments
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects, file_vertices
from shared_pose_ros.evaluation.bop_results import read_results, seconds_per_image
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import PROTOCOLS, get_protocol
from shared_pose_ros.evaluation.result_tables import scoring_table, write_scoring
from shared_pose_ros.evaluation.results_scoring import score_results


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
    drawn = "of the baseline, for each estimate (default: 3)"
    parser.add_argument("--random-rotations", type=int, default=3, metavar="N", help=drawn)
    offset = "where in a pixel surfaces are looked at: 0 its centre (default), 0.5 as bop_toolkit's OpenGL renderers"
    parser.add_argument("--pixel-offset", type=float, default=0.0, help=offset)


def run(options: argparse.Namespace) -> int:
    """Score, print the recalls, write the errors."""
    if options.random_rotations < 1:
        raise ValueError(f"--random-rotations {options.random_rotations} gives no baseline; give at least 1")
    if not 0.0 < options.delta < 1000.0:
        raise ValueError(f"--delta {options.delta} mm is no tolerance of a depth sensor; give for example 15")
    estimates = read_results(options.results)
    dataset = load_bop(options.bop, options.split)
    objects = dataset_objects(dataset, options.models)
    scorer = PoseScorer(
        objects,
        options.max_faces,
        points=[file_vertices(model) for model in objects],
        pixel_offset=options.pixel_offset,
    )
    protocol = dataclasses.replace(get_protocol(options.protocol), delta=options.delta * 1e-3)
    with tqdm(total=len(dataset.frames), unit="image") as bar:
        scoring = score_results(
            estimates, dataset, scorer, protocol, RandomRotationBaseline(options.random_rotations),
            ("add", "adi") if options.add else (),
            progress=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    print(scoring_table(scoring))
    seconds = seconds_per_image(estimates)
    print("time per image: " + (f"{seconds:.3f} s" if seconds is not None else "unknown"))
    facts = {"results": options.results.name, "seconds_per_image": seconds, "vsd_taus": list(protocol.taus)}
    facts["vsd_taus_unit"] = "m" if protocol.tau_in_metres else "diameter"
    write_scoring(scoring, options.errors, facts)
    print(f"errors of {len(scoring.pairs)} pairs: {options.errors}")
    return 0
