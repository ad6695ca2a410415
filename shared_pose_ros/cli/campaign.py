"""``shared_pose campaign``: a recipe of several trainings, run one after the other, in pieces if need be."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from shared_pose_ros.bundle import SUFFIX
from shared_pose_ros.bundle_export import export_folder
from shared_pose_ros.cli.common import parse_duration
from shared_pose_ros.cli.main import main
from shared_pose_ros.training.campaign_jobs import (
    RESUMABLE,
    Job,
    Record,
    check_same,
    read_campaign,
    read_record,
    write_record,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose campaign three-parts --out runs/three-parts --backgrounds photographs\n"
        "  shared_pose campaign three-parts --out runs/three-parts --backgrounds photographs --time-budget 10m\n"
        "  shared_pose campaign my.yaml --out runs/mine --only full --dry-run"
    )
    parser.add_argument("campaign", help="a name in config/campaigns, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder of all its runs; an existing one goes on")
    parser.add_argument("--objects", help="the CAD (default: the campaign's)")
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs (default: procedural pictures)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument("--only", help="names of runs, comma-separated (default: all)")
    parser.add_argument("--time-budget", type=parse_duration, help="stop after 90s, 30m, 1.5h …; run it again to go on")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and what is done, do nothing")


def run(options: argparse.Namespace) -> int:
    """Do what is not done yet; 1 when the time did not suffice."""
    given = {"objects": options.objects, "backgrounds": options.backgrounds}
    common = {key: str(value) for key, value in given.items() if value is not None}
    jobs = read_campaign(options.campaign, options.out, common, options.only.split(",") if options.only else None)
    record = read_record(options.out)
    for job in jobs:
        check_same(job, record, options.out)
    deadline = math.inf if options.time_budget is None else time.monotonic() + options.time_budget
    for job in jobs:
        known = record.get(job.name, {})
        if known.get("done"):
            print(f"{job.name}: done, {known['seconds']:.0f} s")
        elif options.dry_run:
            print(f"{job.name}: shared_pose {' '.join(job.arguments)}")
        elif not _do(job, options.out, options.device, record, deadline):
            print(f"the time is over within {job.name}; the same command goes on")
            return 1
    return 0


def _do(job: Job, out: Path, device: str, record: Record, deadline: float) -> bool:
    """Run a job, from where it stopped; returns whether it is done."""
    started, left = time.monotonic(), deadline - time.monotonic()
    if left <= 0:
        return False
    entry = record.setdefault(job.name, {"arguments": list(job.arguments), "seconds": 0.0, "done": False})
    place = out / job.name
    words = [*job.arguments, "--device", device]
    if job.arguments[0] in RESUMABLE:
        words += ["--out", str(place)]
        words += ["--resume"] if any(place.rglob("*.pt")) else []
        words += [] if math.isinf(left) else [f"--{RESUMABLE[job.arguments[0]]}", f"{max(left, 0.001):.3f}s"]
    else:
        words += ["--out", f"{place}{SUFFIX}"]
    print(f"{job.name}: shared_pose {' '.join(words)}", flush=True)
    if main(words) != 0:
        raise RuntimeError(f"{job.name} failed; the reason stands above")
    # A run that used up the time may be unfinished; if it is not, going on with it costs a moment.
    entry["done"] = time.monotonic() < deadline
    if entry["done"] and job.tta_rotations is not None:
        export_folder(place, out / f"{job.name}{SUFFIX}", job.tta_rotations)
    entry["seconds"] += time.monotonic() - started
    write_record(out, record)
    return bool(entry["done"])
