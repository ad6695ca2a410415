"""What is minimised at each point of the training: the paper's loss, and the mixture term that fades out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import Rasterizer, pack_meshes
from shared_pose_ros.training.config import LossConfig
from shared_pose_ros.training.losses import (
    depth_loss,
    hypothesis_depth_losses,
    mixture_loss,
    render_hypotheses,
    spread_loss,
)


@dataclass(frozen=True)
class LossTerms:
    """Batch means: the total with its graph, the parts (zero when off) for the log."""

    total: Tensor
    depth: Tensor
    spread: Tensor
    mixture: Tensor


class Objective:
    """The training loss of an object set.

    Args:
        objects: the set, in the network's order.
        config: sizes, weights and schedule.
        rasterizer: the backend of the depth renders.
        device: of the network.
    """

    def __init__(self, objects: ObjectSet, config: LossConfig, rasterizer: Rasterizer, device: torch.device) -> None:
        self.config, self.rasterizer = config, rasterizer
        self.meshes = pack_meshes([model.normalized(config.face_budget or None) for model in objects], device)

    def mixture_weight(self, progress: float) -> float:
        """Falls linearly to zero over the second half of the start-up."""
        end = self.config.mixture_end
        if end <= 0:
            return 0.0
        return self.config.mixture_weight * min(1.0, max(0.0, 2.0 * (1.0 - progress / end)))

    def concentration(self, progress: float) -> float:
        """κ of the mixture, geometric from its first to its last value over the start-up."""
        low, high = self.config.concentration
        return low * (high / low) ** min(1.0, progress / max(self.config.mixture_end, 1e-9))

    def __call__(
        self, rotations: Tensor, logits: Tensor, object_index: Tensor, truth: Tensor, progress: float
    ) -> LossTerms:
        """Loss of a batch.

        Args:
            rotations: ``(B, n, 3, 3)`` hypotheses.
            logits: ``(B, n)``.
            object_index: ``(B,)``.
            truth: ``(B, 3, 3)``.
            progress: done fraction of the training, 0…1.
        """
        zero = logits.new_zeros(())
        depth = spread = mixture = zero
        weight = self.mixture_weight(progress)
        if weight > 0:
            mixture = mixture_loss(rotations, logits, truth, self.concentration(progress)).mean()
        if progress >= self.config.depth_start:
            depth = self._depth(rotations, logits, object_index, truth).mean()
            spread = spread_loss(rotations).mean()
        total = depth + self.config.spread_weight * spread + weight * mixture
        return LossTerms(total, depth.detach(), spread.detach(), mixture.detach())

    def _depth(self, rotations: Tensor, logits: Tensor, object_index: Tensor, truth: Tensor) -> Tensor:
        # The truth is one more "hypothesis", so that all renders of a step are one launch.
        everything = torch.cat([truth[:, None], rotations], dim=1)
        depth = render_hypotheses(self.meshes, object_index, everything, self.config.size, self.rasterizer)
        losses = hypothesis_depth_losses(depth[:, 0].detach(), depth[:, 1:], self.config.d_max)
        return depth_loss(losses, torch.softmax(logits, dim=1), self.config.gamma)
