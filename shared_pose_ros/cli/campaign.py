"""``shared_pose campaign``: a recipe of several trainings, run one after the other, in pieces if need be.

A campaign is a YAML file (config/campaigns). Its runs are commands of this program: a key is an option, a value that
names another run stands for that run's folder. A run of seed S works in OUT/NAME-S; what is done is kept in
OUT/campaign.json, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared_pose_ros.bundle import SUFFIX
from shared_pose_ros.cli.common import parse_duration
from shared_pose_ros.cli.export import export_folder
from shared_pose_ros.cli.main import main
from shared_pose_ros.resources import share_folder

RECORD_NAME = "campaign.json"
_DEFAULT_COMMAND = "train"
_OLD_TTA_KEY = "turns"
_KEYS = {"objects", "options", "seeds", "settings", "tta_rotations", "runs"}
_RUN_KEYS = {"command", "seeds", "settings"}
# The trainings; what else may be a run, build-codebook, writes a bundle in one go.
_RESUMABLE = ("train", "train-encoder")
# Options whose value may name another run.
_REFERENCES = {"encoder", "start-from", "extend"}


@dataclass(frozen=True)
class Job:
    """One run with one seed.

    Attributes:
        name: NAME-SEED.
        arguments: the command line, but for --out and what may differ from sitting to sitting.
        tta_rotations: of the bundle that is exported afterwards, None for none.
    """

    name: str
    arguments: tuple[str, ...]
    tta_rotations: int | None


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
    record = _read_record(options.out)
    for job in jobs:
        _check_same(job, record, options.out)
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


def read_campaign(name_or_path: str, out: Path, common: dict[str, str], only: list[str] | None = None) -> list[Job]:
    """The jobs of a campaign in order: seed by seed, each with all runs as written.

    Args:
        name_or_path: in config/campaigns, or a YAML file.
        out: the campaign's folder, which references to other runs point into.
        common: options of every job, on top of the file's.
        only: names of the runs wanted, None for all.

    Raises:
        ValueError: no such file, an unknown key, or a name that is no run of it.
    """
    values = _read_yaml(name_or_path)
    runs: dict[str, dict[str, Any]] = values["runs"]
    unknown = sorted(set(only or ()) - set(runs))
    if unknown:
        raise ValueError(f"{name_or_path} has no run {unknown[0]}; its runs: {', '.join(runs)}")
    all_seeds = values.get("seeds", [0])
    seeds = {name: entry.get("seeds", all_seeds) for name, entry in runs.items()}
    jobs = []
    for seed in dict.fromkeys(seed for own in seeds.values() for seed in own):
        for name in only or runs:
            if seed in seeds[name]:
                jobs.append(_job(name, seed, values, common, seeds, out))
    return jobs


def _job(
    name: str, seed: int, values: dict[str, Any], common: dict[str, str], seeds: dict[str, list[int]], out: Path
) -> Job:
    entry = {"command": _DEFAULT_COMMAND, **values["runs"][name]}
    trains = entry["command"] == "train"
    own = {key: value for key, value in entry.items() if key not in _RUN_KEYS}
    shared = {"objects": values["objects"]} if "objects" in values else {}
    words = [entry["command"]]
    options = {**shared, **values.get("options", {}), **common, **own, "seed": seed}
    for key, value in options.items():
        if entry["command"] not in _RESUMABLE and key in ("seed", "backgrounds"):
            continue  # a codebook is the same every time
        if key in _REFERENCES and value in seeds:
            # The run of the same seed if there is one.
            value = out / f"{value}-{seed if seed in seeds[value] else seeds[value][0]}"
        words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    for key, value in {**(values.get("settings", {}) if trains else {}), **entry.get("settings", {})}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return Job(f"{name}-{seed}", tuple(words), values.get("tta_rotations", 4) if trains else None)


def _read_yaml(name_or_path: str) -> dict[str, Any]:
    path, folder = Path(name_or_path), share_folder() / "config" / "campaigns"
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise ValueError(f"no campaign {name_or_path!r}; choose one of {known} or give a YAML file")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"campaign {path} is no YAML ({error}); correct the file") from error
    if not isinstance(values, dict) or not isinstance(values.get("runs"), dict):
        raise ValueError(f"campaign {path} has no runs; see those in {folder}")
    if _OLD_TTA_KEY in values:
        print(f"{path}: {_OLD_TTA_KEY} is now tta_rotations; the old name goes in the next release", file=sys.stderr)
        values["tta_rotations"] = values.pop(_OLD_TTA_KEY)
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise ValueError(f"campaign {path} has an unknown key {unknown[0]}; known: {', '.join(sorted(_KEYS))}")
    empty = [name for name, entry in values["runs"].items() if not isinstance(entry, dict)]
    if empty:
        raise ValueError(f"campaign {path}: run {empty[0]} has no options; give for example {{preset: compact}}")
    return values


def _read_record(out: Path) -> dict[str, dict[str, Any]]:
    path = out / RECORD_NAME
    return json.loads(path.read_text()) if path.is_file() else {}


def _check_same(job: Job, record: dict[str, dict[str, Any]], out: Path) -> None:
    known = record.get(job.name)
    if known and known["arguments"] != list(job.arguments):
        raise ValueError(
            f"{job.name} in {out} was begun as {' '.join(known['arguments'])}, now it is {' '.join(job.arguments)}; "
            f"give the same, another --out, or remove its folder and its entry in {RECORD_NAME}"
        )


def _do(job: Job, out: Path, device: str, record: dict[str, dict[str, Any]], deadline: float) -> bool:
    """Run a job, from where it stopped; returns whether it is done."""
    started, left = time.monotonic(), deadline - time.monotonic()
    if left <= 0:
        return False
    entry = record.setdefault(job.name, {"arguments": list(job.arguments), "seconds": 0.0, "done": False})
    place = out / job.name
    words = [*job.arguments, "--device", device]
    if job.arguments[0] in _RESUMABLE:
        words += ["--out", str(place)]
        words += ["--resume"] if any(place.rglob("*.pt")) else []
        words += [] if math.isinf(left) else ["--time-budget", f"{max(left, 0.001):.3f}s"]
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
    _write_record(out, record)
    return entry["done"]


def _write_record(out: Path, record: dict[str, dict[str, Any]]) -> None:
    new = out / f"{RECORD_NAME}.new"
    new.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(new, out / RECORD_NAME)
