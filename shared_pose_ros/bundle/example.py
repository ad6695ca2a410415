"""The example that every bundle carries: what a network answered on the machine that exported it."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn

Answer = tuple[Tensor, Tensor]
"""Rotations ``(B, n, 3, 3)`` and confidences ``(B, n)``."""

BOXES = 10
# fp32 kernels of different processors differ in the last digits; a wrong weight shows far above this.
_TOLERANCE = 2e-3
# Merging takes the densest hypothesis first; where two are as dense, those last digits decide which.
_OUTLIERS = 0.2


def example_input(objects: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """A fixed image with structure, ten boxes or one per object (some shrink, some grow, one crosses the border)."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    image = torch.stack([rows * 2 + columns, rows * columns // 40, (rows * 7) ^ (columns * 3)], dim=-1).remainder(256)
    index = torch.arange(max(objects, BOXES))
    boxes = torch.stack([20 + index * 9 % 90, 15 + index * 17 % 70, 10 + index * 13 % 80, 12 + index * 7 % 60], dim=1)
    return image.to(device, torch.uint8), boxes.to(device, torch.float32), index.remainder(objects).to(device)


def answer(module: nn.Module, objects: int, device: torch.device | str = "cpu", count: int | None = None) -> Answer:
    """What a module on the device answers to the example, or to its first ``count`` boxes."""
    image, boxes, object_index = example_input(objects, device)
    # In parts: a wide encoder's maps of thirty crops would be most of the memory that a bundle ever takes.
    parts = zip(boxes[:count].split(BOXES), object_index[:count].split(BOXES))
    with torch.no_grad():
        rotations, confidences = zip(*(module(image, *part) for part in parts))
    return torch.cat(rotations), torch.cat(confidences)


def pack_answer(given: Answer) -> bytes:
    """The bytes of ``example.pt``."""
    stream = io.BytesIO()
    torch.save({"rotations": given[0], "confidences": given[1]}, stream)
    return stream.getvalue()


def unpack_answer(data: bytes) -> Answer:
    """What ``pack_answer`` packed; raises whatever an unpickler meets in other bytes."""
    stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return stored["rotations"], stored["confidences"]


def disagreement(expected: Answer, found: Answer) -> str:
    """How two answers differ by more than processors do; empty if they do not."""
    found = found[0].to(expected[0].device), found[1].to(expected[0].device)
    shapes = [tuple(tensor.shape for tensor in pair) for pair in (expected, found)]
    if shapes[0] != shapes[1]:
        return f"shapes {shapes[1]}, not {shapes[0]}"
    # Near-equal confidences may swap places, so hypotheses are compared by their confidence-weighted mean.
    weighted = [(rotations * confidences[..., None, None]).sum(dim=1) for rotations, confidences in (expected, found)]
    difference = (weighted[0] - weighted[1]).abs().flatten(1).amax(dim=1)
    difference = torch.maximum(difference, (expected[1] - found[1]).abs().amax(dim=1))
    # Not "greater than": a NaN differs too.
    apart = ~(difference <= _TOLERANCE)
    if apart.float().mean() <= _OUTLIERS:
        return ""
    return f"largest difference {difference.max():.2g}, limit {_TOLERANCE}, in {int(apart.sum())} of {len(apart)} boxes"
