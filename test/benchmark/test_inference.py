"""The inference benchmark: its statistics, and that its peers answer as the network does."""

from types import SimpleNamespace

import inference
import inference_peers as peers
import numpy as np
import page_tables
import pytest
import torch
from bundle_facts import make_metadata

from shared_pose_ros.bundle import Bundle, export_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import noise_frame, take_turns
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.pose_network import PoseNetwork


def test_medians_percentiles_and_counts():
    assert inference.summary([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "p90": 4.6, "turns": 5}
    assert inference.summary([7.0]) == {"median": 7.0, "p90": 7.0, "turns": 1}


def test_tables_are_milliseconds_a_crop():
    row = {"precision": "bf16", "degrees_from_eager": 0.31, "ms": {"1": summary(3.0, 4.0), "8": summary(16.0, 20.0)}}
    network = {
        "encoder": "compact", "crop_size": 64, "objects": 10, "turns": 4, "file_bytes": 4_570_000, "storage": "fp32",
        "peak_bytes": 72_600_000, "systems": {"OpenVINO": row, "ours bf16": {**row, "degrees_from_eager": None}},
    }  # fmt: skip
    result = {
        "networks": [network], "hardware": {"processor": "P", "cores": 2, "load": 1.5}, "threads": 2, "commit": "abc",
        "versions": {"torch": "2.1", "onnxruntime": None, "openvino": "3"}, "command": "python x",
        "bytes_of_a_further_object": 9900,
    }  # fmt: skip
    lines = page_tables.inference_tables(result).splitlines()
    assert lines[0].startswith("P, 2 cores, load 1.5 at the end, 2 threads each; torch 2.1, openvino 3; commit abc; `")
    assert lines[2].startswith(
        "compact encoder, crops of 64 pixels, 10 objects, 4 TTA rotations; file 4.6 MB (fp32), peak memo"
    )
    assert "| OpenVINO, bf16 | 3.00 (4.00) | 2.00 (2.50) | 0.3 |" in lines
    assert "| ours bf16 | 3.00 (4.00) | 2.00 (2.50) |  |" in lines


def summary(median, p90):
    return {"median": median, "p90": p90, "turns": 9}


@pytest.mark.slow
def test_systems_take_turns_and_the_first_turn_is_left_out(tiny_bundle, monkeypatch):
    systems, order = [PoseEstimator.load(tiny_bundle, "cpu") for _ in range(2)], []
    for number, system in enumerate(systems):
        monkeypatch.setattr(system, "estimate", lambda *frame, number=number: order.append(number))
    spent = take_turns(systems, 3, 2, 0.0)
    assert [len(times) for times in spent] == [3, 3] and min(map(min, spent)) >= 0
    assert order == [0, 0, 1, 1] * 4


@pytest.mark.slow
def test_random_networks_get_norms_that_know_their_features():
    torch.manual_seed(0)
    network = PoseNetwork(2, 3, "compact", 32)
    inference.learn_norms(network, 1.2, 32)
    assert not network.training
    image, boxes, _ = noise_frame(16, 1)
    crops = crop_objects(torch.from_numpy(image), torch.from_numpy(boxes).float(), 1.2, 32)
    smooth = crop_objects(torch.from_numpy(inference.smooth_frame(image)), torch.from_numpy(boxes).float(), 1.2, 32)
    with torch.no_grad():
        features = network.encoder.maps(normalize_crops(torch.cat([crops, smooth])))[0]
    # A norm that has seen these very crops takes the mean away, and scales by the variance and its ε of 0.001.
    variance = network.encoder.blocks[0].norm.running_var
    assert float(features.mean((0, 2, 3)).abs().max()) < 1e-3 and float(variance.max()) > 1e-3
    torch.testing.assert_close(features.var((0, 2, 3)), variance / (variance + 1e-3), atol=1e-2, rtol=1e-2)


class Mirror(torch.nn.Module):
    """Answers with its crop's own values, nine of the middle as the rotation."""

    head = SimpleNamespace(hypotheses=1)

    def forward(self, crops, object_index):
        """As PoseNetwork."""
        return self.hypotheses(self.code(crops), object_index)

    def code(self, crops):
        """The crop."""
        return crops.flatten(1)

    def hypotheses(self, code, object_index):
        """Nine numbers of it."""
        return code[:, 1500:1509].reshape(-1, 1, 3, 3) + object_index[:, None, None, None], torch.zeros(len(code), 1)


def test_crop_by_crop_is_the_batch():
    facts = make_metadata()
    alone, batch = (
        PoseEstimator(Bundle(module, facts), torch.device("cpu"))
        for module in (peers.OneByOne(Mirror(), 1.2, 32), peers.eager(Mirror(), 1.2, 32, 1))
    )
    # Crops of the image's own pixels: nothing is resampled, so both ways must cut the same.
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes, index = np.array([[39.5, 51.5, 32 / 1.2, 20], [91.5, 59.5, 10, 32 / 1.2]]), np.array([2, 0])
    first, second = alone.estimate(image, boxes, index), batch.estimate(image, boxes, index)
    np.testing.assert_allclose(first.rotations, second.rotations, atol=1e-4)
    assert np.ptp(first.rotations[0]) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("tta_rotations", [1, 4])
def test_every_installed_system_answers_as_the_eager_network(tiny_network, tmp_path, tta_rotations, monkeypatch):
    def absent(*arguments):
        raise ImportError("No module named 'onnx'")

    # As where the other runtimes are not installed; those of the benchmark's own environment are checked by its run.
    monkeypatch.setattr(peers, "write_onnx", absent)
    monkeypatch.setattr(peers, "openvino", absent)
    monkeypatch.setattr(peers, "VIEWPOINTS", 12)
    facts = make_metadata()
    facts = export_bundle(
        tiny_network, inference.dataclasses.replace(facts, tta_rotations=tta_rotations), tmp_path / "x.pose.pt"
    )
    found, precisions, missing = inference.systems(tiny_network, facts, tmp_path / "x.pose.pt", 1, torch.device("cpu"))
    missing.pop(f"{inference.OURS} int8", None)  # the network is untrained
    assert set(missing) == {"ONNX Runtime", "OpenVINO fp32", "OpenVINO"} and "onnx" in missing["OpenVINO"]
    assert ("one by one" in found) == ("codebook" in found) == (tta_rotations == 1)
    assert set(precisions) == set(found) and precisions[f"{inference.OURS} fp32"] == "fp32"
    degrees = inference.disagreement(found)
    assert degrees["PyTorch, eager"] == 0.0 and degrees[f"{inference.OURS} fp32"] < 0.1
