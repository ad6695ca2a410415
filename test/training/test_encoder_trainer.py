"""The encoder's pre-training by its public face: it learns, resumes exactly, refuses to overwrite, hands over."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from evaluation_scene import box_mesh, model
from shapes import tiny_objects
from training_run import PLAIN, UNCHANGED, make_trainer

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, CheckpointError, load_checkpoint
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.encoder_trainer import EncoderTrainer, bootstrapped_loss, reconstruction_picture
from shared_pose_ros.training.transfer import encoder_of_checkpoint

TINY = EncoderConfig(
    crop_size=32,
    steps=6,
    images_per_object=2,
    learning_rate=1e-3,
    final_learning_rate=1e-3,
    log_every=2,
    picture_every=4,
    precision="fp32",
    synthesis=PLAIN,
    augmentation=UNCHANGED,
)


def make_encoder_trainer(out, photographs, resume=False, objects=None, **changes):
    config = dataclasses.replace(TINY, **changes)
    return EncoderTrainer(objects or tiny_objects(), config, out, torch.device("cpu"), photographs, resume, "tiny")


@pytest.fixture(scope="module")
def tiny_encoder_run(photographs, tmp_path_factory):
    """The folder of a finished pre-training of six steps; read it, do not train in it."""
    folder = tmp_path_factory.mktemp("runs") / "encoder"
    make_encoder_trainer(folder, photographs).train()
    return folder


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


@pytest.mark.slow
def test_a_handful_of_images_is_learnt(tmp_path, photographs, monkeypatch):
    trainer = make_encoder_trainer(tmp_path, photographs, steps=80, crop_size=16)
    fixed = trainer.synthesizer.autoencoder_batch(2, torch.Generator().manual_seed(0))
    monkeypatch.setattr(trainer.synthesizer, "autoencoder_batch", lambda *arguments: fixed)
    losses = []
    trainer.train(report=lambda progress: losses.append(progress.loss))
    assert len(losses) == 80 and losses[-1] < losses[0] / 5


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, photographs, tiny_encoder_run):
    class StoppedError(Exception):
        pass

    halved = make_encoder_trainer(tmp_path, photographs)

    def stop(progress):
        if progress.step == 3:
            halved.save()
            raise StoppedError

    with pytest.raises(StoppedError):
        halved.train(report=stop)
    torch.manual_seed(12345)  # nothing may hang on the process's own random state
    resumed = make_encoder_trainer(tmp_path, photographs, resume=True)
    assert resumed.step == 3
    resumed.train()
    for name in ("encoder_training.pt", "encoder.pt"):
        first, second = (load_checkpoint(folder / name) for folder in (tiny_encoder_run, tmp_path))
        assert first["step"] == second["step"] == 6
        for key in {"network", "encoder"} & set(first):
            for tensor in first[key]:
                assert torch.equal(first[key][tensor], second[key][tensor]), tensor
        for index, state in first.get("optimizer", {"state": {}})["state"].items():
            for field, value in state.items():
                assert torch.equal(value, second["optimizer"]["state"][index][field])


def test_the_folder_holds_what_the_docs_say(tiny_encoder_run):
    names = {path.name for path in tiny_encoder_run.iterdir()}
    assert names == {"encoder.pt", "encoder_training.pt", "encoder.json", "reconstructions.png", "tensorboard"}
    assert json.loads((tiny_encoder_run / "encoder.json").read_text())["images_per_object"] == 2
    picture = cv2.imread(str(tiny_encoder_run / "reconstructions.png"))
    assert picture.shape == (2 * 3 * 64, 2 * 64, 3)
    # The targets' corners are black, the untrained decoder's grey.
    assert (picture[64:70, :6] == 0).all() and (picture[128:134, :6] > 20).all()
    state = load_checkpoint(tiny_encoder_run / "encoder.pt")
    assert state["preset"] == "tiny" and [entry["class_id"] for entry in state["objects"]] == ["angle", "spike"]
    assert not any(name.startswith("decoders") for name in state["encoder"])


def test_progress_and_the_log(tmp_path, photographs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = []
    loss = make_encoder_trainer(tmp_path, photographs).train(report=seen.append)
    assert 0 < loss < 1
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert all(progress.steps == 6 and progress.samples_per_second > 0 for progress in seen)
    assert seen[-1].seconds_left == 0 and seen[0].seconds_left > 0
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert [event.step for event in log.Scalars("autoencoder/loss")] == [2, 4, 6]
    assert log.Scalars("autoencoder/loss")[-1].value == pytest.approx(seen[-1].loss)
    (picture,) = log.Images("autoencoder/reconstructions")
    assert picture.step == 4 and (picture.height, picture.width) == (384, 128)


def test_a_time_budget_ends_the_run_with_a_checkpoint(tmp_path, photographs):
    trainer = make_encoder_trainer(tmp_path, photographs, steps=10**6)
    trainer.train(time_budget=0.3)
    assert 0 < trainer.step < 10**6
    assert load_checkpoint(tmp_path / "encoder_training.pt")["step"] == trainer.step


def test_what_cannot_go_on_is_refused(tmp_path, photographs, tiny_encoder_run):
    with pytest.raises(CheckpointError, match="exists; add --resume"):
        make_encoder_trainer(tiny_encoder_run, photographs)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        make_encoder_trainer(tmp_path, photographs, resume=True)
    others = ObjectSet((model("cube", box_mesh(0.05, 0.05, 0.05)), model("bar", box_mesh(0.1, 0.02, 0.02))))
    with pytest.raises(CheckpointError, match="other objects.*angle, spike.*cube, bar"):
        make_encoder_trainer(tiny_encoder_run, photographs, resume=True, objects=others)
    for change in ({"bootstrap": 3}, {"seed": 9}, {"final_learning_rate": 1e-5}):
        (name,) = change
        with pytest.raises(CheckpointError, match=f"{name}.*resume with the same setting"):
            make_encoder_trainer(tiny_encoder_run, photographs, resume=True, **change)
    # At a constant rate, more steps are only a longer training.
    assert make_encoder_trainer(tiny_encoder_run, photographs, resume=True, steps=8).step == 6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, photographs):
    trainer = make_encoder_trainer(tmp_path, photographs)
    trainer.network.encoder.linear.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="loss is nan at step 0.*learning_rate"):
        trainer.train()


@pytest.mark.slow
def test_a_pose_training_begins_with_the_encoder_and_remembers_it(tmp_path, photographs, tiny_encoder_run):
    source = encoder_of_checkpoint(tiny_encoder_run)
    assert (source.width, source.crop_size, source.source["step"]) == ("compact", 32, 6)
    trainer = make_trainer(tmp_path, photographs, encoder=source, tuning="frozen", normalize_code=True)
    trainer.train()
    trained = trainer.network.encoder.state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in source.encoder.items())
    resumed = make_trainer(tmp_path, photographs, resume=True, tuning="frozen", normalize_code=True)
    resumed.save()
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)["encoder_source"] == source.source
    code = trainer.network.code(torch.rand(2, 3, 32, 32))
    np.testing.assert_allclose(code.detach().norm(dim=1), 1.0, atol=1e-5)


def naive_loss(reconstructions, targets, ratio):
    """Sort every image's squared errors, average the largest, then average over the images."""
    means = []
    for image, target in zip(reconstructions.tolist(), targets.tolist()):
        errors = [
            (a - b) ** 2
            for plane, wanted in zip(image, target)
            for row, wanted_row in zip(plane, wanted)
            for a, b in zip(row, wanted_row)
        ]
        errors.sort(reverse=True)
        kept = errors[: len(errors) // ratio]
        means.append(sum(kept) / len(kept))
    return sum(means) / len(means)


@pytest.mark.parametrize("ratio", [1, 3, 4])
def test_the_loss_is_that_of_the_hardest_values_of_each_image(ratio):
    torch.manual_seed(0)
    images, targets = torch.rand(3, 3, 6, 5, dtype=torch.float64), torch.rand(3, 3, 6, 5, dtype=torch.float64)
    images[1] *= 9  # one bad image must not take the others' share
    found = bootstrapped_loss(images, targets, ratio)
    assert found.item() == pytest.approx(naive_loss(images, targets, ratio), rel=1e-12)


def test_easy_values_have_no_gradient():
    images = torch.zeros(1, 3, 4, 4, requires_grad=True)
    targets = torch.zeros(1, 3, 4, 4)
    targets[0, 0, :3] = 1.0  # a quarter of the 48 values
    bootstrapped_loss(images, targets, 4).backward()
    assert torch.equal(images.grad != 0, targets > 0)


def test_the_picture_has_rows_of_input_target_and_reconstruction():
    # Two objects, three images each: sample i is a flat grey of (i + 1)/10, its target and reconstruction 0 and 1.
    crops = (torch.arange(6) / 10 + 0.1)[:, None, None, None].expand(6, 3, 32, 32)
    picture = reconstruction_picture(crops, torch.zeros_like(crops), torch.ones_like(crops), objects=2)
    assert picture.shape == (9 * 64, 2 * 64, 3) and picture.dtype == np.uint8
    tiles = picture.reshape(9, 64, 2, 64, 3).mean(axis=(1, 3, 4))
    assert (tiles[1::3] == 0).all() and (tiles[2::3] == 255).all()
    # A column an object, a block of rows an image.
    np.testing.assert_allclose(tiles[::3] / 255, [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], atol=0.002)
