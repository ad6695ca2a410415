"""Add objects to a trained network: everything it knows stays bit for bit, only the new objects' output rows learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.training.transfer import TrainedWeights, output_rows


@dataclass(frozen=True)
class Extension:
    """The network to extend.

    Attributes:
        weights: what it has learnt.
        objects: descriptions of its objects, as ``provenance.describe_object`` gives them, in order.
        meshes: for pictures, one or None for each of them.
    """

    weights: TrainedWeights
    objects: tuple[dict[str, Any], ...]
    meshes: tuple[DisplayMesh | None, ...]


class NewObjects(nn.Module):
    """The last objects of a network as a network of their own: index 0 is the first new object.

    Args:
        network: for the old and the new objects.
        first: index of the first new object.
    """

    def __init__(self, network: PoseNetwork, first: int) -> None:
        super().__init__()
        self.network, self.first = network, first

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """See ``PoseNetwork.forward``."""
        return self.network(crops, object_index + self.first)

    def code_and_maps(self, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See ``PoseNetwork.code_and_maps``."""
        return self.network.code_and_maps(crops)

    def hypotheses(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """See ``PoseNetwork.hypotheses``."""
        return self.network.hypotheses(code, object_index + self.first)


def freeze_known(network: PoseNetwork, known: int) -> None:
    """Let only the output rows of the objects from index ``known`` on learn.

    The rows of the known objects get gradients of exactly zero, with which Adam leaves a weight as it is.
    """
    network.requires_grad_(False)
    head = network.head
    new = torch.cat([output_rows(i, head.objects, head.hypotheses) for i in range(known, head.objects)])
    mask = torch.zeros(head.output.bias.shape[0])
    mask[new] = 1.0
    for parameter in head.output.parameters():
        parameter.requires_grad_(True)
        shape = (-1,) + (1,) * (parameter.ndim - 1)
        parameter.register_hook(lambda gradient, shape=shape: gradient * mask.to(gradient.device).reshape(shape))
