"""The trainer by its public face: it learns, resumes exactly, refuses to overwrite, keeps to its time."""

import dataclasses
import json
import math
import shutil
import time

import pytest
import torch
from evaluation_scene import box_mesh, model
from training_run import TINY, make_trainer

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint, save_checkpoint
from shared_pose_ros.training.config import TUNINGS, LossConfig
from shared_pose_ros.training.trainer import learning_rate, set_tuning, train_mode
from shared_pose_ros.training.training_log import LOG_NAME, read_log


class StoppedError(Exception):
    """Raised by a report, as a kill would end a training."""


def stop_after(trainer, steps):
    """A report that saves and stops at a step, as the timed checkpoint before a kill would."""

    def report(progress):
        if progress.samples == steps * TINY.batch_size:
            trainer.save()
            raise StoppedError

    return report


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.slow
def test_the_loss_falls_on_a_fixed_batch(tmp_path, photographs, monkeypatch):
    trainer = make_trainer(tmp_path, photographs, samples=480, hypotheses=4, loss=LossConfig(size=16, depth_start=0.5))
    fixed = trainer.synthesizer.batch(8, torch.Generator().manual_seed(0))
    monkeypatch.setattr(trainer.synthesizer, "batch", lambda *arguments: fixed)
    terms = []
    trainer.train(report=lambda progress: terms.append(progress.terms))
    mixture, depth = ([term.parts[name].item() for term in terms] for name in ("mixture", "depth"))
    assert len(terms) == 60 and sum(mixture[25:30]) < 0.5 * sum(mixture[:5])
    # From its start on the depth loss joins in.
    assert max(depth[:30]) == 0 < min(depth[30:])
    assert depth[-1] < depth[30]


@pytest.mark.slow
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, photographs):
    whole = make_trainer(tmp_path / "whole", photographs)
    whole.train()
    halved = make_trainer(tmp_path / "halved", photographs)
    with pytest.raises(StoppedError):
        halved.train(report=stop_after(halved, 3))
    torch.manual_seed(12345)  # nothing may hang on the process's own random state
    resumed = make_trainer(tmp_path / "halved", photographs, resume=True)
    assert resumed.samples == 3 * TINY.batch_size
    resumed.train()
    assert resumed.samples == whole.samples == TINY.samples
    assert_equal(weights(whole), weights(resumed))
    first, second = (load_checkpoint(tmp_path / name / CHECKPOINT_NAME) for name in ("whole", "halved"))
    for key, state in first["optimizer"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["optimizer"][0]["state"][key][name])


@pytest.mark.slow
def as_an_older_version_wrote_it(path):
    """A checkpoint and its log with the names and without the settings that version 0.1 had in the beginning."""
    state = load_checkpoint(path)
    loss = state["config"]["loss"]
    for name, older in (("diversity", "spread"), ("auxiliary", "surface")):
        loss[f"{older}_weight"] = loss.pop(f"{name}_weight")
    loss["mixture_end"] = loss.pop("warm_up_end")
    del loss["depth_weight"]
    learnt = state["objective"]
    state["objective"] = {k.replace("term_modules.auxiliary.", "surface_decoder."): v for k, v in learnt.items()}
    save_checkpoint(path, state)
    log = path.parent / LOG_NAME
    log.write_text(log.read_text().replace("loss/diversity", "loss/spread").replace("loss/auxiliary", "loss/surface"))


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_goes_on(tmp_path, photographs):
    whole = make_trainer(tmp_path / "whole", photographs)
    whole.train()
    halved = make_trainer(tmp_path / "halved", photographs)
    with pytest.raises(StoppedError):
        halved.train(report=stop_after(halved, 3))
    as_an_older_version_wrote_it(halved.checkpoint_path)
    with pytest.raises(CheckpointError, match=r"made with loss\.depth_weight 1\.0, this run has 2\.0"):
        make_trainer(tmp_path / "halved", photographs, resume=True, loss=LossConfig(size=16, depth_weight=2.0))
    resumed = make_trainer(tmp_path / "halved", photographs, resume=True)
    resumed.train()
    assert_equal(weights(whole), weights(resumed))
    records = [read_log(tmp_path / name / LOG_NAME) for name in ("whole", "halved")]
    for first, second in zip(*records, strict=True):
        assert {k: v for k, v in first.items() if "speed" not in k} == {k: second[k] for k in first if "speed" not in k}


def test_another_seed_is_another_run(tmp_path, photographs):
    runs = []
    for name, seed in (("a", 1), ("b", 2)):
        trainer = make_trainer(tmp_path / name, photographs, samples=8, seed=seed)
        trainer.train()
        runs.append(weights(trainer)["head.output.weight"])
    assert not torch.equal(*runs)


def test_an_existing_run_is_never_overwritten(tiny_run, photographs):
    before = (tiny_run / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(CheckpointError, match="exists; add --resume"):
        make_trainer(tiny_run, photographs)
    assert (tiny_run / CHECKPOINT_NAME).read_bytes() == before


def test_resuming_needs_a_checkpoint_of_the_same_objects_and_shape(tiny_run, photographs, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        make_trainer(tmp_path / "empty", photographs, resume=True)
    others = ObjectSet((model("cube", box_mesh(0.05, 0.05, 0.05)), model("bar", box_mesh(0.1, 0.02, 0.02))))
    with pytest.raises(CheckpointError, match="other objects.*angle, spike.*cube, bar"):
        make_trainer(tiny_run, photographs, resume=True, objects=others)
    for change in ({"hypotheses": 3}, {"batch_size": 4}, {"seed": 9}, {"tuning": "frozen"}):
        (name,) = change
        with pytest.raises(CheckpointError, match=f"{name}.*resume with the same setting"):
            make_trainer(tiny_run, photographs, resume=True, **change)


def test_a_finished_run_resumes_to_nothing(tiny_run, photographs, tmp_path):
    trainer = make_trainer(shutil.copytree(tiny_run, tmp_path / "run"), photographs, resume=True)
    before = weights(trainer)
    seen = []
    result = trainer.train(report=seen.append)
    assert seen == [] and trainer.samples == TINY.samples and 0 <= result.median <= 180
    assert_equal(before, weights(trainer))


def test_a_time_budget_ends_the_run_with_a_checkpoint(tmp_path, photographs):
    trainer = make_trainer(tmp_path, photographs, samples=10**6)
    started = time.monotonic()
    trainer.train(time_budget=0.5)
    assert time.monotonic() - started < 60
    assert 0 < trainer.samples < 10**6
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)["step"] * TINY.batch_size == trainer.samples


@pytest.mark.slow
def test_progress_counts_samples_and_estimates_the_time_left(tmp_path, photographs):
    seen = []
    make_trainer(tmp_path, photographs).train(report=seen.append)
    assert [progress.samples for progress in seen] == list(range(8, 49, 8))
    assert all(progress.total == 48 and progress.samples_per_second > 0 for progress in seen)
    assert seen[-1].seconds_left == 0 and seen[0].seconds_left > 0
    assert all(torch.isfinite(progress.terms.total) for progress in seen)
    assert seen[-1].validation is not None


def test_the_folder_tells_how_it_was_made(tiny_run):
    assert json.loads((tiny_run / "config.json").read_text())["crop_size"] == 32
    state = load_checkpoint(tiny_run / CHECKPOINT_NAME)
    assert state["preset"] == "tiny" and state["step"] == 6
    assert [entry["class_id"] for entry in state["objects"]] == ["angle", "spike"]
    assert "median" in state["metrics"]["validation"] and "protocol" in state["metrics"]["validation"]
    assert list((tiny_run / "tensorboard").iterdir())
    assert not list(tiny_run.glob("*.partial"))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_tuning_decides_which_weights_move(tuning, tmp_path, photographs):
    trainer = make_trainer(tmp_path, photographs, tuning=tuning, samples=16)
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    convolutions = {name for name in before if name.startswith("encoder.blocks.")}
    last_layer = {name for name in before if name.startswith("encoder.linear.")}
    # Weights, and the norms' running statistics: a frozen encoder keeps both.
    assert convolutions.isdisjoint(moved) == (tuning != "full")
    assert last_layer.isdisjoint(moved) == (tuning == "frozen")
    assert "head.output.weight" in moved and "head.layer1.1.running_mean" in moved


def test_train_mode_keeps_frozen_norms_in_evaluation_mode():
    network = PoseNetwork(1, 2, "compact", 16)
    for tuning in TUNINGS:
        set_tuning(network, tuning)
        train_mode(network, tuning)
        assert network.head.training and network.encoder.blocks[0].norm.training == (tuning == "full")


def test_learning_rate_rises_and_falls_to_its_last_value():
    config = dataclasses.replace(
        TINY, samples=800, batch_size=8, warmup_steps=10, learning_rate=1e-3, final_learning_rate=1e-5
    )
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4, rel=0.01) and max(rates) < 1e-3
    assert rates[100] == pytest.approx(1e-5)
    assert all(later < earlier for earlier, later in zip(rates[10:], rates[11:]))
    constant = dataclasses.replace(config, final_learning_rate=1e-3, warmup_steps=1)
    assert {learning_rate(constant, step) for step in (0, 50, 100)} == {1e-3}
    # The paper's: 5e-4 -> 5e-3 (45 %) -> 5e-4 (45 %) -> 5e-6.
    cycle = dataclasses.replace(config, schedule="one_cycle", learning_rate=5e-3, final_learning_rate=5e-6)
    rates = [learning_rate(cycle, step) for step in (0, 45, 90, 100)]
    assert rates == pytest.approx([5e-4, 5e-3, 5e-4, 5e-6])
    assert learning_rate(cycle, 95) == pytest.approx((5e-4 + 5e-6) / 2)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, photographs):
    trainer = make_trainer(tmp_path, photographs)
    trainer.network.head.output.bias.data.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at sample 0.*learning_rate"):
        trainer.train()
