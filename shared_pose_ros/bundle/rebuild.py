"""From a bundle's weights and metadata back to the network, in the classes of this package: no graph is run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared_pose_ros.bundle.metadata import BundleMetadata
from shared_pose_ros.network.codebook_network import Codebook, CodebookNetwork
from shared_pose_ros.network.encoder_registry import encoder_class
from shared_pose_ros.network.inference_module import PixelsToHypotheses
from shared_pose_ros.network.pose_head import PoseHead
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.network.separate_heads import SeparateHeads

_CODES, _VIEWS, _HEADS = "network.head.codes", "network.head.rotations", "network.head.heads."


def rebuild(metadata: BundleMetadata, weights: Mapping[str, Tensor]) -> PixelsToHypotheses:
    """The module that was exported, in evaluation mode.

    Args:
        metadata: with its sizes.
        weights: by name, on the CPU; the module shares their memory and type.

    Raises:
        ValueError: the weights are not those of a network that this package has classes for; the message says which.
    """
    try:
        # Without memory, and without a random number drawn.
        with torch.device("meta"):
            module = inference_module(_network(metadata, weights), metadata)
    except (RuntimeError, TypeError, KeyError) as error:  # sizes that make no network
        raise ValueError(f"its metadata describe no network ({error})") from error
    own = module.state_dict()
    different = sorted(name for name in own.keys() | weights.keys() if not _alike(own.get(name), weights.get(name)))
    if different:
        what = f"a {metadata.encoder_width} encoder and a head of this package"
        raise ValueError(f"its weights are not those of {what}, the first is {different[0]}")
    module.load_state_dict(weights, assign=True)
    unstored = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if unstored:
        raise ValueError(f"{unstored[0]} is not among the weights; make it a persistent buffer")
    return module.eval()


def inference_module(network: nn.Module, metadata: BundleMetadata) -> PixelsToHypotheses:
    """The network behind the crop and before the merging that the metadata state."""
    return PixelsToHypotheses(network, metadata.crop_pad, metadata.crop_size, metadata.tta_rotations)


def _network(metadata: BundleMetadata, weights: Mapping[str, Tensor]) -> PoseNetwork | CodebookNetwork:
    """The network by what its head holds; all numbers in it are still undefined."""
    objects, hypotheses = len(metadata.objects), metadata.hypotheses
    width, size = metadata.encoder_width, metadata.crop_size
    if _CODES in weights:
        codes, views = (torch.empty_like(weights[name], device="meta") for name in (_CODES, _VIEWS))
        return CodebookNetwork(encoder_class(width)(size), Codebook(codes, views, hypotheses))
    network = PoseNetwork(objects, hypotheses, width, size, metadata.normalize_code)
    if any(name.startswith(_HEADS) for name in weights):
        latent = network.encoder.latent_size
        network.head = SeparateHeads([PoseHead(1, hypotheses, latent) for _ in range(objects)])
    return network


def _alike(own: Tensor | None, given: Tensor | None) -> bool:
    """Of one shape, and of one type but for weights that are stored in half precision."""
    if own is None or given is None or own.shape != given.shape:
        return False
    return own.dtype == given.dtype or (own.dtype, given.dtype) == (torch.float32, torch.float16)
