"""``shared_pose evaluate``: score a bundle on a dataset in BOP layout."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared_pose_ros.cli.common import add_dataset_arguments, add_inference_arguments
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects
from shared_pose_ros.evaluation.bop_results import evaluation_estimates, results_name, write_results
from shared_pose_ros.evaluation.bundle_evaluation import EVALUATED, add_meshes, evaluate_bundle
from shared_pose_ros.evaluation.depth_noise import DepthNoise
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import PROTOCOLS, TRANSLATIONS, DetectionNoise, get_protocol
from shared_pose_ros.evaluation.result_tables import markdown_table, write_json
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.report.cases import case_pictures, dataset_frames, gallery
from shared_pose_ros.report.page import write_report

PICTURES = 8  # whole frames in the report
_CORRECTED = {"on": (True,), "off": (False,), "both": (True, False)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose evaluate --bundle tless.pose.pt --bop datasets/tless \\\n"
        "    --models datasets/tless/models_cad --split test_primesense --json out/tless.json --report out/tless"
    )
    parser.add_argument("--bundle", required=True, help="NAME.pose.pt")
    add_dataset_arguments(parser, max_faces=20_000)
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="paper", help="default: paper")
    parser.add_argument("--translation", choices=TRANSLATIONS, help="default: the protocol's")
    corrected = "allocentric to egocentric, along the viewing ray (default: both; with --depth on: on)"
    parser.add_argument("--corrected", choices=sorted(_CORRECTED), help=corrected)
    _add_noise_arguments(parser)
    parser.add_argument(
        "--refine",
        type=int,
        default=-1,
        metavar="STEPS",
        help="refine the hypotheses by rendering them; 0 does not (default: as the node)",
    )
    parser.add_argument(
        "--refine-hypotheses", type=int, default=NodeParameters.refine_hypotheses, metavar="N",
        help=f"how many of each object, 0 is all (default: {NodeParameters.refine_hypotheses}, as the node)",
    )  # fmt: skip
    parser.add_argument("--depth", choices=("on", "off"), default="off", help="align the poses to the images' depth")
    parser.add_argument(
        "--depth-noise", type=float, default=0.0, metavar="MM", help="σ at 0.7 m of a camera that measures the depth"
    )
    parser.add_argument("--json", type=Path, required=True, help="where every figure goes")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write DIR/report.html, one page that works offline (or name a .html file)",
    )
    parser.add_argument("--results", type=Path, help="also write the poses as BOP results files into this folder")
    add_inference_arguments(parser)


def _add_noise_arguments(parser: argparse.ArgumentParser) -> None:
    """The detection noise model; the defaults are those of the protocol ``detector``."""
    noise = DetectionNoise()
    jitter = f"σ of the box's centre and size, in fractions of its sides (detector: {noise.centre},{noise.size})"
    parser.add_argument("--detection-noise", metavar="CENTRE,SIZE", help=jitter)
    parser.add_argument(
        "--detection-miss", type=float, help=f"probability of a missed instance (detector: {noise.miss})"
    )
    parser.add_argument("--detection-seed", type=int, help=f"of the noise (detector: {noise.seed})")


def run(options: argparse.Namespace) -> int:
    """Evaluate with and without the allocentric-to-egocentric correction, print the tables."""
    protocol = get_protocol(options.protocol)
    protocol = protocol.changed(options.translation, _detection_noise(options, protocol.boxes))
    depth = _depth_camera(options)
    estimator = PoseEstimator.load(options.bundle, options.device, options.precision)
    corrected = options.corrected or ("both" if depth is None else "on")
    dataset = load_bop(options.bop, options.split)
    scorer = PoseScorer(dataset_objects(dataset, options.models, [estimator]), options.max_faces)
    chosen = NodeParameters.of({"refine": options.refine, "refine_hypotheses": options.refine_hypotheses})
    parameters = dataclasses.replace(EVALUATED, refine=chosen.refine, refine_hypotheses=chosen.refine_hypotheses)
    if depth is not None or options.refine > 0 or (options.refine < 0 and estimator.refiner):
        add_meshes(estimator, scorer.objects)
    if options.results:  # its times shall be those of a running cell
        sizes = {count for frame in dataset.frames for count in range(1, len(frame.instances) + 1)}
        estimator.warm_up(dataset.frames[0].image().shape[:2], sorted(sizes))
    with tqdm(total=len(dataset.frames), unit="image") as bar:
        evaluations = evaluate_bundle(
            estimator, dataset, scorer, protocol, corrected=_CORRECTED[corrected],
            progress=lambda done, _: bar.update(done - bar.n), depth=depth,
            parameters=parameters,
        )  # fmt: skip
    for evaluation in evaluations:
        print(markdown_table(evaluation))
    write_json(evaluations, options.json)
    print(f"figures: {options.json}")
    if options.report:
        title = f"{estimator.metadata.name} on {options.bop.resolve().name}/{options.split}"
        pictures = gallery(evaluations[0], dataset, scorer, PICTURES)
        cases = case_pictures(evaluations[0], dataset_frames(dataset), scorer)
        report = write_report(options.report, title, evaluations, pictures, cases=cases, objects=scorer.objects)
        print(f"report: {report}")
    for evaluation in evaluations if options.results else ():
        method = evaluation.system + ("" if evaluation.corrected else "-uncorrected")
        path = options.results / results_name(method, dataset)
        print(f"poses: {write_results(path, evaluation_estimates(evaluation, dataset))}")
    return 0


def _depth_camera(options: argparse.Namespace) -> DepthNoise | None:
    """What measures the depth that poses are aligned to; None where they are not."""
    if not 0.0 <= options.depth_noise < math.inf:
        raise ValueError(f"--depth-noise is {options.depth_noise}; give 0 (exact) or more millimetres")
    if options.depth == "on":
        if options.corrected in ("off", "both"):
            raise ValueError(f"--depth on has no uncorrected poses; give --corrected on, not {options.corrected}")
        return DepthNoise(sigma=options.depth_noise / 1e3)
    if options.depth_noise > 0.0:
        raise ValueError("--depth-noise changes nothing without --depth on")
    return None


def _detection_noise(options: argparse.Namespace, given: DetectionNoise | None) -> DetectionNoise | None:
    """The protocol's noise with the options' changes; where it has none, only what the options say is done."""
    changes: dict[str, Any] = {}
    if options.detection_noise is not None:
        try:
            changes["centre"], changes["size"] = (float(item) for item in options.detection_noise.split(","))
        except ValueError:
            raise ValueError(
                f"--detection-noise {options.detection_noise!r} is not CENTRE,SIZE; give for example 0.04,0.08"
            ) from None
    if options.detection_miss is not None:
        changes["miss"] = options.detection_miss
    if options.detection_seed is not None:
        changes["seed"] = options.detection_seed
    if given is None and not {"centre", "miss"}.intersection(changes):
        if changes:
            raise ValueError("--detection-seed changes nothing without --detection-noise or --protocol detector")
        return None
    return dataclasses.replace(given or DetectionNoise(0.0, 0.0, 0.0), **changes)
