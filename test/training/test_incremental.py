"""Adding objects: the known ones keep every bit, the new rows learn."""

import torch

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.incremental import NewObjects, freeze_known
from shared_pose_ros.training.transfer import output_rows


def test_only_the_new_objects_rows_move():
    torch.manual_seed(0)
    network = PoseNetwork(3, 2, "compact", 32).eval()
    freeze_known(network, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    learner = NewObjects(network, 2)
    for _ in range(3):
        optimizer.zero_grad()
        rotations, logits = learner(torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))
        (rotations[..., 1].sum() + logits.square().sum()).backward()
        optimizer.step()
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.output.weight", "head.output.bias"}
    rows = (after["head.output.bias"] != before["head.output.bias"]).nonzero().squeeze(1)
    assert rows.tolist() == sorted(output_rows(2, 3, 2).tolist())


def test_a_learner_counts_from_the_first_new_object():
    network = PoseNetwork(3, 2, "compact", 32).eval()
    learner = NewObjects(network, 1).eval()
    crops = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(learner(crops, torch.tensor([0, 1])), network(crops, torch.tensor([1, 2])))
    code, maps = learner.code_and_maps(crops)
    assert len(maps) == 4
    torch.testing.assert_close(
        learner.hypotheses(code, torch.tensor([1, 0]))[1], network(crops, torch.tensor([2, 1]))[1]
    )
