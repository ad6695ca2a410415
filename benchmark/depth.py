"""How far positions are from the truth, from boxes, meshes and depth, and how well their covariances hold.

    make benchmark-positions TLESS=DIR
    python benchmark/depth.py --set NAME BOP BUNDLE CAD --bag NAME BAG BUNDLE CAD [--json OUT]

A set is a name, a dataset in BOP layout with depth, a bundle and the CAD. All instances that are visible from
``--visibility`` on are located with their true rotations, those of the bundle's objects with estimated ones too; in
their visible mask's box, and in one as a detector reports it (``protocols.DetectionNoise``). Meshes are those that a
bundle carries, made of the CAD. Depth is that of the dataset; "poor depth" is mesh and depth as a poor sensor sees it,
normal noise and pixels without depth. A bag has ground truth as the demo's, and no depth. Costs: 8 and 16 objects.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import emit
from torch import Tensor

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import BopFrame, Instance, load_bop
from shared_pose_ros.evaluation.protocols import DetectionNoise
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.mesh_points import MeshPoints, mesh_points
from shared_pose_ros.geometry.positions import Positions, estimate_positions, ray_covariance
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.object_set import ObjectModel, ObjectSet
from shared_pose_ros.replay.bag_frames import BagFrame, read_frames

POOR_NOISE, POOR_MISSING = 0.005, 0.3
"""Of the poor sensor: deviation of a depth (m), share of the pixels without one."""
COST_REPEATS = 200
INSIDE = {"inside_50": 2.366, "inside_90": 6.251}
"""Squared Mahalanobis distances: quantiles of χ² with three degrees of freedom."""


@dataclass(frozen=True)
class Located:
    """One instance under one method: error (3,), covariance (3, 3), ray (3,), true distance, whether depth was used."""

    error: np.ndarray
    covariance: np.ndarray
    ray: np.ndarray
    distance: float
    used: bool


def from_cad_box(boxes: Tensor, camera: Tensor, rotations: Tensor, extents: Tensor) -> Positions:
    """The common formula, to compare with: the CAD's box as silhouette, 20 % of the distance in all directions."""
    span = (rotations[:, :2] * extents[:, None]).abs().sum(dim=2)
    reference = torch.hypot(camera[0, 0] * span[:, 0], camera[1, 1] * span[:, 1])
    ray = viewing_ray(camera, boxes[:, :2])
    centres = ray / ray[:, 2:] * (reference / boxes[:, 2:].norm(dim=1))[:, None]
    deviation = 0.2 * centres.norm(dim=1)
    return Positions(centres, ray_covariance(ray, deviation, deviation))


def poor(depth: Tensor, seed: int) -> Tensor:
    """The depth image (h, w) as a poor sensor sees it."""
    generator = torch.Generator().manual_seed(seed)
    noisy = depth + POOR_NOISE * torch.randn(depth.shape, generator=generator)
    missing = torch.rand(depth.shape, generator=generator) < POOR_MISSING
    return torch.where((depth > 0) & ~missing, noisy, torch.zeros(()))


def methods(depth: Tensor | None, number: int, meshes: MeshPoints, *given: Tensor) -> Iterator[tuple[str, Positions]]:
    """(name, positions) of each way to locate the same objects; those without depth where there is none."""
    yield "CAD box", from_cad_box(*given)
    yield "box", estimate_positions(*given)
    yield "mesh", estimate_positions(*given, meshes=meshes)
    if depth is not None:
        yield "depth", estimate_positions(*given, depth)
        yield "mesh and depth", estimate_positions(*given, depth, meshes=meshes)
        yield "poor depth", estimate_positions(*given, poor(depth, number), meshes=meshes)


@dataclass(frozen=True)
class Facts:
    """The CAD: its models, the place of each by class id and alias, and their meshes' points about their centres."""

    models: list[ObjectModel]
    place: dict[str, int]
    points: MeshPoints

    @classmethod
    def load(cls, cad: Path) -> Facts:
        """Read it and make the meshes that a bundle would carry."""
        models = list(ObjectSet.load(cad))
        centres = torch.tensor(np.stack([model.centre for model in models]), dtype=torch.float32)
        place = {name: row for row, model in enumerate(models) for name in (model.class_id, *model.aliases)}
        return cls(models, place, mesh_points([display_mesh(model.mesh) for model in models], centres))


def locate(
    frame: BopFrame | BagFrame, instances: list[Instance], rotations: Tensor, boxes: np.ndarray, facts: Facts
) -> Iterator:
    """(method, Located) of every instance of a frame by every method; rotations (B, 3, 3) as crops show them."""
    depth, number = None, 0  # a bag's frames have none
    if isinstance(frame, BopFrame):
        depth, number = torch.from_numpy(frame.depth()).float(), 1000 * frame.scene_id + frame.image_id
    places = torch.tensor([facts.place[instance.class_id] for instance in instances])
    known = [facts.models[place] for place in places]
    truth = np.stack([i.rotation @ m.centre + i.translation for i, m in zip(instances, known)])
    given = positions_input(frame, rotations, boxes, known)
    rays, distances = truth / np.linalg.norm(truth, axis=1)[:, None], np.linalg.norm(truth, axis=1)
    for method, answer in methods(depth, number, facts.points.take(places), *given):
        problems = answer.problems or ("no depth",) * len(truth)
        errors, covariances = answer.centres.double().numpy() - truth, answer.covariances.double().numpy()
        for row in range(len(truth)):
            yield method, Located(errors[row], covariances[row], rays[row], distances[row], not problems[row])


def positions_input(
    frame: BopFrame | BagFrame, rotations: Tensor, boxes: np.ndarray, known: list[ObjectModel]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes, camera, rotations and extents as ``estimate_positions`` takes them."""
    extents = torch.tensor(np.stack([model.extents for model in known]), dtype=torch.float32)
    return torch.from_numpy(boxes).float(), torch.from_numpy(frame.camera).float(), rotations.float(), extents


def cost(frame: BopFrame, facts: Facts, count: int) -> dict[str, float]:
    """Processor milliseconds (median of many) that each method takes for so many objects of a frame, some repeated."""
    shown = [i for i in frame.instances if frame.visible_box(i.gt_id) is not None and i.class_id in facts.place]
    shown = (shown * count)[:count]
    boxes = np.stack([frame.visible_box(i.gt_id) for i in shown])
    places = torch.tensor([facts.place[i.class_id] for i in shown])
    turned = crop_rotations(frame, shown, boxes, None)
    given = positions_input(frame, turned, boxes, [facts.models[place] for place in places])
    depth, points = torch.from_numpy(frame.depth()).float(), facts.points.take(places)
    ways = {
        "box": lambda: estimate_positions(*given),
        "mesh": lambda: estimate_positions(*given, meshes=points),
        "depth": lambda: estimate_positions(*given, depth),
        "mesh and depth": lambda: estimate_positions(*given, depth, meshes=points),
    }
    taken = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(COST_REPEATS):
            start = time.process_time()
            way()
            seconds.append(time.process_time() - start)
        taken[name] = round(1e3 * float(np.median(seconds)), 2)
    return taken


def figures(found: list[Located]) -> dict[str, Any]:
    """Millimetres and per cent of the distance (median, 90th percentile), and shares inside the stated ellipsoids."""
    errors = np.stack([item.error for item in found])
    radial = np.array([item.error @ item.ray for item in found])
    lateral = np.linalg.norm(errors - radial[:, None] * np.stack([item.ray for item in found]), axis=1)
    total, distance = np.linalg.norm(errors, axis=1), np.array([item.distance for item in found])
    far = np.array([item.error @ np.linalg.solve(item.covariance, item.error) for item in found])
    stated = np.array([np.sqrt(item.ray @ item.covariance @ item.ray) for item in found])

    def both(values: np.ndarray) -> list[float]:
        return [round(float(value), 2) for value in np.quantile(values, [0.5, 0.9])]

    return {
        "instances": len(found),
        "error_mm": both(1e3 * total),
        "error_percent": both(100 * total / distance),
        "radial_mm": both(1e3 * abs(radial)),
        "lateral_mm": both(1e3 * lateral),
        "radial_bias_percent": round(float(np.median(100 * radial / distance)), 2),
        "stated_radial_deviation_mm": round(float(1e3 * np.median(stated)), 1),
        **{name: round(float((far <= limit).mean()), 3) for name, limit in INSIDE.items()},
        "depth_used": round(float(np.mean([item.used for item in found])), 3),
    }


def measure(root: Path, bundle: Path, cad: Path, split: str, visibility: float, seed: int) -> dict[str, Any]:
    """A row of figures for each source of rotations, of boxes, and each method; and what they cost."""
    estimator, facts = PoseEstimator.load(bundle, device="cpu"), Facts.load(cad)
    found: dict[tuple[str, str, str], list[Located]] = {}
    frames = load_bop(root, split).frames
    for frame in frames:
        shown = [i for i in frame.instances if i.visibility >= visibility and i.class_id in facts.place]
        for source, noise in (("visible mask's", None), ("detector's", DetectionNoise(miss=0.0, seed=seed))):
            boxes = {i.gt_id: frame.visible_box(i.gt_id) for i in shown}
            if noise is not None:
                boxes = {n: noise.detect(b, frame.scene_id, frame.image_id, n) for n, b in boxes.items()}
            for rotations in ("true", "estimated"):
                chosen = [i for i in shown if rotations == "true" or estimator.object_index(i.class_id) is not None]
                if not chosen:
                    continue
                rows = np.stack([boxes[i.gt_id] for i in chosen])
                turned = crop_rotations(frame, chosen, rows, estimator if rotations == "estimated" else None)
                for method, item in locate(frame, chosen, turned, rows, facts):
                    found.setdefault((rotations, source, method), []).append(item)
    names = ("rotations", "boxes", "method")
    rows = [{**dict(zip(names, key)), **figures(items)} for key, items in found.items()]
    return {"rows": rows, "cost_ms": {f"{count} objects": cost(frames[0], facts, count) for count in (8, 16)}}


def measure_bag(path: Path, bundle: Path, cad: Path) -> dict[str, Any]:
    """A row of figures for each method without depth, of all detections of a bag with ground truth."""
    estimator, facts = PoseEstimator.load(bundle, device="cpu"), Facts.load(cad)
    found: dict[str, list[Located]] = {}
    for frame in read_frames(path):
        names = sorted(frame.boxes.keys() & frame.truth.keys())
        instances, boxes = [frame.truth[name] for name in names], np.stack([frame.boxes[name] for name in names])
        turned = crop_rotations(frame, instances, boxes, estimator)
        for method, item in locate(frame, instances, turned, boxes, facts):
            found.setdefault(method, []).append(item)
    rows = [{"rotations": "estimated", "boxes": "as recorded", "method": k, **figures(v)} for k, v in found.items()]
    return {"rows": rows}


def crop_rotations(
    frame: BopFrame | BagFrame, instances: list[Instance], boxes: np.ndarray, estimator: PoseEstimator | None
) -> Tensor:
    """Rotations (B, 3, 3) as the crops show the objects: estimated, or the true ones without an estimator."""
    if estimator is not None:
        image = frame.image() if isinstance(frame, BopFrame) else frame.load()
        index = np.array([estimator.object_index(instance.class_id) for instance in instances])
        return torch.from_numpy(estimator.estimate(image, boxes, index).rotations[:, 0])
    correction = ray_rotation(viewing_ray(torch.from_numpy(frame.camera), torch.from_numpy(boxes[:, :2])))
    return correction.mT @ torch.from_numpy(np.stack([instance.rotation for instance in instances]))


def main() -> None:
    """Measure all sets and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=4, action="append", default=[], metavar=("NAME", "BOP", "BUNDLE", "CAD"))
    parser.add_argument("--bag", nargs=4, action="append", default=[], metavar=("NAME", "BAG", "BUNDLE", "CAD"))
    parser.add_argument("--data", default="", metavar="DIR", help="a folder, recorded as DIR in the command")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the detector's noise (default: 0)")
    parser.add_argument("--visibility", type=float, default=0.1, help="least visible share (default: 0.1)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = " ".join(["python", *sys.argv])
    result = {
        "command": command.replace(options.data, "DIR") if options.data else command,
        "torch": torch.__version__,
        "visibility": options.visibility,
        "detector": str(DetectionNoise(miss=0.0, seed=options.seed)),
        "poor_depth": {"noise_m": POOR_NOISE, "missing": POOR_MISSING},
        "sets": {
            name: measure(Path(root), Path(bundle), Path(cad), options.split, options.visibility, options.seed)
            for name, root, bundle, cad in options.set
        },
        "bags": {name: measure_bag(Path(bag), Path(bundle), Path(cad)) for name, bag, bundle, cad in options.bag},
    }
    emit(result, options.json)


if __name__ == "__main__":
    main()
