"""The inference benchmark: its statistics, and that its peers answer as the network does."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_facts import make_metadata

from shared_pose_ros.bundle import Bundle, export_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import take_turns

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))
import inference
import inference_peers as peers


def test_medians_percentiles_and_counts():
    assert inference.summary([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "p90": 4.6, "turns": 5}
    assert inference.summary([7.0]) == {"median": 7.0, "p90": 7.0, "turns": 1}


def test_systems_take_turns_and_the_first_turn_is_left_out(tiny_bundle, monkeypatch):
    systems, order = [PoseEstimator.load(tiny_bundle, "cpu") for _ in range(2)], []
    for number, system in enumerate(systems):
        monkeypatch.setattr(system, "estimate", lambda *frame, number=number: order.append(number))
    spent = take_turns(systems, 3, 2, 0.0)
    assert [len(times) for times in spent] == [3, 3] and min(map(min, spent)) >= 0
    assert order == [0, 0, 1, 1] * 4


def test_crop_by_crop_is_the_batch(tiny_network):
    facts = make_metadata()
    alone = PoseEstimator(Bundle(peers.OneByOne(tiny_network, 1.2, 32), facts), torch.device("cpu"))
    batch = PoseEstimator(Bundle(peers.eager(tiny_network, 1.2, 32, 1), facts), torch.device("cpu"))
    # Crops of the image's own pixels: nothing is resampled, so both ways cut the same.
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes, index = np.array([[40.5, 50.5, 32 / 1.2, 20], [90.5, 60.5, 10, 32 / 1.2]]), np.array([2, 0])
    # Its cut begins at round(40.5 - 16 = 24.5) = 24, half a pixel left of that of pixel centres.
    first, second = alone.estimate(image, boxes, index), batch.estimate(image, boxes - [0.5, 0.5, 0, 0] * 1, index)
    assert first.rotations.shape == second.rotations.shape == (2, 4, 3, 3)
    np.testing.assert_allclose(first.confidences, second.confidences, atol=5e-3)


@pytest.mark.parametrize("turns", [1, 4])
def test_every_installed_system_answers_as_the_eager_network(tiny_network, tmp_path, turns, monkeypatch):
    def absent(*arguments):
        raise ImportError("No module named 'onnx'")

    # As where the other runtimes are not installed; those of the benchmark's own environment are checked by its run.
    monkeypatch.setattr(peers, "write_onnx", absent)
    monkeypatch.setattr(peers, "openvino", absent)
    monkeypatch.setattr(peers, "VIEWPOINTS", 12)
    facts = make_metadata()
    facts = export_bundle(tiny_network, inference.dataclasses.replace(facts, turns=turns), tmp_path / "x.pose.pt")
    found, precisions, missing = inference.systems(tiny_network, facts, tmp_path / "x.pose.pt", 1)
    assert set(missing) == {"ONNX Runtime", "OpenVINO fp32", "OpenVINO"} and "onnx" in missing["OpenVINO"]
    assert ("one by one" in found) == ("codebook" in found) == (turns == 1)
    assert set(precisions) == set(found) and precisions[f"{inference.OURS} fp32"] == "fp32"
    degrees = inference.disagreement(found)
    assert degrees["PyTorch, eager"] == 0.0 and degrees[f"{inference.OURS} fp32"] < 0.1
