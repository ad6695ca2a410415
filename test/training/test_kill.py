"""A training killed at any moment leaves a checkpoint that can be read and resumed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from shapes import tiny_objects, write_object_set

from shared_pose_ros.training.checkpoint import load_checkpoint

SETTINGS = (
    "crop_size=32",
    "batch_size=8",
    "hypotheses=2",
    "validation_samples=8",
    "threads=1",
    "checkpoint_seconds=0.0",
)


def start(out, objects, *more):
    command = [sys.executable, "-m", "shared_pose_ros.cli.main", "train", "--objects", str(objects), "--out", str(out)]
    command += ["--preset", "compact"]
    command += [*(part for item in SETTINGS for part in ("--set", item)), "--device", "cpu", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy())


@pytest.mark.parametrize("delay", [0.0, 0.37])
@pytest.mark.slow
def test_sigkill_leaves_a_whole_checkpoint(tmp_path, delay):
    objects = write_object_set(tmp_path / "set", tiny_objects()).parent
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    process = start(tmp_path / "run", objects)
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)  # it saves after every step: the kill falls into a write or between two
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    step = load_checkpoint(checkpoint)["step"]
    assert step >= 1
    resumed = start(tmp_path / "run", objects, "--resume", "--samples", str((step + 2) * 8))
    assert resumed.wait(timeout=120) == 0
    assert load_checkpoint(checkpoint)["step"] == step + 2
