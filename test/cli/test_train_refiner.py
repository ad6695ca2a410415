"""``shared_pose train-refiner`` as a user would type it; a user's mistake is one line and exit status 2."""

import pytest
import torch
from checkout import ROOT
from refiner_run import write_images
from shapes import tiny_objects, write_object_set

from shared_pose_ros.bundle import load_bundle
from shared_pose_ros.cli.main import main
from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.training.checkpoint import load_checkpoint
from shared_pose_ros.training.config import load_preset
from shared_pose_ros.training.refiner_weights import refiner_weights

SMALL = ("batch_size=2", "hypotheses=2", "validation_samples=2", "validation_every=2", "threads=1", "precision=fp32")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two folders of the same two parts: a set with a unit of its own, and bare files that need --unit."""
    folder = tmp_path_factory.mktemp("objects")
    write_object_set(folder / "set", tiny_objects())
    write_object_set(folder / "plain", tiny_objects()).unlink()
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def train(parts, images, photographs, tmp_path):
    """Run the command with a tiny training into ``tmp_path / out``."""

    def run(*more, out="run", objects=("--objects", parts / "set")):
        settings = [part for item in (*SMALL, f"images={images}") for part in ("--set", item)]
        words = ["train-refiner", *objects, "--backgrounds", photographs, "--out", tmp_path / out, "--device", "cpu"]
        return main([str(word) for word in (*words, *settings, *more)])

    return run


def mistake(capsys, status, *expected):
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    assert all(part in error for part in expected), error


@pytest.mark.slow
def test_from_an_encoder_through_two_trainings(train, tiny_bundle, parts, images, tmp_path, capsys):
    both = ("--objects", parts / "set", "--objects", parts / "plain", "--unit", "mm")
    assert train("--encoder", tiny_bundle, "--samples", 4, "--random-parts", 1, objects=both) == 0
    out = capsys.readouterr().out
    assert "4 samples of 5 objects" in out and "° from within 20°" in out and str(tmp_path / "run/checkpoint.pt") in out
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert [entry["class_id"] for entry in state["objects"]] == ["angle", "spike", "angle", "spike", "random_000000"]
    assert state["preset"] == "refiner" and state["step"] == 2
    assert train("--start-from", tmp_path / "run", "--samples", 2, out="more") == 0
    assert load_checkpoint(tmp_path / "more" / "checkpoint.pt")["earlier_samples"] == 4
    assert train("--samples", 6, "--resume", out="more") == 0
    assert load_checkpoint(tmp_path / "more" / "checkpoint.pt")["step"] == 3
    assert isinstance(refiner_weights(tmp_path / "more"), PoseRefiner)
    refined = tmp_path / "refined.pose.pt"
    words = ["export", str(tiny_bundle), "--refiner", str(tmp_path / "run"), "--out", str(refined)]
    assert main(words) == 0 and "refiner: yes" in capsys.readouterr().out
    facts = load_bundle(refined).refiner.facts
    assert (facts.samples, facts.objects, facts.crop_pad) == (
        4,
        "4 objects, 1 random parts",
        load_preset(str(images)).synthesis.crop_pad,
    )


def test_a_time_budget_is_the_whole_trainings(train, tmp_path, capsys):
    assert train("--time-budget", "0.001s") == 0
    assert "2 samples of 2 objects" in capsys.readouterr().out
    assert train("--time-budget", "0.001s", "--resume") == 0  # it is over
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 1


def test_mistakes(train, parts, images, tiny_run, tiny_bundle, tmp_path, capsys):
    models = ROOT / "models"
    plain = ("--objects", parts / "plain")
    mistake(capsys, train(objects=plain), "the unit of the mesh files is not known")
    mistake(
        capsys, train(*plain, "--unit", "mm", "--unit", "m", "--unit", "m"), "--unit is given 3 times", "one for each"
    )
    mistake(capsys, train("--random-parts", -1), "--random-parts is -1")
    mistake(capsys, train("--set", "perturbations=[1, 2]"), "perturbations is [1, 2]", "list of 5")
    mistake(capsys, train("--set", "random_share=0.9"), "random_share and flipped_share are 1.08 together", "at most 1")
    mistake(capsys, train("--network", models / "demo_parts.pose.pt"), "knows none of the objects", "leave it out")
    mistake(capsys, train("--network", tiny_bundle), "takes crops of 32 pixels", "leave that --network out")
    mistake(capsys, train("--set", "shares=2"), "shares are [2.0]", "from 0 to 1")
    mistake(capsys, train("--set", "shares=[0.7,0.4]"), "shares are [0.7, 0.4]", "at most 1 together")
    mistake(capsys, train("--set", "shares=half"), "shares is 'half'", "a list of numbers")
    mistake(capsys, train("--set", "images=none"), "no preset 'none'")
    mistake(capsys, train("--preset", "compact"), "unknown training setting")
    mistake(capsys, train("--start-from", tiny_run), "holds no refiner", "train-refiner")
    mistake(capsys, train("--encoder", tmp_path / "none"), "no checkpoint at")
    mistake(capsys, train("--resume"), "no checkpoint at")
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_another_width_is_refused(train, tmp_path, capsys):
    wide = {"format": 1, "encoder": {"blocks.0.convolution.weight": torch.zeros(128, 3, 5, 5)}}
    source = {"step": 1, "preset": "x", "commit": "y", "fingerprint": "z"}
    torch.save({**wide, **source, "config": {"width": "paper", "crop_size": 128}}, tmp_path / "encoder.pt")
    mistake(capsys, train("--encoder", tmp_path / "encoder.pt"), "not of width compact", "give one of that width")
