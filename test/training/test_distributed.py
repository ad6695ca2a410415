"""Two processes on one training: the same loss curve as one process at the same global batch, one set of files."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from shapes import tiny_objects, write_object_set

from shared_pose_ros.training.checkpoint import load_checkpoint
from shared_pose_ros.training.distributed import Processes

SETTINGS = (
    "crop_size=32",
    "batch_size=16",
    "hypotheses=2",
    "validation_samples=16",
    "threads=1",
    "validation_every=160",
)


def train(out, objects, processes, presets="compact", samples=960):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
    command = [sys.executable, *(launcher if processes > 1 else ()), "-m", "shared_pose_ros.cli.main", "train"]
    command += ["--objects", str(objects), "--out", str(out), "--samples", str(samples), "--device", "cpu"]
    command += ["--preset", presets]
    command += [part for item in SETTINGS for part in ("--set", item)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    stages = presets.count(",") + 1
    assert done.stdout.count("on synthetic validation") == stages  # the leader alone speaks
    if stages == 1:
        assert done.stdout.count(f"{samples} of {samples} samples") == 1
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_learn_as_one_does(tmp_path):
    objects = write_object_set(tmp_path / "set", tiny_objects()).parent
    alone, together = (train(tmp_path / str(count), objects, count) for count in (1, 2))
    assert [record["samples"] for record in alone] == [record["samples"] for record in together]
    losses = np.array([[record["loss/total"] for record in records] for records in (alone, together)])
    assert (losses[:, -1] < 0.8 * losses[:, 0]).all()
    # Half a batch of the loss' noise: the logged terms are the leader's share.
    assert abs(losses[0, 2:].mean() - losses[1, 2:].mean()) < 0.15 * losses[0, 2:].mean()
    states = [load_checkpoint(tmp_path / count / "checkpoint.pt") for count in ("1", "2")]
    assert states[0]["step"] == states[1]["step"] == 60


@pytest.mark.slow
def test_stages_follow_each_other_in_every_process(tmp_path):
    objects = write_object_set(tmp_path / "set", tiny_objects()).parent
    train(tmp_path / "run", objects, 2, presets="compact,compact_fine", samples=96)
    folders = (tmp_path / "run" / "1-compact", tmp_path / "run")
    first, last = (load_checkpoint(folder / "checkpoint.pt") for folder in folders)
    assert last["earlier_samples"] == first["step"] * 16 and first["step"] > 0 and last["preset"] == "compact_fine"


def test_a_batch_is_dealt_out_evenly_or_not_at_all():
    assert Processes(0, 4).share(32) == 8 and Processes().share(7) == 7
    with pytest.raises(ValueError, match="batch_size 30 is no multiple of the 4 processes"):
        Processes(1, 4).share(30)
    assert Processes(0, 1).leads and not Processes(1, 2).leads
    assert Processes().agree(True, torch.device("cpu"))
