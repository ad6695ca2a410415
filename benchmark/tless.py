"""Scores models/tless30.pose.pt on T-LESS as `shared_pose evaluate` does, and keeps what can be committed.

python benchmark/tless.py --tless DIR        prints JSON; DIR holds models_cad and the sets, each in BOP layout

A set is a folder of scenes: `pbr_dev/test` is DIR/pbr_dev/test/000001/…, `test_primesense` is BOP's own. Kept are
protocol line, summary and objects of both settings of the viewing-ray correction; not the instances.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from output import emit

from shared_pose_ros.cli.main import main as shared_pose
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.training.provenance import hardware, source_commit

SETS = ("pbr_dev/test", "real/test")
KEPT = ("protocol_line", "corrected", "skipped", "summary", "objects")


def evaluate(bundle: Path, folder: Path, name: str) -> dict[str, Any]:
    """Run the command on the set `name` under `folder`; its command line without this machine's paths, its figures.

    Raises:
        ValueError: the command failed.
    """

    def arguments(root: Path) -> list[str]:
        data, models = root / name, str(root / "models_cad")
        return [
            "evaluate", "--bundle", str(bundle), "--bop", str(data.parent), "--models", models, "--split", data.name
        ]  # fmt: skip

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "scores.json"
        if status := shared_pose([*arguments(folder), "--json", str(path)]):
            raise ValueError(f"shared_pose evaluate ended with {status} on {folder / name}; see its error above")
        scores = json.loads(path.read_text(encoding="utf-8"))
    command = " ".join(["shared_pose", *arguments(Path("DIR")), "--json", "OUT.json"])
    evaluations = [{key: row[key] for key in KEPT} for row in scores["evaluations"]]
    return {"data": name, "command": command, "evaluations": evaluations}


def run(bundle: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    """Every figure; raises ValueError if a folder is missing."""
    for part in ("models_cad", *names):
        if not (folder / part).is_dir():
            raise ValueError(
                f"{folder} has no folder {part}; docs/how-to/evaluate.md, section Data, says what it should hold"
            )
    estimator = PoseEstimator.load(bundle, "auto", "auto")
    facts = estimator.metadata
    return {
        "what": "shared_pose evaluate, without its instances",
        "command": "make benchmark-tless TLESS=DIR",
        "date": date.today().isoformat(),
        "commit": source_commit(),
        "hardware": hardware(estimator.device),
        "torch": version("torch"),
        "precision": estimator.precision,
        "bundle": bundle.name,
        "weights_sha256": facts.weights_sha256,
        "samples": facts.samples,
        "turns": facts.tta_rotations,
        "sets": [evaluate(bundle, folder, name) for name in names],
    }


def main() -> int:
    """Evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tless", type=Path, required=True, help="folder of models_cad and of the sets")
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"folders of scenes in it (default: {' '.join(SETS)})")
    parser.add_argument("--bundle", type=Path, default=Path("models/tless30.pose.pt"), help="that is scored")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    try:
        emit(run(options.bundle, options.tless, options.sets), options.json)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
