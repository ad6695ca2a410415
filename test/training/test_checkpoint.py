"""Checkpoints: whole or not at all, and refused with a reason."""

import numpy as np
import pytest
import torch
from evaluation_scene import box_mesh, model
from shapes import tiny_objects

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training import checkpoint
from shared_pose_ros.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    object_set_fingerprint,
    save_checkpoint,
)


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "checkpoint.pt"
    state = {"step": 7, "network": {"w": torch.randn(3, 2)}, "config": {"seed": 1, "loss": {"d_max": 30.0}}}
    save_checkpoint(path, state)
    found = load_checkpoint(path)
    assert found["step"] == 7 and found["config"] == state["config"]
    assert torch.equal(found["network"]["w"], state["network"]["w"])
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_failing_write_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def full_disk(state, stream):
        stream.write(b"half a chec")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(CheckpointError, match="could not be written.*No space left.*free space"):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_kill_between_writing_and_renaming_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    save_checkpoint(path, {"step": 3})  # what the kill left behind is no obstacle
    assert load_checkpoint(path)["step"] == 3


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(CheckpointError, match=f"no checkpoint at {path}"):
        load_checkpoint(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    save_checkpoint(path, {"network": {"w": torch.randn(1000)}})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    for foreign in ({"format": 99}, [1, 2, 3]):
        torch.save(foreign, path)
        with pytest.raises(CheckpointError, match="no checkpoint of format"):
            load_checkpoint(path)


def test_code_hidden_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "trap": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "sprung").exists()


def test_the_fingerprint_sees_geometry_ids_and_order():
    known = object_set_fingerprint(tiny_objects())
    assert known == object_set_fingerprint(tiny_objects())
    first, second = tiny_objects()
    taller = model("angle", box_mesh(0.06, 0.04, 0.0201))
    moved = model("spike", type(second.mesh)((second.mesh.vertices + np.float32(1e-4)), second.mesh.faces))
    others = [(second, first), (first,), (taller, second), (first, moved), (first, model("spoke", second.mesh))]
    prints = {object_set_fingerprint(ObjectSet(objects)) for objects in others}
    assert len(prints) == len(others) and known not in prints
