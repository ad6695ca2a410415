"""The refiner's training by its public face: it learns, resumes exactly, ends with small rates in time, hands over."""

import json
import math
import time

import pytest
import torch
from refiner_run import fresh_refiner, make_refiner_trainer, write_images

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training import refiner_trainer
from shared_pose_ros.training.checkpoint import CheckpointError, load_checkpoint
from shared_pose_ros.training.refiner_trainer import average_weights, refiner_optimizer
from shared_pose_ros.training.refiner_weights import refiner_on_encoder, refiner_weights
from shared_pose_ros.training.training_log import read_log


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(photographs, images, tmp_path_factory):
    """The folder of a finished training of six steps; read it, do not train in it."""
    folder = tmp_path_factory.mktemp("runs") / "refiner"
    make_refiner_trainer(folder, photographs, images).train()
    return folder


class StoppedError(Exception):
    """Ends a training from its report."""


@pytest.mark.slow
def test_a_handful_of_pairs_is_learnt(tmp_path, photographs, images):
    trainer = make_refiner_trainer(tmp_path, photographs, images, samples=64, ramp_samples=0, random_share=0.0)
    fixed = trainer.synthesizer.pairs(4, torch.Generator().manual_seed(0))
    trainer.synthesizer.pairs = lambda *arguments: fixed
    terms = []
    trainer.train(report=lambda progress: terms.append(progress.terms))
    assert len(terms) == 16
    for name in ("increment", "before", "after"):
        first, last = terms[0].parts[name].item(), sum(each.parts[name].item() for each in terms[-5:]) / 5
        assert last < (0.5 * first if name == "increment" else first - 0.3), name


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, photographs, images, finished):
    halved = make_refiner_trainer(tmp_path, photographs, images)

    def stop(progress):
        if progress.samples == 12:
            halved.save()
            raise StoppedError

    with pytest.raises(StoppedError):
        halved.train(report=stop)
    torch.manual_seed(12345)  # nothing may hang on the process's own random state
    resumed = make_refiner_trainer(tmp_path, photographs, images, resume=True)
    assert resumed.step == 3
    resumed.train()
    first, second = (load_checkpoint(folder / "checkpoint.pt") for folder in (finished, tmp_path))
    assert first["step"] == second["step"] == 6
    for key in ("network", "refiner"):
        for name, tensor in first[key].items():
            assert torch.equal(tensor, second[key][name]), name
    for old, new in zip(first["optimizer"], second["optimizer"]):
        for index, state in old["state"].items():
            for field, value in state.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(new["state"][index][field]))


def test_the_folder_holds_what_the_docs_say(finished, photographs, images):
    files = {"checkpoint.pt", "config.json", "log.jsonl", "report.html", "tensorboard"}
    assert {path.name for path in finished.iterdir()} == files
    assert json.loads((finished / "config.json").read_text())["hypotheses"] == 2
    records = read_log(finished / "log.jsonl")
    assert [record["samples"] for record in records] == [8, 16, 24]
    state = load_checkpoint(finished / "checkpoint.pt")
    assert records[-1]["validation/median_50"] == state["metrics"]["validation"]["median_50"] > 0
    page = (finished / "report.html").read_text()
    assert f"{records[-1]['validation/median_50_refined']:.1f}" in page and "24 crops with 2 hypotheses each" in page
    refiner = refiner_weights(finished)
    assert not refiner.training
    assert all(torch.equal(tensor, state["refiner"][name]) for name, tensor in refiner.state_dict().items())


def test_the_averaged_weights_are_the_plain_mean_at_first_and_keep_the_norms_statistics():
    network, averaged = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    torch.nn.init.constant_(network.weight, 3.0)
    network.running_mean += 2.0
    average_weights(averaged, network, kept=0.75)
    assert averaged.weight.tolist() == [1.5, 1.5] and averaged.running_mean.tolist() == [0.5, 0.5]


def test_a_time_budget_ends_with_small_rates_and_counts_over_sittings(tmp_path, photographs, images, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(refiner_trainer.time, "monotonic", lambda: now[0])
    rates, fractions = [], []

    def sitting(stop_after=None, **options):
        trainer = make_refiner_trainer(tmp_path, photographs, images, samples=8, **options)  # samples do not count
        step = trainer.optimizer.step
        trainer.optimizer.step = lambda factor: (rates.append(factor), step(factor))

        def report(progress):
            fractions.append(progress.fraction)
            if trainer.step == stop_after:
                trainer.save()
                raise StoppedError
            now[0] += 1.0

        trainer.train(10.0, report)

    real = refiner_trainer.RefinerTrainer._train_step

    def second_long(trainer, *arguments):
        now[0] += 1.0
        return real(trainer, *arguments)

    monkeypatch.setattr(refiner_trainer.RefinerTrainer, "_train_step", second_long)
    with pytest.raises(StoppedError):
        sitting(stop_after=3)
    now[0] += 1000.0  # the time between two sittings is nobody's
    sitting(resume=True)
    assert fractions == pytest.approx([0.1, 0.3, 0.5, 0.6, 0.8, 1.0])
    expected = [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)) for part in (0.0, 0.1, 0.3, 0.5, 0.6, 0.8)]
    assert rates == pytest.approx(expected)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["seconds"] == pytest.approx(10.0)


def test_a_sitting_that_stops_early_leaves_the_rates_alone(tmp_path, photographs, images):
    trainer = make_refiner_trainer(tmp_path, photographs, images)
    rates = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda factor: (rates.append(factor), step(factor))

    def spend(progress):
        time.sleep(0.2 if progress.samples == 8 else 0.0)

    trainer.train(report=spend, stop_after=0.2)
    assert 1 <= trainer.step <= 2 and load_checkpoint(tmp_path / "checkpoint.pt")["step"] == trainer.step
    assert rates == pytest.approx([0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(trainer.step)])


def test_muon_has_a_smaller_rate_for_the_trunks(finished):
    refiner = fresh_refiner()
    config = refiner_trainer.RefinerConfig(muon_rate=0.01, trunk_rate=0.3, learning_rate=0.1)
    adam, muon = refiner_optimizer(refiner, config).optimizers
    assert [group["lr"] for group in muon.param_groups] == pytest.approx([0.003, 0.01])
    assert [len(group["params"]) for group in muon.param_groups] == [6, 4]
    weights = {name: p for name, p in refiner.named_parameters() if p.ndim >= 2}
    first_and_last = ("crop_blocks.0.convolution.weight", "render_blocks.0.convolution.weight", "output.weight")
    own = {id(p) for group in adam.param_groups for p in group["params"]}
    assert {name for name, p in weights.items() if id(p) in own} == set(first_and_last)


def test_it_begins_with_an_encoder_at_another_crop_size():
    torch.manual_seed(0)
    encoder = PoseNetwork(2, 2, "compact", 32).encoder
    refiner = refiner_on_encoder(encoder.state_dict(), 32, "here")
    crops = torch.rand(2, 3, 64, 64)
    maps = refiner.eval().seen(crops)
    torch.testing.assert_close(maps[-1], encoder.eval().blocks(crops))
    with pytest.raises(CheckpointError, match="here has an encoder that is not of width compact"):
        refiner_on_encoder(PoseNetwork(1, 2, "paper", 32).encoder.state_dict(), 32, "here")


def test_what_cannot_be_resumed_is_refused(tmp_path, photographs, images, finished, tiny_run):
    with pytest.raises(CheckpointError, match="exists; add --resume"):
        make_refiner_trainer(finished, photographs, images)
    with pytest.raises(CheckpointError, match=r"made with within 50\.0, this run has 40\.0"):
        make_refiner_trainer(finished, photographs, images, resume=True, within=40.0)
    with pytest.raises(CheckpointError, match="holds no refiner; give the folder of a shared_pose train-refiner"):
        make_refiner_trainer(tiny_run, photographs, images, resume=True)
    with pytest.raises(CheckpointError, match="holds no refiner"):
        refiner_weights(tiny_run)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        refiner_weights(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, photographs, images):
    begin = fresh_refiner()
    torch.nn.init.constant_(begin.hidden.weight, math.nan)
    trainer = make_refiner_trainer(tmp_path, photographs, images, begin=begin)
    with pytest.raises(FloatingPointError, match="lower learning_rate and --resume"):
        trainer.train()
    assert not (tmp_path / "checkpoint.pt").exists()
