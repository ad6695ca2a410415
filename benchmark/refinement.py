"""What refinement costs, and how accurate the alignment to depth is: milliseconds, faces per mesh, camera's noise.

    python benchmark/refinement.py [--scenes N] [--threads N] [--json OUT]

Needs no data: all parts of the demo are rendered (full CAD) at random poses in a row, 0.7 m in front of the camera and
0.1 m before a wall, and aligned with coarse meshes as a bundle carries them. Each part has six hypotheses, about random
axes 12, 20, 35, 60, 120 and 175 degrees beside the truth in random order, at a centre that misses by 5 mm: the first
two are what a network's best are, the others what it confuses. Errors are means over the true surface's points of the
distance to the plane of the nearest point of the aligned surface, which is 0 for symmetric poses, and angles where a
part has no symmetry (median and 90th percentile). Times are the least of many runs, which on a busy machine says most:
as it is, and without second tries, which few objects of a cell need. Refinement by rendering is timed too, for eight
parts of the demo's bundle: crops, renders and comparisons of so many hypotheses in so many steps, all settings in turn.
"""

# ruff: noqa: E402 -- the node's way to wait is chosen before torch is imported
from __future__ import annotations

from shared_pose_ros.resources import share_cores

share_cores()

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import emit
from torch import Tensor

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.evaluation.depth_noise import DepthNoise
from shared_pose_ros.geometry.display_mesh import MOST_FACES, DisplayMesh
from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle, rotation_from_vector
from shared_pose_ros.meshes.mesh import simplify
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.allocator import tune_allocator
from shared_pose_ros.refinement import depth_refinement
from shared_pose_ros.refinement.depth_alignment import DepthView
from shared_pose_ros.refinement.depth_refinement import refine_with_depth
from shared_pose_ros.refinement.rendered import RenderRefiner
from shared_pose_ros.refinement.visible_points import VisiblePoints, visible_points
from shared_pose_ros.rendering.depth import render_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.resources import share_folder
from shared_pose_ros.training.provenance import processor_name

SIZE = (540, 720)
CAMERA = torch.tensor([[800.0, 0.0, 359.5], [0.0, 800.0, 269.5], [0.0, 0.0, 1.0]])
DISTANCE, WALL = 0.7, 0.8
COLUMNS, SPACING = 4, 0.14
BESIDE = (12.0, 20.0, 35.0, 60.0, 120.0, 175.0)
MISS = 0.005
FACES, NOISES, COUNTS = (250, 500, 1000), (0.0, 0.5, 1.0, 2.0, 4.0), (1, 8, 16)
REPEATS = 30
RENDERED, RENDERINGS = 8, ((1, 1), (3, 1), (3, 2), (6, 1), (6, 2))


@dataclass(frozen=True)
class Scene:
    """B parts in one depth image: indices, true rotations and centres, the hypotheses and where they start."""

    index: Tensor
    rotations: Tensor
    centres: Tensor
    hypotheses: Tensor
    starts: Tensor
    depth: Tensor


def make_scene(objects: ObjectSet, count: int, seed: int) -> Scene:
    """Parts on a grid, each at a random rotation."""
    generator = torch.Generator().manual_seed(seed)
    index = (torch.arange(count) + seed * count) % len(objects)
    rotations = random_rotations(count, generator=generator)
    rows = -(-count // COLUMNS)
    place = torch.arange(count)
    x, y = place % COLUMNS - (COLUMNS - 1) / 2, place // COLUMNS - (rows - 1) / 2
    centres = torch.stack([SPACING * x, SPACING * y, torch.full((count,), DISTANCE)], dim=1)
    axes = torch.nn.functional.normalize(torch.randn(count, len(BESIDE), 3, generator=generator), dim=2)
    order = torch.stack([torch.randperm(len(BESIDE), generator=generator) for _ in range(count)])
    angles = torch.deg2rad(torch.tensor(BESIDE))[order]
    shift = MISS * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    pack = pack_meshes([(item.mesh.vertices - item.centre.astype(np.float32), item.mesh.faces) for item in objects])
    shown = render_depth(pack, index, rotations, centres, CAMERA, SIZE, make_rasterizer())
    depth = torch.where(shown > 0, shown, torch.tensor(WALL)).amin(dim=0)
    hypotheses = rotation_from_vector(angles[..., None] * axes) @ rotations[:, None]
    return Scene(index, rotations, centres, hypotheses, centres + shift, depth)


def tables(objects: ObjectSet, faces: int) -> VisiblePoints:
    """Of meshes simplified to so many faces."""
    meshes = []
    for item in objects:
        coarse = simplify(item.mesh, faces)
        if len(coarse.faces) > MOST_FACES:
            raise ValueError(f"{item.class_id} has {len(coarse.faces)} faces at a budget of {faces}")
        meshes.append(DisplayMesh(coarse.vertices.astype(np.float32), coarse.faces.astype(np.uint16)))
    return visible_points(meshes, np.stack([item.centre for item in objects]).astype(np.float32))


def align(scene: Scene, depth: Tensor, diameters: Tensor, points: VisiblePoints) -> Any:
    """As the pipeline's stage does it, the preparation of the depth image included."""
    with torch.inference_mode():
        view = DepthView.of(depth, CAMERA, SIZE)
        return refine_with_depth(view, scene.index, scene.hypotheses, scene.starts, diameters[scene.index], points)


def accuracy(objects: ObjectSet, scenes: list[Scene], points: VisiblePoints, noise: DepthNoise) -> dict[str, Any]:
    """Errors of the first hypotheses over all scenes."""
    diameters = torch.tensor([item.diameter for item in objects], dtype=torch.float32)
    plain = torch.tensor([not any(item.symmetries.to_dict().values()) for item in objects])
    surface, angles, accepted = [], [], []
    for number, scene in enumerate(scenes):
        depth = torch.from_numpy(noise.measured(scene.depth.numpy(), number))
        found = align(scene, depth, diameters, points)
        cloud, normals = points.points[scene.index], points.normals[scene.index]
        true = cloud @ scene.rotations.mT + scene.centres[:, None]
        posed, outwards = cloud @ found.rotations[:, 0].mT + found.centres[:, :1], normals @ found.rotations[:, 0].mT
        nearest = torch.cdist(true, posed).argmin(dim=2)[..., None].expand(-1, -1, 3)
        surface.append(((true - posed.gather(1, nearest)) * outwards.gather(1, nearest)).sum(dim=2).abs().mean(dim=1))
        beside = torch.rad2deg(rotation_angle(found.rotations[:, 0].double(), scene.rotations.double()))
        angles.append(beside[plain[scene.index]])
        accepted.append(found.accepted)
    distances, beside, shares = 1e3 * torch.cat(surface), torch.cat(angles), torch.cat(accepted)
    return {
        "instances": len(distances),
        "accepted": round(float(shares.float().mean()), 3),
        "surface_mm": [round(float(value), 2) for value in np.quantile(distances.numpy(), [0.5, 0.9])],
        "angle_deg": [round(float(value), 2) for value in np.quantile(beside.numpy(), [0.5, 0.9])],
        "under_5_deg": round(float((beside < 5).float().mean()), 3),
    }


def milliseconds(objects: ObjectSet, points: VisiblePoints, count: int) -> dict[str, float]:
    """The least of many runs on one image of so many parts, with and without second tries."""
    usual = depth_refinement.SECOND_TRY
    try:
        depth_refinement.SECOND_TRY = -2.0
        once = least(objects, points, count)
    finally:
        depth_refinement.SECOND_TRY = usual
    return {"all": least(objects, points, count), "without second tries": once}


def least(objects: ObjectSet, points: VisiblePoints, count: int) -> float:
    """Milliseconds, the least of many runs."""
    diameters = torch.tensor([item.diameter for item in objects], dtype=torch.float32)
    scene = make_scene(objects, count, 1)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        align(scene, scene.depth, diameters, points)
        taken.append(time.perf_counter() - start)
    return round(1e3 * min(taken), 2)


def rendering_milliseconds(settings: Sequence[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """The least of many runs on eight objects of one image, by (hypotheses of each object, steps), taken in turn."""
    bundle = load_bundle(share_folder() / "models" / "demo_parts.pose.pt")
    if bundle.refiner is None:
        raise ValueError("models/demo_parts.pose.pt has no refiner")
    centres = np.array([item.centre for item in bundle.metadata.objects], dtype=np.float32)
    refiner = RenderRefiner(bundle.refiner, bundle.fine_meshes, centres, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (480, 640, 3), dtype=torch.uint8, generator=generator)
    boxes = 100 + 100 * torch.rand(RENDERED, 4, generator=generator)
    index = torch.arange(RENDERED) % len(bundle.metadata.objects)
    distances = torch.full((RENDERED,), DISTANCE)
    taken: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    for _ in range(REPEATS):
        for count, steps in settings:
            rotations = random_rotations(RENDERED * count, generator).unflatten(0, (RENDERED, count))
            start = time.perf_counter()
            with torch.inference_mode():
                refiner.refine(image, boxes, index, rotations, distances, steps)
            taken[count, steps].append(time.perf_counter() - start)
    return {setting: round(1e3 * min(times), 1) for setting, times in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=10, help="of ten parts (default: 10)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: 2)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator()  # as the node does
    objects = ObjectSet.load(share_folder() / "models" / "parts")
    scenes = [make_scene(objects, len(objects), seed) for seed in range(options.scenes)]
    points = {faces: tables(objects, faces) for faces in FACES}
    usual = points[500]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": {"processor": processor_name(), "cores": os.cpu_count(), "threads": options.threads},
        "torch": torch.__version__,
        "least_ms": {f"{count} objects": milliseconds(objects, usual, count) for count in COUNTS},
        "rendering_least_ms": {
            f"{RENDERED} objects, {count} hypotheses, {steps} steps": spent
            for (count, steps), spent in rendering_milliseconds(RENDERINGS).items()
        },
        "faces": {str(faces): accuracy(objects, scenes, table, DepthNoise()) for faces, table in points.items()},
        "noise_mm": {f"{noise:g}": accuracy(objects, scenes, usual, DepthNoise(sigma=noise / 1e3)) for noise in NOISES},
    }
    emit(result, options.json)


if __name__ == "__main__":
    main()
