"""What a bundle costs: parameters, file, peak memory, and milliseconds from a uint8 frame to rotations.

Systems are timed side by side in one process, turn by turn, so that a machine's moods meet all of them; memory is
measured in a process of its own a bundle. Run as a module it is that process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.estimator import PoseEstimator, choose_device

IMAGE_SIZE = (540, 720)  # of the timed frame, as T-LESS
IN_SEQUENCE = 7  # crops one after the other, as the paper times them
BATCHES = (1, 7, 32, 64)


@dataclass(frozen=True)
class Size:
    """How large a bundle is.

    Attributes:
        parameters: numbers in the whole network, buffers with learnt or stored content included.
        head_parameters: of these without the encoder.
        file_bytes: of the bundle.
        peak_bytes: by which the process grew at most, loading it and running a batch of 7 crops; on a GPU what torch
            held there at most.
    """

    parameters: int
    head_parameters: int
    file_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds, from frame to rotations.

    Attributes:
        in_sequence: IN_SEQUENCE crops, one call each, for all of them.
        batches: one call with that many crops, for all of them.
    """

    in_sequence: float
    batches: Mapping[int, float]


def measure_size(path: str | Path, device: str = "cpu", precision: str = "auto") -> Size:
    """Size of a bundle; raises BundleError if it cannot be used.

    Args:
        path: of the bundle.
        device: where its memory is measured.
        precision: that its encoder runs in there.
    """
    network = load_bundle(path).module.get_submodule("network")
    counts = {name: tensor.numel() for name, tensor in network.state_dict().items() if "num_batches" not in name}
    without = sum(count for name, count in counts.items() if not name.startswith("encoder."))
    command = [sys.executable, "-m", "shared_pose_ros.evaluation.inference_cost", str(path), device, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"memory of {path} could not be measured: {' '.join(done.stderr.split())[-300:]}")
    return Size(sum(counts.values()), without, Path(path).stat().st_size, json.loads(done.stdout)["peak_bytes"])


def measure_timings(
    estimators: Sequence[PoseEstimator], batches: Sequence[int] = BATCHES, seconds: float = 2.0
) -> list[Timing]:
    """Time several systems side by side.

    Args:
        estimators: the systems, on their devices.
        batches: numbers of crops in one call.
        seconds: spent on each system and case, at least three rounds.

    Returns:
        One timing per system.
    """
    spent = [take_turns(estimators, count, 1, seconds) for count in batches]
    in_sequence = take_turns(estimators, 1, IN_SEQUENCE, seconds)
    return [
        Timing(
            statistics.median(in_sequence[number]),
            {count: statistics.median(times[number]) for count, times in zip(batches, spent)},
        )
        for number in range(len(estimators))
    ]


def take_turns(
    estimators: Sequence[PoseEstimator], count: int, repeats: int, seconds: float, pause: float = 0.0
) -> list[list[float]]:
    """Milliseconds of every turn of every system, in turns, after one turn each that warms up.

    Args:
        estimators: the systems.
        count: crops in a call.
        repeats: calls in a turn.
        seconds: on average for each system, at least three turns.
        pause: seconds of rest before a turn, in which the threads of the system before stop spinning.
    """
    spent: list[list[float]] = [[] for _ in estimators]
    begin = time.perf_counter()
    while len(spent[0]) < 4 or time.perf_counter() - begin < seconds * len(estimators):
        for times, estimator in zip(spent, estimators):
            time.sleep(pause)
            times.append(_milliseconds(estimator, count, repeats))
    return [times[1:] for times in spent]


def _milliseconds(estimator: PoseEstimator, count: int, repeats: int) -> float:
    image, boxes, index = noise_frame(count, len(estimator.metadata.objects))
    camera = np.array([[1075.0, 0, 360], [0, 1075.0, 270], [0, 0, 1]])
    begin = time.perf_counter()
    for _ in range(repeats):
        estimator.estimate(image, boxes, index, camera)  # the answer is on the CPU: nothing is left running
    return 1e3 * (time.perf_counter() - begin)


def noise_frame(count: int, objects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame of noise, and boxes of 60 to 180 pixels all over it."""
    dice = np.random.default_rng(count)
    image = dice.integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)
    centres = dice.uniform((90, 90), (IMAGE_SIZE[1] - 90, IMAGE_SIZE[0] - 90), (count, 2))
    return image, np.concatenate([centres, dice.uniform(60, 180, (count, 2))], axis=1), np.arange(count) % objects


def _peak_bytes(path: str, device: torch.device, precision: str) -> int:
    torch.zeros(8, 8, device=device).square().sum().item()  # what torch itself takes is not the bundle's
    # The peak so far is that of the imports; Linux forgets it when asked (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    estimator = PoseEstimator.load(path, str(device), precision)
    estimator.estimate(*noise_frame(IN_SEQUENCE, len(estimator.metadata.objects)))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    """A figure of this process, such as VmRSS, of Linux' /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps({"peak_bytes": _peak_bytes(sys.argv[1], choose_device(sys.argv[2]), sys.argv[3])}))
