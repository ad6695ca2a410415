"""The optimiser: Adam for everything, or Muon for the hidden weight matrices and Adam for the rest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.config import TrainingConfig


class AdamAndMuon:
    """Adam for some parameters, Muon for groups of weight matrices.

    Muon (Jordan et al., 2024; ``torch.optim.Muon``) turns the momentum of a weight matrix into the nearest orthogonal
    matrix before the step. A convolution counts as a matrix, output channels × the rest.

    Args:
        others: parameters for Adam.
        learning_rate: of Adam.
        groups: matrices with Muon's rate for them; a group may be empty.
    """

    def __init__(
        self, others: Sequence[Tensor], learning_rate: float, groups: Sequence[tuple[Sequence[Tensor], float]]
    ) -> None:
        groups = [(matrices, rate) for matrices, rate in groups if matrices]
        self.matrices = [matrix for matrices, _ in groups for matrix in matrices]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(others, lr=learning_rate, fused=True)]
        # torch's Muon takes matrices alone: these share the weights' memory.
        self._views = [nn.Parameter(matrix.detach().flatten(1)) for matrix in self.matrices]
        if self._views:
            views = iter(self._views)
            columns = [{"params": list(itertools.islice(views, len(own))), "lr": rate} for own, rate in groups]
            # Four Newton-Schulz steps, not five: on a CPU they are a quarter of the time of a step.
            self.optimizers.append(torch.optim.Muon(columns, weight_decay=0.0, ns_steps=4))
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for matrix in self.matrices:
            matrix.grad = None

    def step(self, factor: float) -> None:
        """One step at ``factor`` times the configured rates."""
        for view, matrix in zip(self._views, self.matrices):
            view.grad = None if matrix.grad is None else matrix.grad.flatten(1)
        for optimizer, rates in zip(self.optimizers, self._rates):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """States of the one or two optimisers."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take up what ``state_dict`` gave."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


class TrainingOptimizer(AdamAndMuon):
    """Steps all trainable parameters of a network and its objective.

    Muon takes the encoder's convolutions but for the first, the encoder's linear layer and the hidden layers of the
    head; the first and last layers, biases and norms stay with Adam, as its authors advise.

    Args:
        network: only parameters that require a gradient are stepped.
        objective: its parameters (of auxiliary decoders) go to Adam.
        config: optimizer, learning_rate, muon_rate.
    """

    def __init__(self, network: PoseNetwork, objective: nn.Module, config: TrainingConfig) -> None:
        everything = [p for p in (*network.parameters(), *objective.parameters()) if p.requires_grad]
        matrices = hidden_matrices(network) if config.optimizer == "muon" else []
        hidden = {id(matrix) for matrix in matrices}
        others = [p for p in everything if id(p) not in hidden]
        super().__init__(others, config.learning_rate, [(matrices, config.muon_rate)])


def hidden_matrices(network: PoseNetwork) -> list[Tensor]:
    """Trainable weights of the hidden layers: neither the first convolution nor the head's output layer."""
    outer = {id(p) for layer in (network.encoder.first_layer(), network.head.output) for p in layer.parameters()}
    return [p for p in network.parameters() if p.requires_grad and p.ndim >= 2 and id(p) not in outer]
