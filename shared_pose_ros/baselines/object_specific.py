"""Object-specific networks as one: a small head an object on the encoder that all of them share (METHOD 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.separate_heads import SeparateHeads


def combine_networks(networks: Sequence[PoseNetwork]) -> PoseNetwork:
    """One network of all objects, in the given order, that answers as each object's own network does.

    Args:
        networks: of one object each, trained on the same frozen encoder.

    Raises:
        ValueError: encoders that differ, or networks that do not fit together.
    """
    first = networks[0]
    weights = first.encoder.state_dict()
    for number, network in enumerate(networks[1:], start=1):
        other = network.encoder.state_dict()
        same = weights.keys() == other.keys() and all(torch.equal(weights[key], other[key]) for key in weights)
        if not same or network.normalize_code != first.normalize_code:
            raise ValueError(
                f"object-specific networks 0 and {number} have different encoders and cannot share one; train them "
                "with --tuning frozen on the same --encoder, or export each folder by itself"
            )
    heads = SeparateHeads([network.head for network in networks])
    first.head = heads  # type: ignore[assignment]  # it has a head's interface
    return first
