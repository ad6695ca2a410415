"""``shared_pose evaluate``: score a bundle on a dataset in BOP layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopDataset, load_bop
from shared_pose_ros.evaluation.evaluate import evaluate_bundle
from shared_pose_ros.evaluation.protocols import PROTOCOLS, get_protocol
from shared_pose_ros.evaluation.report import gallery, write_report
from shared_pose_ros.evaluation.report_cases import case_pictures, dataset_frames
from shared_pose_ros.evaluation.scoring import PoseScorer
from shared_pose_ros.evaluation.tables import markdown_table, write_json
from shared_pose_ros.meshes.object_set import ObjectSet

PICTURES = 8  # whole frames in the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example:\n  shared_pose evaluate --bundle tless.pose.pt --bop datasets/tless \\\n"
        "    --models datasets/tless/models_cad --split test_primesense --json out/tless.json --report out/tless"
    )
    parser.add_argument("--bundle", required=True, help="NAME.pose.pt")
    parser.add_argument("--bop", type=Path, required=True, help="root of the dataset, the folder that holds the split")
    parser.add_argument("--models", type=Path, help="CAD of its objects (default: ROOT/models_cad, ROOT/models)")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="paper", help="default: paper")
    parser.add_argument("--json", type=Path, required=True, help="where every figure goes")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write DIR/report.html, one page that works offline (or name a .html file)",
    )
    parser.add_argument("--max-faces", type=int, default=20_000, help="simplify finer CAD to this (default: 20000)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Evaluate with and without the viewing-ray correction, print the tables."""
    estimator = PoseEstimator.load(options.bundle, options.device)
    dataset = load_bop(options.bop, options.split)
    scorer = PoseScorer(_objects_shown(_models_folder(options), dataset), options.max_faces)
    with tqdm(total=len(dataset.frames), unit="image") as bar:
        evaluations = evaluate_bundle(
            estimator, dataset, scorer, get_protocol(options.protocol), corrected=(True, False),
            progress=lambda done, _: bar.update(done - bar.n),
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
    return 0


def _objects_shown(models: Path, dataset: BopDataset) -> ObjectSet:
    """CAD of every object in the dataset, those that the bundle does not know too: they may stand in front."""
    shown = {instance.class_id for frame in dataset.frames for instance in frame.instances}
    objects = ObjectSet.load(models)
    found = [model for model in objects if shown.intersection((model.class_id, *model.aliases))]
    if not found:
        raise ValueError(
            f"{models} holds {', '.join(objects.class_ids)}, the data show {', '.join(sorted(shown)) or 'nothing'}; "
            "name the CAD of the dataset's objects with --models"
        )
    return ObjectSet(found)


def _models_folder(options: argparse.Namespace) -> Path:
    if options.models:
        return options.models
    for name in ("models_cad", "models"):
        if (options.bop / name).is_dir():
            return options.bop / name
    raise ValueError(f"{options.bop} has no models_cad or models folder; name the CAD with --models")
