"""A bundle whose network answers at once: what a frame costs without it, the node's own overhead.

The file passes every check of `bundle.load_bundle`: it has the real bundle's metadata, weights (a few numbers) with
their hash, and an example. Everything around the network stays: decoding, boxes, tensors, the call into TorchScript,
viewing ray, translation, covariances, messages.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from shared_pose_ros.bundle import BundleMetadata, load_bundle, weights_sha256
from shared_pose_ros.geometry.display_mesh import pack_meshes


class NoNetwork(nn.Module):
    """n hypotheses for every box, spread about z, without a look at the image."""

    def __init__(self, hypotheses: int) -> None:
        super().__init__()
        angles = torch.arange(hypotheses) * 0.5
        zero, one = torch.zeros_like(angles), torch.ones_like(angles)
        rows = [angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos(), zero, zero, zero, one]
        self.register_buffer("rotations", torch.stack(rows, dim=1).reshape(1, hypotheses, 3, 3))
        weights = torch.arange(hypotheses, 0, -1, dtype=torch.float32)
        self.register_buffer("confidences", (weights / weights.sum())[None])

    def forward(self, image: Tensor, boxes: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """As a bundle's: rotations (B, n, 3, 3) and confidences (B, n)."""
        count = boxes.shape[0]
        return self.rotations.repeat(count, 1, 1, 1), self.confidences.repeat(count, 1)


def write_stub(bundle: Path, out: Path) -> BundleMetadata:
    """Write a bundle with the metadata of another one and `NoNetwork` in place of its network."""
    whole = load_bundle(bundle)
    metadata = whole.metadata
    module = torch.jit.script(NoNetwork(metadata.hypotheses).eval())
    metadata = dataclasses.replace(
        metadata, name=f"{metadata.name} without network", weights_sha256=weights_sha256(module)
    )
    # As many boxes as `bundle.load_bundle` verifies with: ten, or one an object.
    count = max(len(metadata.objects), 10)
    rotations, confidences = module(torch.zeros(1, 1, 3), torch.zeros(count, 4), torch.zeros(count))
    example = io.BytesIO()
    torch.save({"rotations": rotations, "confidences": confidences}, example)
    extra = {"metadata.json": metadata.to_json(), "example.pt": example.getvalue()}
    extra["meshes.npz"] = pack_meshes(whole.meshes)
    torch.jit.save(module, str(out), _extra_files=extra)
    return metadata
