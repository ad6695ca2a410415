"""The encoder of docs/extending.md goes the whole way, from settings to an estimate, without a change elsewhere."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from checkout import ROOT
from shapes import tiny_objects
from training_run import PLAIN, UNCHANGED, make_trainer

from shared_pose_ros.bundle import BundleError, load_bundle
from shared_pose_ros.cli.export import export_folder
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame
from shared_pose_ros.network.encoder_registry import ENCODERS
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.training.checkpoint import ENCODER_NAME
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.encoder_trainer import EncoderTrainer
from shared_pose_ros.training.transfer import encoder_of_checkpoint, weights_of_checkpoint


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The module of the page's first step."""
    (page,) = (ROOT / "docs").rglob("extending.md")
    section = page.read_text().split("\n## A new encoder\n")[1].split("\n## ")[0]
    source = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    path = tmp_path_factory.mktemp("package") / "depthwise_encoder.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def known(written, monkeypatch):
    """The page's second step."""
    monkeypatch.setitem(ENCODERS, "depthwise", written.DepthwiseEncoder)


@pytest.fixture
def run(written, tmp_path, photographs, monkeypatch):
    trainer = make_trainer(tmp_path / "run", photographs, width="depthwise", samples=16, validation_every=16)
    before = [parameter.detach().clone() for parameter in trainer.network.encoder.parameters()]
    trainer.train()
    assert all(not torch.equal(one, two) for one, two in zip(before, trainer.network.encoder.parameters()))
    first = trainer.network.encoder.first_layer().weight
    assert not any(matrix is first for matrix in trainer.optimizer.matrices)
    return trainer


def test_it_is_trained_exported_and_estimates_in_the_default_precision(run, tmp_path, monkeypatch):
    path = tmp_path / "new.pose.pt"
    metadata = export_folder(tmp_path / "run", path)
    assert metadata.encoder_width == "depthwise"
    estimator = PoseEstimator.load(path, "cpu")
    assert estimator.precision == "fp32" and estimator.remark == "it is not fused: its encoder is no StridedEncoder"
    image, boxes, index = noise_frame(5, 2)
    found = estimator.estimate(image, boxes, index)
    eager = PixelsToHypotheses(run.network.eval(), metadata.crop_pad, metadata.crop_size, 4).eval()
    with torch.no_grad():
        expected = eager(torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.from_numpy(index))
    np.testing.assert_array_equal(found.rotations, expected[0])
    with pytest.raises(BundleError, match="cannot run in bf16: its encoder is no StridedEncoder"):
        load_bundle(path, "cpu", "bf16")
    monkeypatch.delitem(ENCODERS, "depthwise")
    graph = PoseEstimator.load(path, "cpu")
    assert graph.remark.startswith("it runs as the graph that was exported: encoder width 'depthwise' is unknown")
    np.testing.assert_allclose(graph.estimate(image, boxes, index).rotations, found.rotations, atol=1e-5)


def test_it_starts_a_training_at_another_crop_size_with_its_last_layer_alone(run, tmp_path, photographs):
    source = weights_of_checkpoint(tmp_path / "run")
    second = make_trainer(
        tmp_path / "second", photographs, start_from=source, crop_size=48, width="depthwise", tuning="last_layer"
    )
    torch.testing.assert_close(second.network.state_dict(), run.network.state_dict())
    learning = {name for name, parameter in second.network.encoder.named_parameters() if parameter.requires_grad}
    assert learning == {"project.weight", "project.bias"}


def test_it_is_pre_trained_and_moves_into_a_network(tmp_path, photographs):
    config = EncoderConfig(
        width="depthwise", crop_size=32, steps=2, images_per_object=2, synthesis=PLAIN, augmentation=UNCHANGED
    )
    cpu = torch.device("cpu")
    trained = EncoderTrainer(tiny_objects(), config, tmp_path / "encoder", cpu, photographs)
    assert np.isfinite(trained.train())
    encoder = encoder_of_checkpoint(tmp_path / "encoder" / ENCODER_NAME)
    trainer = make_trainer(tmp_path / "run", photographs, encoder=encoder, width="depthwise", tuning="frozen")
    torch.testing.assert_close(trainer.network.encoder.state_dict(), trained.network.encoder.state_dict())
