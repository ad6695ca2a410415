"""Milliseconds from a uint8 frame to rotations, the bundle and its peers side by side, as JSON.

What is timed and how: benchmark/README.md. Run by ``make benchmark-inference``;
``--batches 1 2 --seconds 0`` only tries that it runs.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import inference_peers as peers
import numpy as np
import torch
from output import emit
from torch import nn

from shared_pose_ros.bundle import Bundle, BundleError, BundleMetadata, BundleObject, export_bundle, load_bundle
from shared_pose_ros.estimator import PoseEstimator, choose_device
from shared_pose_ros.evaluation.inference_cost import IMAGE_SIZE, measure_size, noise_frame, take_turns
from shared_pose_ros.network.backends.fused import FusedNetwork
from shared_pose_ros.network.backends.precision import usable_precisions
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.provenance import processor_name, source_commit

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (1, 7, 8, 32, 64)
PACKAGES = ("torch", "onnxruntime", "openvino", "opencv-python-headless", "numpy")
PAUSE = 0.02  # seconds: longer than OpenMP's and ONNX Runtime's threads spin after a call
GPU_PRECISIONS = ("fp32", "bf16", "fp16")
OURS = "this package"


def demo_network(path: Path) -> tuple[PoseNetwork, BundleMetadata]:
    """The trained network of a bundle, and its facts."""
    bundle = load_bundle(path)
    facts = bundle.metadata
    network = PoseNetwork(
        len(facts.objects), facts.hypotheses, facts.encoder_width, facts.crop_size, facts.normalize_code
    )
    network.load_state_dict(bundle.module.network.state_dict())
    return network.eval(), facts


def paper_network(objects: int, like: BundleMetadata) -> tuple[PoseNetwork, BundleMetadata]:
    """A network as wide as the paper's with random weights, which take as long as others, and facts for it."""
    torch.manual_seed(0)
    network = PoseNetwork(objects, 10, "paper", 128)
    learn_norms(network, like.crop_pad, 128)
    described = tuple(
        BundleObject(f"object_{i}", (), f"object {i}", 0.1, (0.06, 0.06, 0.06), (0.0, 0.0, 0.0), 0.03)
        for i in range(objects)
    )
    facts = dataclasses.replace(
        like, name="paper", objects=described, hypotheses=10, crop_size=128, encoder_width="paper", tta_rotations=1,
        normalize_code=False, storage="fp16", preset="random weights", samples=0, metrics={},
    )  # fmt: skip
    return network, facts


def learn_norms(network: PoseNetwork, pad: float, size: int) -> None:
    """Mean and deviation of every feature, as a training leaves them: int8 takes its ranges from them."""
    noise, boxes, _ = noise_frame(16, 1)
    crops = [crop_objects(torch.from_numpy(image), torch.from_numpy(boxes).float(), pad, size)
             for image in (noise, smooth_frame(noise))]  # fmt: skip
    for module in network.encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # those of these crops alone
    with torch.no_grad():
        network.train().encoder(normalize_crops(torch.cat(crops)))
    network.eval()


def smooth_frame(image: np.ndarray) -> np.ndarray:
    """Without fine noise, so that different ways to shrink a crop are no difference."""
    return cv2.normalize(cv2.GaussianBlur(image, (0, 0), 12), None, 0, 255, cv2.NORM_MINMAX)


def systems(
    network: PoseNetwork, facts: BundleMetadata, path: Path, threads: int, device: torch.device
) -> tuple[dict[str, PoseEstimator], dict[str, str], dict[str, str]]:
    """By name: what is timed, the precision of its convolutions, and why a system is missing."""
    shape = facts.crop_pad, facts.crop_size, facts.tta_rotations
    here = copy.deepcopy(network).to(device)
    modules: dict[str, nn.Module] = {"PyTorch, eager": peers.eager(here, *shape)}
    precisions, missing = {"PyTorch, eager": "fp32"}, {}
    made: dict[str, PoseEstimator] = {}
    for name in GPU_PRECISIONS if device.type == "cuda" else reversed(usable_precisions("auto", device)):
        try:
            made[name] = PoseEstimator.load(path, str(device), name)
        except (BundleError, ValueError) as error:
            missing[f"{OURS} {name}"] = str(error)
    fastest = list(made)[-1]
    if device.type == "cpu":
        modules |= _other_runtimes(network, shape, path.with_suffix(".onnx"), threads, precisions, missing)
    if facts.tta_rotations == 1:
        modules["one by one"], precisions["one by one"] = peers.OneByOne(here, *shape[:2]), "fp32"
        codebook = peers.codebook_of(here, len(facts.objects), facts.hypotheses).to(device)
        codebook = FusedNetwork(codebook, facts.crop_size, fastest)
        modules["codebook"], precisions["codebook"] = peers.eager(codebook, *shape), fastest
    found = {f"{OURS} {name}": estimator for name, estimator in made.items()}
    precisions |= {f"{OURS} {name}": name for name in made}
    found |= {name: PoseEstimator(Bundle(module, facts), device) for name, module in modules.items()}
    return found, precisions, missing


def _other_runtimes(
    network: PoseNetwork,
    shape: tuple[float, int, int],
    onnx: Path,
    threads: int,
    precisions: dict[str, str],
    missing: dict[str, str],
) -> dict[str, nn.Module]:
    """Those of the CPU, behind the package's cropping; adds to ``precisions`` and ``missing``."""
    modules: dict[str, nn.Module] = {}
    try:
        peers.write_onnx(network, shape[1], onnx)
        modules["ONNX Runtime"] = peers.eager(peers.onnx_runtime(network, onnx, threads), *shape)
        precisions["ONNX Runtime"] = "fp32"
    except ImportError as error:
        missing["ONNX Runtime"] = str(error)
    for name, precision in (("OpenVINO fp32", "f32"), ("OpenVINO", None)):
        try:
            foreign, precisions[name] = peers.openvino(network, onnx, threads, precision)
            modules[name] = peers.eager(foreign, *shape)
        except (ImportError, RuntimeError) as error:
            missing[name] = str(error).splitlines()[0]
    return modules


def summary(times: Iterable[float]) -> dict[str, float]:
    """Median and 90th percentile (linear between turns) of milliseconds, and the number of turns."""
    spent = list(times)
    middle, late = statistics.median(spent), float(np.quantile(spent, 0.9))
    return {"median": round(middle, 3), "p90": round(late, 3), "turns": len(spent)}


def disagreement(estimators: dict[str, PoseEstimator]) -> dict[str, float]:
    """Degrees between each system's and the eager network's most confident rotation, median of 32 crops."""
    reference = estimators["PyTorch, eager"]
    image, boxes, index = noise_frame(32, len(reference.metadata.objects))
    first = {name: one.estimate(smooth_frame(image), boxes, index).rotations[:, 0] for name, one in estimators.items()}
    traces = {name: np.einsum("bij,bij->b", r, first["PyTorch, eager"]) for name, r in first.items()}
    return {
        name: round(float(np.median(np.degrees(np.arccos(np.clip((t - 1) / 2, -1, 1))))), 3)
        for name, t in traces.items()
    }


def compare(
    network: PoseNetwork, facts: BundleMetadata, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, str]]:
    """All systems of one network in turns, and what is missing."""
    device, path = choose_device(options.device), folder / f"{facts.encoder_width}-{facts.tta_rotations}.pose.pt"
    facts = export_bundle(network, facts, path)
    estimators, precisions, missing = systems(network, facts, path, options.threads, device)
    rows = {name: {"precision": precisions[name], "ms": {}} for name in estimators}
    for name, degrees in disagreement(estimators).items():
        rows[name]["degrees_from_eager"] = degrees if name != "codebook" else None  # its codes are random
    for count in options.batches:
        spent = take_turns(list(estimators.values()), count, 1, options.seconds, PAUSE)
        for name, times in zip(estimators, spent):
            rows[name]["ms"][count] = summary(times)
        print(f"{path.stem}, {count} crops: done", file=sys.stderr)
    described = {
        "encoder": facts.encoder_width, "crop_size": facts.crop_size, "turns": facts.tta_rotations,
        "objects": len(facts.objects), "hypotheses": facts.hypotheses, "storage": facts.storage,
        "file_bytes": path.stat().st_size, "peak_bytes": measure_size(path, str(device)).peak_bytes, "systems": rows,
    }  # fmt: skip
    return described, missing


def bytes_of_an_object(like: BundleMetadata, folder: Path) -> int:
    """By which a 31st object makes the paper's bundle larger."""
    sizes = []
    for count in (30, 31):
        path = folder / f"objects-{count}.pose.pt"
        export_bundle(*paper_network(count, like), path)
        sizes.append(path.stat().st_size)
    return sizes[1] - sizes[0]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    network, facts = demo_network(options.bundle)
    cases = [(network, dataclasses.replace(facts, tta_rotations=count)) for count in (1, 4)] + [
        paper_network(30, facts)
    ]
    compared, missing = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            row, absent = compare(*case, Path(folder), options)
            compared.append(row)
            missing |= absent
        object_bytes = bytes_of_an_object(facts, Path(folder))
    return {
        "what": f"milliseconds from a {IMAGE_SIZE[1]}x{IMAGE_SIZE[0]} uint8 frame to rotations, all crops of a call",
        "command": shlex.join(["python", *sys.argv]),
        "date": date.today().isoformat(),
        "commit": source_commit(),
        "threads": options.threads,
        "hardware": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "gpu": torch.cuda.get_device_name() if choose_device(options.device).type == "cuda" else None,
        },
        "versions": {"python": platform.python_version(), **versions()},
        "missing": missing,
        "bytes_of_a_further_object": object_bytes,
        "networks": compared,
    }


def versions() -> dict[str, str | None]:
    """Of the packages that are installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "demo_parts.pose.pt", help="compact network")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="crops in a call")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="a system and batch (default: 1); three turns at least"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every system (default: all cores)")
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:N; other runtimes are the CPU's (default: cpu)"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    emit(run(options), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
