"""Depth renders a second, Warp against PyTorch3D, in one process on the CPU; see benchmark/README.md.

Run by ``make benchmark-renderers BENCHMARK_ARGS='--models DIR'``; ``--images 2 --seconds 0`` only tries that it runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from output import emit

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.depth import plane_depth
from shared_pose_ros.rendering.rasterizer import PackedMeshes, make_rasterizer, pack_meshes
from shared_pose_ros.training.losses import LOSS_DISTANCE, loss_camera
from shared_pose_ros.training.provenance import processor_name, source_commit

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64
HYPOTHESES = (1, 3, 10)
FACES = (200, 400, 1000, 5000)
PACKAGES = ("torch", "warp-lang", "easypytorch3d", "numpy")

Render = Callable[[PackedMeshes, torch.Tensor, torch.Tensor], torch.Tensor]


def backends() -> dict[str, Render]:
    """By name: (meshes, object_index (B,), rotation (B, 3, 3)) → depth (B, 64, 64), differentiable in rotation."""
    camera, size = loss_camera(SIZE), (SIZE, SIZE)
    warp, pytorch3d = make_rasterizer("warp"), make_rasterizer("pytorch3d")

    def pose(object_index: torch.Tensor, rotation: torch.Tensor) -> tuple[Any, ...]:
        translation = torch.tensor([0.0, 0.0, LOSS_DISTANCE]).expand(len(rotation), 3)
        return object_index, rotation, translation, camera, size

    def plane(meshes: PackedMeshes, object_index: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        arguments = pose(object_index, rotation)
        return plane_depth(warp.rasterize(meshes, *arguments), meshes, *arguments[1:4])

    def reference(meshes: PackedMeshes, object_index: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        return pytorch3d.draw(meshes, *pose(object_index, rotation))[1]

    return {"warp": plane, "pytorch3d": reference}


def milliseconds(job: Callable[[], object], seconds: float) -> float:
    """Median wall time of ``job``: three calls or more, as many as fit into ``seconds``, after one that warms up."""
    job()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        job()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(render: Render, meshes: PackedMeshes, object_index: torch.Tensor, seconds: float) -> dict[str, float]:
    """Cost of a batch of renders in random rotations, forward alone and with the backward pass."""
    count = len(object_index)
    rotation = random_rotations(count, torch.Generator().manual_seed(0)).requires_grad_(True)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return render(meshes, object_index, rotation)

    def both() -> None:
        rotation.grad = None
        render(meshes, object_index, rotation).sum().backward()

    result: dict[str, float] = {"renders": count}
    for name, job in (("forward", forward), ("forward_backward", both)):
        cost = milliseconds(job, seconds)
        result[f"{name}_ms_a_batch"] = round(cost, 3)
        result[f"{name}_renders_a_second"] = round(1e3 * count / cost, 2)
    return result


def compare(meshes: PackedMeshes, object_index: torch.Tensor, seconds: float) -> dict[str, Any]:
    """Both backends on one batch, one after the other, and how many times faster Warp is."""
    row: dict[str, Any] = {name: measure(render, meshes, object_index, seconds) for name, render in backends().items()}
    for name in ("forward", "forward_backward"):
        row[f"warp_is_faster_{name}"] = round(
            row["pytorch3d"][f"{name}_ms_a_batch"] / row["warp"][f"{name}_ms_a_batch"], 1
        )
    return row


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All tables."""
    objects = ObjectSet.load(options.models)
    budgeted = [model.normalized(options.face_budget) for model in objects]
    whole = [model.normalized() for model in objects]
    images, seconds, k = options.images, options.seconds, len(objects)
    mixed = torch.arange(images) % k
    tables: dict[str, Any] = {"full_resolution": [], "objects_in_a_batch": [], "hypotheses": [], "faces": []}
    for model, mesh in zip(objects, whole):
        row = compare(pack_meshes([mesh]), torch.zeros(min(images, options.whole), dtype=torch.int64), seconds)
        tables["full_resolution"].append({"class_id": model.class_id, "faces": len(mesh[1]), **row})
        print(f"full resolution {model.class_id}: {row['warp_is_faster_forward']}×", file=sys.stderr)
    for count in sorted({count for count in (1, 2, 5, 10, 20, k) if count <= k}):
        # The same renders, dealt to more objects of one size: a launch an object would cost in proportion.
        row = compare(pack_meshes(budgeted[:count]), torch.arange(images) % count, seconds)
        faces = [len(budgeted[index][1]) for index in (torch.arange(images) % count).tolist()]
        tables["objects_in_a_batch"].append({"objects": count, "mean_faces": sum(faces) / images, **row})
    for n in HYPOTHESES:
        index = mixed.repeat_interleave(1 + n)
        tables["hypotheses"].append({"hypotheses": n, **compare(pack_meshes(budgeted), index, seconds)})
    for budget in FACES:
        pack = pack_meshes([model.normalized(budget) for model in objects])
        faces = [len(model.normalized(budget)[1]) for model in objects]
        row = compare(pack, mixed, seconds)
        tables["faces"].append({"budget": budget, "mean_faces": sum(faces[i] for i in mixed.tolist()) / images, **row})
    return {**describe(options, k), **tables}


def describe(options: argparse.Namespace, objects: int) -> dict[str, Any]:
    """Under which conditions the figures were measured."""
    return {
        "what": f"depth renders {SIZE}x{SIZE}, median wall time, CPU, one process, Warp and PyTorch3D alternating",
        "command": shlex.join(["python", *sys.argv]),
        "date": date.today().isoformat(),
        "commit": source_commit(),
        "models": Path(options.models).name,
        "objects": objects,
        "face_budget": options.face_budget,
        "threads": torch.get_num_threads(),
        "hardware": {"processor": processor_name(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", type=Path, default=ROOT / "models" / "parts", help="object set (default: demo parts)"
    )
    parser.add_argument("--images", type=int, default=30, help="renders in a batch (default: 30)")
    parser.add_argument("--whole", type=int, default=1, help="renders in a batch at full resolution (default: 1)")
    parser.add_argument("--face-budget", type=int, default=400, help="faces elsewhere, as in training (default: 400)")
    parser.add_argument("--seconds", type=float, default=2.0, help="time a figure (default: 2); three calls at least")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1); Warp's kernel uses one")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    emit(run(options), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
