"""Hypotheses refined and scored by rendering them: the bundle's refiner run on the bundle's meshes.

Convention: rotations are R_m2c as the crop shows the object (allocentric, before the viewing-ray correction); metres;
boxes (cx, cy, w, h) in pixels. Drawing needs warp-lang, which a cell that does not refine does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.bundle import Refiner
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.network.backends.fused import can_pack
from shared_pose_ros.network.backends.fused_refiner import FusedRefiner
from shared_pose_ros.network.backends.precision import has_bf16
from shared_pose_ros.network.crop import crop_objects, normalize_crops
from shared_pose_ros.network.refiner import REFINER_SIZE, PoseRefiner

SHARE_KEPT = 2
"""Each step after the first one refines the best of the hypotheses that the step before it refined: one in so many."""
CONFIDENCE_POWER = 2.0
"""Confidences are proportional to the expected error to the power of minus this."""


class RefinementError(RuntimeError):
    """Hypotheses cannot be drawn here; the message has the remedy."""


@dataclass(frozen=True)
class Refined:
    """B objects with n hypotheses each, the one with the least expected error first.

    Attributes:
        rotations: ``(B, n, 3, 3)`` R_m2c.
        expected_errors: ``(B, n)`` radians.
        confidences: ``(B, n)``, rows sum to 1.
    """

    rotations: Tensor
    expected_errors: Tensor
    confidences: Tensor


class RenderRefiner:
    """Runs a refiner.

    Args:
        refiner: of the bundle.
        meshes: in the order of object_index; None for an object that is never given to ``refine``.
        centres: ``(k, 3)`` metres, of the CAD's boxes.
        device: where it runs.

    Raises:
        RefinementError: warp-lang is not installed, or no object has a mesh.
    """

    def __init__(
        self,
        refiner: Refiner,
        meshes: Sequence[DisplayMesh | None],
        centres: NDArray[np.floating],
        device: torch.device,
    ) -> None:
        try:
            from shared_pose_ros.rendering.hypotheses import NEAREST, HypothesisRenderer
            from shared_pose_ros.rendering.rasterizer import make_rasterizer

            rasterizer = make_rasterizer()
        except ImportError as error:
            raise RefinementError(
                "refinement draws hypotheses with warp-lang, which is not installed: pip install warp-lang, or refine 0"
            ) from error
        shapes = [
            None if mesh is None else (mesh.vertices - np.asarray(centre, np.float32), mesh.faces.astype(np.int32))
            for mesh, centre in zip(meshes, centres)
        ]
        known = [shape for shape in shapes if shape is not None]
        if not known:
            raise RefinementError("the bundle has no meshes: add them with `shared_pose export BUNDLE --objects CAD`")
        # Any shape stands in for one that is never drawn.
        drawn = [known[0] if shape is None else shape for shape in shapes]
        self.facts, self.device = refiner.facts, device
        self._network = _fastest(refiner.network, device)
        self._renderer = HypothesisRenderer(drawn, rasterizer, refiner.facts.crop_pad, device)
        sizes = [float(np.ptp(vertices, axis=0).max()) / 2 for vertices, _ in drawn]
        self._half_extents = torch.tensor(sizes, device=device)
        self._nearest = NEAREST * self._half_extents

    def warm_up(self) -> None:
        """Compile the kernels and run the network once."""
        image = torch.zeros(64, 64, 3, dtype=torch.uint8, device=self.device)
        box = torch.tensor([[32.0, 32.0, 32.0, 32.0]], device=self.device)
        eye = torch.eye(3, device=self.device).expand(1, 1, 3, 3)
        with torch.inference_mode():
            self.refine(image, box, torch.zeros(1, dtype=torch.int64, device=self.device), eye, None, 1)

    def refine(
        self,
        image: Tensor,
        boxes: Tensor,
        object_index: Tensor,
        rotations: Tensor,
        distances: Tensor | None,
        steps: int,
    ) -> Refined:
        """Refine and score all hypotheses of all objects of one image, each step in one batch.

        The first step takes all hypotheses, each further one the better half of those that the one before it took.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            boxes: ``(B, 4)`` float32.
            object_index: ``(B,)`` int64.
            rotations: ``(B, n, 3, 3)`` float32.
            distances: ``(B,)`` metres from the camera to the objects' centres; None where unknown.
            steps: 0 only scores.
        """
        crops = normalize_crops(crop_objects(image, boxes, self.facts.crop_pad, REFINER_SIZE))
        seen = self._network.seen(crops.contiguous(memory_format=torch.channels_last))
        if distances is None:
            distances = 10.0 * self._half_extents[object_index]
        else:
            distances = torch.maximum(distances, self._nearest[object_index])
        if steps == 0:
            return self._sorted(rotations, self._compare(seen, object_index, rotations, distances)[1][..., 0])
        increments, errors = self._compare(seen, object_index, rotations, distances)
        rotations, expected = increments @ rotations, errors[..., 1]
        kept = rotations.shape[1]
        for _ in range(steps - 1):
            kept = -(-kept // SHARE_KEPT)
            best = expected.topk(kept, dim=1, largest=False).indices
            rows = torch.arange(len(best), device=best.device)[:, None]
            increments, errors = self._compare(seen, object_index, rotations[rows, best], distances)
            rotations[rows, best] = increments @ rotations[rows, best]
            expected[rows, best] = errors[..., 1]
        return self._sorted(rotations, expected)

    def _compare(
        self, seen: list[Tensor], object_index: Tensor, rotations: Tensor, distances: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Increments ``(B, n, 3, 3)`` and expected errors before and after ``(B, n, 2)``, radians."""
        batch, count = rotations.shape[:2]
        crop_of = torch.arange(batch, device=rotations.device).repeat_interleave(count)
        renders = self._renderer.render(
            object_index[crop_of], rotations.flatten(0, 1), distances[crop_of], REFINER_SIZE
        )
        renders = renders.contiguous(memory_format=torch.channels_last)
        increments, logarithms = self._network.compare(seen, renders, crop_of)
        errors = torch.exp(logarithms) * self.facts.error_scale
        return increments.reshape(batch, count, 3, 3), errors.reshape(batch, count, 2)

    @staticmethod
    def _sorted(rotations: Tensor, expected: Tensor) -> Refined:
        expected, order = expected.sort(dim=1)
        rotations = rotations.gather(1, order[:, :, None, None].expand_as(rotations))
        weights = expected.clamp(min=1e-3) ** -CONFIDENCE_POWER
        return Refined(rotations, expected, weights / weights.sum(dim=1, keepdim=True))


def _fastest(network: PoseRefiner, device: torch.device) -> PoseRefiner | FusedRefiner:
    """The network in the form that the device runs fastest."""
    # Instructions for bf16 take less than half the time; increments move by some 0.1°.
    precision = "bf16" if has_bf16() else "fp32"
    if type(network) is PoseRefiner and device.type == "cpu" and can_pack(device, precision):
        return FusedRefiner(network, precision)
    moved: PoseRefiner = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
