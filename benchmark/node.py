"""Measures the node as a process over a real DDS: overhead, latency by objects, start-up, memory, highest rate.

    python benchmark/node.py [--only overhead detections startup rate] [--seconds 18] [--json OUT]

Prints JSON; runs have the fields of ros2_benchmark's result files (times in ms). The cases are described in
docs/benchmarks/node.md.
"""

# ruff: noqa: E402 -- the node's way to wait is chosen before torch is imported
from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from shared_pose_ros.resources import share_cores, share_folder

share_cores()

from node_process import hardware, system_seconds
from output import emit

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.network.allocator import tune_allocator
from shared_pose_ros.replay.demo_live import prepare_environment
from shared_pose_ros.training.provenance import source_commit


def metadata(options: argparse.Namespace, weights: str, idle: float) -> dict[str, Any]:
    """BenchmarkMetadata of ros2_benchmark without the host's name, and what else a figure depends on."""
    import torch
    from node_input import data_hash, demo_bag

    data = demo_bag() / "demo_bag.mcap"
    found = {
        "NAME": "shared_pose_node",
        "TEST_DATETIME": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "DEVICE_ARCH": platform.machine(),
        "DEVICE_OS": f"{platform.system()} {platform.release()}",
        "IDLE_CPU_UTIL": round(idle, 1),
        "INPUT_DATA_PATH": data.relative_to(share_folder()).as_posix(),
        "INPUT_DATA_SIZE": data.stat().st_size,
        "INPUT_DATA_HASH": data_hash(),
        "CONFIG": f"parameters of config/shared_pose.yaml, max_batch 64 in detections; --seconds {options.seconds:g}",
    }
    return {
        **{f"BenchmarkMetadata.{name}": value for name, value in found.items()},
        "command": " ".join(["python", "benchmark/node.py", *sys.argv[1:]]),
        "commit": source_commit(),
        "bundle": options.bundle.name,
        "weights_sha256": weights,
        "hardware": hardware(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "dds_profile": Path(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).name,
    }


def idle_percent(seconds: float = 2.0) -> float:
    """Processor use in percent before anything was started: what else runs on the machine."""
    import time

    busy, everything = system_seconds()
    time.sleep(seconds)
    later_busy, later_everything = system_seconds()
    return 100 * (later_busy - busy) / (later_everything - everything)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases asked for."""
    from node_cases import CASES, Bench
    from node_stub import write_stub

    idle = idle_percent()
    known = load_bundle(options.bundle).metadata
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "stub.pose.pt"
        bundles = {"network": (options.bundle, known), "stub": (stub, write_stub(options.bundle, stub))}
        bench = Bench(bundles, options.logs, options.seconds, lambda text: print(text, file=sys.stderr, flush=True))
        measured = {name: CASES[name](bench) for name in options.only}
    return {"metadata": metadata(options, known.weights_sha256, idle), **measured}


def main() -> int:
    """Measure, print, write."""
    names = ("overhead", "detections", "startup", "rate")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=18.0, help="of the longest runs; the others in proportion")
    parser.add_argument("--bundle", type=Path, default=share_folder() / "models" / "demo_parts.pose.pt")
    parser.add_argument("--logs", type=Path, default=Path("out/benchmark"), help="folder for the node's logs")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    prepare_environment()
    # As the node does, for the network measured alone.
    tune_allocator()
    emit(run(options), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
