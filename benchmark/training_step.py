"""Where the time and the memory of a training step go, and how fast the whole loop is. Prints JSON.

    python benchmark/training_step.py [--objects models/parts] [--preset compact_fine] [--device auto] [--json OUT]

All parts are timed in one run, one after another, median of several repetitions. Memory is what autograd keeps for the
backward pass, counted tensor by tensor, so it does not depend on an allocator.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from output import emit
from torch import Tensor

from shared_pose_ros.estimator import choose_device
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.allocator import tune_allocator
from shared_pose_ros.training import objective as objective_terms
from shared_pose_ros.training.config import TrainingConfig, load_preset
from shared_pose_ros.training.provenance import processor_name
from shared_pose_ros.training.trainer import Trainer

REPETITIONS = 15


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Median milliseconds of a call, after two to warm up."""
    durations = []
    for repetition in range(REPETITIONS + 2):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repetition >= 2:
            durations.append(1e3 * (time.perf_counter() - start))
    return statistics.median(durations)


def saved_bytes(function: Callable[[], Any]) -> int:
    """Bytes of the distinct storages that autograd saves while ``function`` runs."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    del result
    return sum(storages.values())


def made(objects: ObjectSet, config: TrainingConfig, device: torch.device, out: Path) -> Trainer:
    """A trainer with a small validation set."""
    config = dataclasses.replace(config, validation_samples=8, validation_every=10**9)
    return Trainer(objects, config, out, device)


def parts_of_a_step(trainer: Trainer) -> dict[str, float]:
    """Milliseconds a sample of each part, the depth loss included."""
    device, batch = trainer.device, trainer._batch(0)
    network, objective = trainer.network.train(), trainer.objective
    code, maps = network.code_and_maps(batch.crops)
    rotations, logits = network.hypotheses(code.detach(), batch.object_index)
    held = rotations.detach().requires_grad_(True), logits.detach().requires_grad_(True)

    def depth() -> Tensor:
        return objective_terms.depth(objective.predictions(batch, *held, [], 1.0))

    def whole() -> Tensor:
        return objective(network, batch, 0.999).total

    def with_autocast() -> Any:
        with torch.autocast(device.type, objective.autocast, enabled=objective.autocast is not None):
            return network.code_and_maps(batch.crops)

    forward, depth_forward = timed(whole, device), timed(depth, device)
    times = {
        "synthesis": timed(lambda: trainer._batch(0), device),
        "encoder_forward": timed(with_autocast, device),
        "head_forward": timed(lambda: network.hypotheses(code.detach(), batch.object_index), device),
        "depth_loss_forward": depth_forward,
        "depth_loss_backward": timed(lambda: depth().backward(), device) - depth_forward,
        "all_losses_forward": forward,
        "all_losses_backward": timed(lambda: whole().backward(), device) - forward,
        "optimiser": timed(lambda: trainer.optimizer.step(1e-6), device),
    }
    return {name: round(value / trainer.config.batch_size, 4) for name, value in times.items()}


def loop_rate(trainer: Trainer, seconds: float) -> float:
    """Samples a second of the real loop, its first three seconds left out."""
    marks: list[tuple[float, int]] = []
    trainer.train(seconds + 3.0, lambda progress: marks.append((time.perf_counter(), progress.samples)))
    start = next(mark for mark in marks if mark[0] >= marks[0][0] + 3.0)
    return (marks[-1][1] - start[1]) / (marks[-1][0] - start[0])


def depth_loss_cost(
    objects: ObjectSet, config: TrainingConfig, device: torch.device, out: Path, **loss: Any
) -> dict[str, Any]:
    """Time and saved memory of the depth loss under changed settings."""
    hypotheses = loss.pop("hypotheses", config.hypotheses)
    changed = dataclasses.replace(config, hypotheses=hypotheses, loss=dataclasses.replace(config.loss, **loss))
    trainer = made(objects, changed, device, out)
    batch = trainer._batch(0)
    with torch.no_grad():
        rotations, logits = trainer.network(batch.crops, batch.object_index)
    held = rotations.requires_grad_(True), logits.requires_grad_(True)

    def depth() -> Tensor:
        return objective_terms.depth(trainer.objective.predictions(batch, *held, [], 1.0))

    milliseconds = timed(lambda: depth().backward(), device) / changed.batch_size
    return {"ms_a_sample": round(milliseconds, 4), "saved_mb": round(saved_bytes(depth) / 1e6, 3)}


def memory_by_batch(objects: ObjectSet, config: TrainingConfig, device: torch.device, out: Path) -> dict[int, float]:
    """Megabytes saved for the backward pass of a whole step."""
    found = {}
    for size in (16, 32, 64, 128):
        trainer = made(objects, dataclasses.replace(config, batch_size=size), device, out)
        batch = trainer._batch(0)
        found[size] = round(saved_bytes(lambda t=trainer, b=batch: t.objective(t.network, b, 0.999).total) / 1e6, 2)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=Path, default=Path("models/parts"))
    parser.add_argument("--preset", default="compact_fine")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of torch; synthesis has as many of its own")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run of the whole loop")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator()
    objects, config, device = (
        ObjectSet.load(options.objects),
        load_preset(options.preset),
        choose_device(options.device),
    )
    begin = dataclasses.replace(config.loss, depth_start=1.0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        faces = (200, 400, 1600, 0)
        subsets = {count: ObjectSet(list(objects)[:count]) for count in (1, 5, len(objects))}
        rates = {
            "before_depth_start": loop_rate(
                made(objects, dataclasses.replace(config, loss=begin), device, out / "a"), options.seconds
            ),
            "with_depth_loss": loop_rate(
                made(objects, dataclasses.replace(config, loss=dataclasses.replace(config.loss, depth_start=0.0)),
                     device, out / "b"),
                options.seconds,
            ),
        }  # fmt: skip
        result = {
            "command": " ".join(["python", *sys.argv]),
            "hardware": {
                "processor": processor_name(),
                "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
                "torch_threads": options.threads,
            },
            "torch": torch.__version__,
            "preset": options.preset,
            "crop_size": config.crop_size,
            "batch_size": config.batch_size,
            "hypotheses": config.hypotheses,
            "objects": len(objects),
            "ms_a_sample": parts_of_a_step(made(objects, config, device, out)),
            "samples_a_second": {name: round(rate, 1) for name, rate in rates.items()},
            "depth_loss_by_objects": {n: depth_loss_cost(s, config, device, out) for n, s in subsets.items()},
            "depth_loss_by_hypotheses": {
                n: depth_loss_cost(objects, config, device, out, hypotheses=n) for n in (1, 3, 6, 10)
            },
            "depth_loss_by_faces": {n: depth_loss_cost(objects, config, device, out, face_budget=n) for n in faces},
            "saved_mb_by_batch_size": memory_by_batch(objects, config, device, out),
        }
    emit(result, options.json)


if __name__ == "__main__":
    main()
