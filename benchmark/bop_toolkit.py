"""Our VSD, MSSD, MSPD, ADD, ADI and average recalls beside bop_toolkit's, on rendered scenes of the demo parts.

    python benchmark/bop_toolkit.py --toolkit DIR [--scenes 1] [--views 2] [--json OUT]

DIR is a checkout of https://github.com/thodan/bop_toolkit; of it numpy and scipy alone are needed. Its functions
(pose_error.py, visibility.py, pose_matching.py, score.py) get depth images of our rasteriser over the whole image, the
vertices in millimetres and the symmetries as it reads them from models_info.json. Estimates are the truth slightly off,
turned by a symmetry, turned at random, and near the image's edge. The exit status is 1 if a difference exceeds LIMITS.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from output import emit
from scipy.spatial.transform import Rotation

from shared_pose_ros.cli.main import main as shared_pose
from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, Instance, load_bop
from shared_pose_ros.evaluation.bop_models import file_vertices
from shared_pose_ros.evaluation.bop_results import Estimate
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_scorer import MSPD_WIDTH, PoseScorer
from shared_pose_ros.evaluation.protocols import STEPS, Protocol, get_protocol
from shared_pose_ros.evaluation.results_scoring import PairErrors, Scoring, score_results
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.depth import render_depth

PARTS = Path(__file__).resolve().parents[1] / "models" / "parts"
MM = 1e3
SYMMETRY_STEP = 0.01  # the toolkit's max_sym_disc_step for BOP'19
# Greatest differences allowed: shares, millimetres, pixels, recalls. Depth is float32, which moves single pixels of VSD
# across a tolerance; the others are the same formulas in float64.
LIMITS = {"vsd": 5e-4, "mssd": 1e-5, "mspd": 1e-6, "add": 1e-5, "adi": 1e-4, "AR": 1e-9}
MODULES = ("pose_error", "pose_matching", "score", "misc")


@dataclass(frozen=True)
class Toolkit:
    """The toolkit's modules that are compared with."""

    pose_error: ModuleType
    pose_matching: ModuleType
    score: ModuleType
    misc: ModuleType

    @classmethod
    def load(cls, folder: Path) -> Toolkit:
        """Import them from a checkout; ValueError if it is none."""
        if not (folder / "bop_toolkit_lib" / "pose_error.py").is_file():
            raise ValueError(f"{folder} holds no bop_toolkit_lib: give --toolkit a checkout of bop_toolkit")
        sys.path.insert(0, str(folder.resolve()))
        return cls(*(importlib.import_module(f"bop_toolkit_lib.{name}") for name in MODULES))


class Renderer:
    """What the toolkit calls for a depth image: our rasteriser over the whole image, in millimetres."""

    def __init__(self, scorer: PoseScorer, index: int, camera: NDArray[np.float64], size: tuple[int, int]) -> None:
        self.scorer, self.index, self.size = scorer, index, size
        self.camera = torch.from_numpy(camera).float()

    def render_object(
        self, obj_id: int, rotation: NDArray[np.float64], translation: NDArray[np.float64], *intrinsics: float
    ) -> dict[str, NDArray[np.float64]]:
        """``{"depth": (H, W) mm}``; the object and the intrinsics are those that the renderer was made with."""
        pose = torch.from_numpy(rotation)[None].float(), torch.from_numpy(translation.ravel() / MM)[None].float()
        index = torch.tensor([self.index])
        scorer = self.scorer
        depth = render_depth(scorer.meshes, index, *pose, self.camera, self.size, scorer.rasterizer)[0]
        return {"depth": depth.double().numpy() * MM}


def make_estimates(dataset: BopDataset, objects: ObjectSet, rng: np.random.Generator) -> list[Estimate]:
    """Four estimates of every instance, their scores in random order."""
    found = []
    for frame in dataset.frames:
        for truth in frame.instances:
            model = objects[objects.index(truth.class_id)]
            symmetry = model.symmetries.transforms()[rng.integers(len(model.symmetries.transforms()))]
            slightly = Rotation.from_rotvec(np.radians(8.0) * rng.normal(size=3)).as_matrix()
            rotation, translation = truth.rotation, truth.translation
            near_edge = np.array([rng.choice([-1.0, 1.0]) * 0.45 * translation[2], 0.0, translation[2]])
            for r, t in (
                (rotation @ slightly, translation + rng.normal(scale=0.004, size=3)),
                (rotation @ symmetry[:3, :3], rotation @ symmetry[:3, 3] + translation),
                (Rotation.random(random_state=rng).as_matrix(), translation),
                (rotation, near_edge),
            ):
                place = frame.scene_id, frame.image_id, int(truth.class_id)
                found.append(Estimate(*place, float(rng.uniform()), r, t))
    return found


def toolkit_errors(
    toolkit: Toolkit,
    pair: PairErrors,
    estimate: Estimate,
    truth: Instance,
    renderer: Renderer,
    depth: NDArray[np.float32],
    protocol: Protocol,
    info: dict[str, Any],
) -> dict[str, Any]:
    """The toolkit's errors of one pair, by the names of ``PairErrors``."""
    points = file_vertices(renderer.scorer.objects[renderer.index]) * MM
    symmetries = toolkit.misc.get_symmetry_transformations(info, SYMMETRY_STEP)
    pose = estimate.rotation, estimate.translation[:, None] * MM, truth.rotation, truth.translation[:, None] * MM
    camera = renderer.camera.double().numpy()
    vsd = toolkit.pose_error.vsd(
        *pose, depth.astype(np.float64) * MM, camera, protocol.delta * MM, protocol.taus,
        normalized_by_diameter=True, diameter=info["diameter"], renderer=renderer, obj_id=pair.obj_id,
    )  # fmt: skip
    return {
        "vsd": np.array(vsd),
        "mssd": toolkit.pose_error.mssd(*pose, points, symmetries),
        "mspd": toolkit.pose_error.mspd(*pose, camera, points, symmetries),
        "add": toolkit.pose_error.add(*pose, points),
        "adi": toolkit.pose_error.adi(*pose, points),
    }


def toolkit_recalls(
    toolkit: Toolkit,
    dataset: BopDataset,
    errors: Sequence[tuple[PairErrors, dict[str, Any]]],
    infos: dict[str, Any],
    protocol: Protocol,
) -> dict[str, float]:
    """The toolkit's matching and scores of these errors: average recalls as ``Recalls.total``.

    As its eval_calc_errors.py and eval_calc_scores.py do it: of the targets listed for an object the most visible
    instances count, and as many estimates of highest score.
    """
    steps = np.array(STEPS)
    metrics = {f"vsd_{i}": np.array(protocol.thetas) for i in range(len(protocol.taus))}
    metrics |= {"mssd": steps, "mspd": 100.0 * steps}
    width = {(f.scene_id, f.image_id): f.image().shape[1] for f in dataset.frames}

    def scaled(metric: str, pair: PairErrors, error: dict[str, Any]) -> float:
        if metric == "mssd":
            return error["mssd"] / infos[str(pair.obj_id)]["diameter"]
        if metric == "mspd":
            return error["mspd"] * MSPD_WIDTH / width[pair.scene_id, pair.im_id]
        return error["vsd"][int(metric.removeprefix("vsd_"))]

    recalls: dict[str, list[float]] = {}
    for metric, thresholds in metrics.items():
        for threshold in thresholds:
            matches = []
            for frame in dataset.frames:
                rows = [row for row in errors if (row[0].scene_id, row[0].im_id) == (frame.scene_id, frame.image_id)]
                matches += _matches(toolkit, dataset, frame, rows, lambda *row, m=metric: scaled(m, *row), threshold)
            scenes, numbers = sorted({f.scene_id for f in dataset.frames}), sorted(int(n) for n in infos)
            found = toolkit.score.calc_localization_scores(scenes, numbers, matches, -1, do_print=False)
            recalls.setdefault(metric.split("_")[0], []).append(found["recall"])
    mean = {f"AR_{name.upper()}": float(np.mean(values)) for name, values in recalls.items()}
    return {**mean, "AR": float(np.mean(list(mean.values())))}


def _matches(
    toolkit: Toolkit,
    dataset: BopDataset,
    frame: BopFrame,
    rows: Sequence[tuple[PairErrors, dict[str, Any]]],
    scaled: Any,
    threshold: float,
) -> list[dict[str, Any]]:
    """The toolkit's matches of an image."""
    place = frame.scene_id, frame.image_id
    counts = {t.class_id: (dataset.targets or {}).get((*place, t.class_id), 0) for t in frame.instances}
    valid = [False] * len(frame.instances)
    for class_id, count in counts.items():
        own = [i for i, truth in enumerate(frame.instances) if truth.class_id == class_id]
        for i in sorted(own, key=lambda i: frame.instances[i].visibility, reverse=True)[:count]:
            valid[i] = True
    fractions = {truth.gt_id: truth.visibility for truth in frame.instances}
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for pair, error in rows:
        entry = {"im_id": pair.im_id, "obj_id": pair.obj_id, "est_id": pair.est_id, "score": pair.score}
        entry |= {"errors": {}, "gt_visib_fracts": fractions}
        found.setdefault((pair.obj_id, pair.est_id), entry)["errors"][pair.gt_id] = [scaled(pair, error)]
    kept = []
    for class_id, count in counts.items():
        own = [entry for entry in found.values() if entry["obj_id"] == int(class_id)]
        kept += sorted(own, key=lambda entry: entry["score"], reverse=True)[:count]
    truths = {frame.image_id: [{"obj_id": int(t.class_id)} for t in frame.instances]}
    info = {frame.image_id: [{"visib_fract": t.visibility} for t in frame.instances]}
    return toolkit.pose_matching.match_poses_scene(
        frame.scene_id, truths, info, {frame.image_id: valid}, kept, [threshold], 0
    )


def compare(toolkit: Toolkit, root: Path, seed: int = 0) -> dict[str, Any]:
    """Score estimates of a dataset made by ``render-bop`` in both ways.

    Returns:
        ``pairs``, ``greatest_difference`` by metric, and ``recalls`` of both.
    """
    dataset = load_bop(root, "test")
    objects = ObjectSet.load(root / "models")
    scorer = PoseScorer(objects, points=[file_vertices(model) for model in objects])
    infos = json.loads((root / "models" / "models_info.json").read_text(encoding="utf-8"))
    protocol = get_protocol("bop19")
    estimates = make_estimates(dataset, objects, np.random.default_rng(seed))
    ours = score_results(estimates, dataset, scorer, protocol, RandomRotationBaseline(1), average_distances=True)
    theirs = list(_pairs(toolkit, dataset, scorer, estimates, ours, protocol, infos))
    greatest = dict.fromkeys(LIMITS, 0.0)
    for pair, errors in theirs:
        for name, value in errors.items():
            difference = float(np.abs(np.asarray(getattr(pair, name)) - value).max())
            # A pixel's error of a point near the camera's plane is large and known to as many digits.
            greatest[name] = max(greatest[name], difference / max(1.0, value) if name == "mspd" else difference)
    recalls = toolkit_recalls(toolkit, dataset, theirs, infos, protocol)
    greatest["AR"] = max(abs(recalls[name] - value) for name, value in ours.recalls.total.items())
    both = {"ours": dict(ours.recalls.total), "bop_toolkit": recalls}
    return {"pairs": len(theirs), "images": len(dataset.frames), "greatest_difference": greatest, "recalls": both}


def _pairs(
    toolkit: Toolkit,
    dataset: BopDataset,
    scorer: PoseScorer,
    estimates: Sequence[Estimate],
    ours: Scoring,
    protocol: Protocol,
    infos: dict[str, Any],
) -> Iterator[tuple[PairErrors, dict[str, Any]]]:
    frames = {(frame.scene_id, frame.image_id): frame for frame in dataset.frames}
    for pair in ours.pairs:
        frame = frames[pair.scene_id, pair.im_id]
        (truth,) = (truth for truth in frame.instances if truth.gt_id == pair.gt_id)
        depth = frame.depth()
        index = scorer.objects.index(str(pair.obj_id))
        if depth is None or index is None:
            raise ValueError(f"{dataset.root}: an image without depth or an object without CAD; render it anew")
        renderer = Renderer(scorer, index, frame.camera, depth.shape)
        info = infos[str(pair.obj_id)]
        yield pair, toolkit_errors(toolkit, pair, estimates[pair.row], truth, renderer, depth, protocol, info)


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, compare, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toolkit", type=Path, required=True, help="a checkout of bop_toolkit")
    parser.add_argument("--scenes", type=int, default=1, help="scenes (default: 1)")
    parser.add_argument("--views", type=int, default=2, help="images of each (default: 2)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        toolkit = Toolkit.load(options.toolkit)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        sizes = ["--scenes", str(options.scenes), "--views", str(options.views)]
        words = ["--objects", str(PARTS), *sizes, "--out", folder]
        if shared_pose(["render-bop", *words]) != 0:
            return 2
        result = compare(toolkit, Path(folder))
    emit(result, options.json)
    exceeded = {name: value for name, value in result["greatest_difference"].items() if not value <= LIMITS[name]}
    for name, value in exceeded.items():
        print(f"error: {name} differs by {value:.3g}, more than {LIMITS[name]:g}", file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
