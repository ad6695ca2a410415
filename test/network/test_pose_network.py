"""Encoder and head together, eager and scripted parts alike."""

import torch

from shared_pose_ros.geometry.rotations import rotation_from_6d
from shared_pose_ros.network.pose_network import PoseNetwork


def test_hypotheses_are_rotations_of_the_selected_object(tiny_network):
    crops, index = torch.rand(5, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        rotations, logits = tiny_network(crops, index)
        vectors, expected_logits = tiny_network.head(tiny_network.encoder(crops), index)
    assert rotations.shape == (5, 4, 3, 3) and logits.shape == (5, 4)
    torch.testing.assert_close(rotations, rotation_from_6d(vectors))
    torch.testing.assert_close(logits, expected_logits)
    eye = torch.eye(3).expand(5, 4, 3, 3)
    torch.testing.assert_close(rotations.transpose(-1, -2) @ rotations, eye, atol=1e-5, rtol=0)


def test_rows_of_a_batch_do_not_influence_each_other(tiny_network):
    crops, index = torch.rand(3, 3, 32, 32), torch.tensor([2, 1, 0])
    with torch.no_grad():
        together = tiny_network(crops, index)
        alone = tiny_network(crops[1:2], index[1:2])
    torch.testing.assert_close(together[0][1:2], alone[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together[1][1:2], alone[1], atol=1e-5, rtol=0)


def test_the_code_is_normalised_on_request_only():
    torch.manual_seed(0)
    plain = PoseNetwork(1, 2, "compact", 16).eval()
    unit = PoseNetwork(1, 2, "compact", 16, normalize_code=True).eval()
    unit.load_state_dict(plain.state_dict())
    crops = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        code, normalised = plain.code(crops), unit.code(crops)
        assert not torch.allclose(code.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(normalised, code / code.norm(dim=1, keepdim=True))
        index = torch.zeros(3, dtype=torch.int64)
        torch.testing.assert_close(unit(crops, index)[1], plain.hypotheses(normalised, index)[1])
