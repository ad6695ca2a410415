"""Weights of another training: resized, and rows of the output layer by object."""

import pytest
import torch
from training_run import make_trainer

from shared_pose_ros.network.encoder_registry import encoder_class
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.checkpoint import CheckpointError
from shared_pose_ros.training.transfer import (
    EncoderWeights,
    TrainedWeights,
    encoder_of_checkpoint,
    load_encoder,
    transfer,
    weights_of_checkpoint,
)


def trained(class_ids=("a", "b", "c"), hypotheses=2, crop_size=32, width="compact"):
    torch.manual_seed(4)
    network = PoseNetwork(len(class_ids), hypotheses, width, crop_size).eval()
    return network, TrainedWeights("runs/a", network.state_dict(), class_ids, hypotheses, crop_size, 100)


def test_objects_in_both_sets_keep_their_output_and_new_ones_start_fresh():
    network, source = trained()
    other = PoseNetwork(2, 2, "compact", 32).eval()
    fresh = PoseNetwork(2, 2, "compact", 32).eval()
    fresh.load_state_dict(other.state_dict())
    assert transfer(source, other, ("c", "new"), 32) == ["c"]
    crops = torch.rand(3, 3, 32, 32)
    expected, found = (net(crops, torch.full((3,), index)) for net, index in ((network, 2), (other, 0)))
    torch.testing.assert_close(found, expected)
    code = network.code(crops)
    torch.testing.assert_close(other.code(crops), code)
    output = fresh.head.output.weight.reshape(-1)[-6 * 64 :], other.head.output.weight.reshape(-1)[-6 * 64 :]
    torch.testing.assert_close(*output)


def test_another_number_of_hypotheses_keeps_the_shared_layers_only():
    network, source = trained()
    other = PoseNetwork(3, 5, "compact", 32).eval()
    assert transfer(source, other, ("a", "b", "c"), 32) == []
    torch.testing.assert_close(other.head.layer4[0].weight, network.head.layer4[0].weight)


def test_another_width_is_refused():
    _, source = trained()
    with pytest.raises(CheckpointError, match=r"runs/a has another encoder width"):
        transfer(source, PoseNetwork(3, 2, "paper", 32), ("a", "b", "c"), 32)


def pretrained(crop_size=32, width="compact"):
    torch.manual_seed(5)
    encoder = encoder_class(width)(crop_size).eval()
    return encoder, EncoderWeights("runs/e/encoder.pt", encoder.state_dict(), width, crop_size, {}, {"step": 3})


def test_a_pre_trained_encoder_moves_in_and_the_head_stays():
    encoder, source = pretrained()
    network = PoseNetwork(2, 2, "compact", 32).eval()
    head = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    load_encoder(source, network, 32)
    crops = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network.encoder(crops), encoder(crops))
    torch.testing.assert_close(network.head.state_dict(), head)


def test_a_pre_trained_encoder_of_another_crop_size_is_resized():
    encoder, source = pretrained(crop_size=32)
    network = PoseNetwork(2, 2, "compact", 64).eval()
    load_encoder(source, network, 64)
    resized = encoder.resized(encoder.state_dict(), 32, 64)
    torch.testing.assert_close(network.encoder.linear.weight.data, resized["linear.weight"])
    torch.testing.assert_close(network.encoder.blocks.state_dict(), encoder.blocks.state_dict())


def test_a_pre_trained_encoder_of_another_width_is_refused():
    _, source = pretrained()
    with pytest.raises(CheckpointError, match=r"encoder\.pt is an encoder of width compact.*--set width=compact"):
        load_encoder(source, PoseNetwork(2, 2, "paper", 32), 32)


def test_what_is_no_pre_trained_encoder_is_named(tmp_path, tiny_run):
    with pytest.raises(CheckpointError, match=r"no encoder at .*encoder\.pt; make one with shared_pose train-encoder"):
        encoder_of_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no pre-trained encoder; .*--start-from"):
        encoder_of_checkpoint(tiny_run / "checkpoint.pt")


@pytest.mark.slow
def test_a_training_starts_from_another_at_another_crop_size(tmp_path, photographs):
    first = make_trainer(tmp_path / "first", photographs)
    first.train()
    source = weights_of_checkpoint(tmp_path / "first")
    assert source.samples == first.samples and source.class_ids == tuple(first.objects.class_ids)
    second = make_trainer(tmp_path / "second", photographs, start_from=source, crop_size=48)
    assert second.earlier_samples == first.samples
    torch.testing.assert_close(second.network.head.state_dict(), first.network.head.state_dict())
    torch.testing.assert_close(second.objective.state_dict(), first.objective.state_dict())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        weights_of_checkpoint(tmp_path / "nowhere")
