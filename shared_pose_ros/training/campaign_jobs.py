"""Campaigns: recipes of several trainings, and what of one is done.

A campaign is a YAML file (config/campaigns). Its runs are commands of ``shared_pose``: a key is an option, a value that
names another run stands for that run's folder. A run of seed S works in OUT/NAME-S; what is done is kept in
OUT/campaign.json, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared_pose_ros.resources import share_folder
from shared_pose_ros.training.config import RENAMED

RECORD_NAME = "campaign.json"
_DEFAULT_COMMAND = "train"
_KEYS = {"objects", "options", "seeds", "settings", "tta_rotations", "runs"}
_RUN_KEYS = {"command", "seeds", "settings"}
# The trainings; what else may be a run, build-codebook, writes a bundle in one go.
# Each with the option that ends a sitting; a refiner's rates follow its own time budget.
RESUMABLE = {"train": "time-budget", "train-encoder": "time-budget", "train-refiner": "stop-after"}
# Options whose value may name another run.
_REFERENCES = {"encoder", "start-from", "extend"}


# By the name of the job: its arguments, seconds that it took, whether it is done.
Record = dict[str, dict[str, Any]]


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
    runs: Mapping[str, Mapping[str, Any]] = values["runs"]
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


def _present_words(arguments: Iterable[str]) -> list[str]:
    parts = (word.partition("=") for word in arguments)
    return ["".join((RENAMED.get(name, name), *rest)) for name, *rest in parts]


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
        if entry["command"] not in RESUMABLE and key in ("seed", "backgrounds"):
            continue  # a codebook is the same every time
        if key in _REFERENCES and value in seeds:
            # The run of the same seed if there is one.
            value = out / f"{value}-{seed if seed in seeds[value] else seeds[value][0]}"
        for each in value if isinstance(value, list) else [value]:  # an option that may be repeated
            words += [f"--{key}"] if each is True else [f"--{key}", str(each)]
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
    if "turns" in values:
        said = f"{path}: turns is now tta_rotations; the old name goes in the next release"
        warnings.warn(said, FutureWarning, stacklevel=3)
        values["tta_rotations"] = values.pop("turns")
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise ValueError(f"campaign {path} has an unknown key {unknown[0]}; known: {', '.join(sorted(_KEYS))}")
    empty = [name for name, entry in values["runs"].items() if not isinstance(entry, dict)]
    if empty:
        raise ValueError(f"campaign {path}: run {empty[0]} has no options; give for example {{preset: compact}}")
    return values


def read_record(out: Path) -> Record:
    """What is done of the campaign in a folder, nothing of a new one."""
    path = out / RECORD_NAME
    return json.loads(path.read_text()) if path.is_file() else {}


def check_same(job: Job, record: Record, out: Path) -> None:
    """Raise ValueError if the job was begun with other arguments; older names of settings mean the same."""
    known = record.get(job.name)
    if known and _present_words(known["arguments"]) != _present_words(job.arguments):
        raise ValueError(
            f"{job.name} in {out} was begun as {' '.join(known['arguments'])}, now it is {' '.join(job.arguments)}; "
            f"give the same, another --out, or remove its folder and its entry in {RECORD_NAME}"
        )


def write_record(out: Path, record: Record) -> None:
    """Replace the record in one move."""
    new = out / f"{RECORD_NAME}.new"
    new.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(new, out / RECORD_NAME)
