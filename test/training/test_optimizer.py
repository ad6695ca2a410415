"""Which parameters Muon takes, that both optimisers step the network itself, and that their states come back."""

import copy
import dataclasses

import torch
from training_run import TINY

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.optimizer import TrainingOptimizer, hidden_matrices

MUON = dataclasses.replace(TINY, optimizer="muon")


def made(config=MUON):
    torch.manual_seed(0)
    network, objective = PoseNetwork(2, 2, "compact", 32), torch.nn.Linear(3, 2)
    return network, objective, TrainingOptimizer(network, objective, config)


def backward(network, objective):
    torch.manual_seed(1)
    rotations, logits = network(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 1, 0]))
    (rotations[..., 0].sum() + logits.square().sum() + objective(torch.ones(1, 3)).sum()).backward()


def test_muon_takes_the_hidden_weights_and_adam_the_rest():
    network, objective, optimizer = made()
    names = {name for name, p in network.named_parameters() if any(p is m for m in hidden_matrices(network))}
    convolutions = {f"encoder.blocks.{i}.convolution.weight" for i in (1, 2, 3)}
    assert names == convolutions | {"encoder.linear.weight"} | {f"head.layer{i}.0.weight" for i in range(1, 7)}
    adam = optimizer.optimizers[0].param_groups[0]["params"]
    assert len(adam) + len(names) == len(list(network.parameters())) + 2
    assert len(made(dataclasses.replace(TINY, optimizer="adam"))[2].optimizers) == 1


def test_a_step_of_muon_moves_a_weight_by_a_nearly_orthogonal_matrix():
    network, objective, optimizer = made()
    weight = network.head.layer2[0].weight
    before = weight.detach().clone()
    backward(network, objective)
    optimizer.step(0.5)
    step = (before - weight.detach()) / (0.5 * MUON.muon_rate)
    values = torch.linalg.svdvals(step)
    # Few Newton-Schulz steps bring the large singular values near 1 and leave tiny ones (here from a batch of four).
    assert 0.6 < values.max() < 1.4 and (values > 0.5).sum() >= 2
    assert (before.norm() - weight.norm()).abs() > 0


def test_frozen_weights_are_left_alone_and_gradients_are_cleared():
    torch.manual_seed(0)
    network, objective = PoseNetwork(2, 2, "compact", 32), torch.nn.Linear(3, 2)
    network.encoder.requires_grad_(False)
    optimizer = TrainingOptimizer(network, objective, MUON)
    frozen = network.encoder.linear.weight.clone()
    backward(network, objective)
    optimizer.step(1.0)
    assert torch.equal(network.encoder.linear.weight, frozen)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_states_come_back():
    network, objective, optimizer = made()
    backward(network, objective)
    optimizer.step(1.0)
    again, other, restored = made()
    again.load_state_dict(network.state_dict())
    other.load_state_dict(objective.state_dict())
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, head, optimiser in ((network, objective, optimizer), (again, other, restored)):
        optimiser.zero_grad()
        backward(each, head)
        optimiser.step(1.0)
    for first, second in zip(network.parameters(), again.parameters()):
        assert torch.equal(first, second)
