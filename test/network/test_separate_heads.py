"""Separate heads answer as each object's own network does, and are one bundle."""

import pytest
import torch

from shared_pose_ros.baselines.object_specific import combine_networks
from shared_pose_ros.network.pose_head import PoseHead
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.separate_heads import SeparateHeads


def networks(count=3):
    torch.manual_seed(0)
    made = [PoseNetwork(1, 4, "compact", 32, normalize_code=True).eval() for _ in range(count)]
    for network in made[1:]:
        network.encoder.load_state_dict(made[0].encoder.state_dict())
    return made


def test_the_combined_network_answers_as_the_single_ones():
    single = networks()
    crops, index = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0, 0, 2, 1])
    with torch.no_grad():
        expected = [single[i](crops[row : row + 1], torch.zeros(1, dtype=torch.int64)) for row, i in enumerate(index)]
        rotations, logits = combine_networks(single)(crops, index)
    torch.testing.assert_close(rotations, torch.cat([pair[0] for pair in expected]))
    torch.testing.assert_close(logits, torch.cat([pair[1] for pair in expected]))


def test_an_empty_batch_is_no_mistake():
    heads = SeparateHeads([PoseHead(1, 4), PoseHead(1, 4)]).eval()
    vectors, logits = heads(torch.zeros(0, 128), torch.zeros(0, dtype=torch.int64))
    assert vectors.shape == (0, 4, 6) and logits.shape == (0, 4)


def test_heads_must_fit_together():
    for heads in ([PoseHead(1, 4), PoseHead(1, 5)], [PoseHead(2, 4)], []):
        with pytest.raises(ValueError, match="give heads of 1 object each"):
            SeparateHeads(heads)


def test_different_encoders_cannot_be_shared():
    first, second = networks(2)
    with torch.no_grad():
        second.encoder.linear.bias += 1
    with pytest.raises(ValueError, match="0 and 1 have different encoders"):
        combine_networks([first, second])
