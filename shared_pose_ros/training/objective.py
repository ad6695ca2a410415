"""What is minimised at each point of the training: the paper's loss, and the mixture term that fades out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import Rasterizer, pack_meshes
from shared_pose_ros.training.auxiliary_decoder import SurfaceDecoder
from shared_pose_ros.training.config import LossConfig
from shared_pose_ros.training.losses import (
    depth_loss,
    hypothesis_depth_losses,
    mixture_losses,
    render_hypotheses,
    spread_loss,
)
from shared_pose_ros.training.synthesis import TrainingBatch


@dataclass(frozen=True)
class LossTerms:
    """Batch means: the total with its graph, the parts (zero when off) for the log."""

    total: Tensor
    depth: Tensor
    spread: Tensor
    mixture: Tensor
    surface: Tensor
    confidence: Tensor


class Objective(nn.Module):
    """The training loss of an object set.

    Args:
        objects: the set, in the network's order.
        config: sizes, weights and schedule.
        rasterizer: the backend of the depth renders.
        device: of the network.
        width: of its encoder.
        autocast: type that the encoder computes in, None for that of its weights.
    """

    def __init__(
        self,
        objects: ObjectSet,
        config: LossConfig,
        rasterizer: Rasterizer,
        device: torch.device,
        width: str,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config, self.rasterizer, self.autocast = config, rasterizer, autocast
        self.meshes = pack_meshes([model.normalized(config.face_budget or None) for model in objects], device)
        self.surface_decoder = SurfaceDecoder(len(objects), width).to(device)

    def start_up(self, progress: float) -> float:
        """Factor of the start-up terms: 1, then a linear fall to 0 over the second half of their time."""
        end = self.config.mixture_end
        return min(1.0, max(0.0, 2.0 * (1.0 - progress / end))) if end > 0 else 0.0

    def concentration(self, progress: float) -> float:
        """κ of the mixture, geometric from its first to its last value over the start-up."""
        low, high = self.config.concentration
        return low * (high / low) ** min(1.0, progress / max(self.config.mixture_end, 1e-9))

    def forward(self, network: PoseNetwork, batch: TrainingBatch, progress: float) -> LossTerms:
        """Run the network and weigh its terms.

        Args:
            network: in the mode that it trains in.
            batch: B samples.
            progress: done fraction of the training, 0…1.
        """
        with torch.autocast(batch.crops.device.type, self.autocast, enabled=self.autocast is not None):
            code, maps = network.code_and_maps(batch.crops)
        code = code.float()
        rotations, logits = network.hypotheses(code, batch.object_index)
        config, start_up = self.config, self.start_up(progress)
        depth = spread = mixture = surface = confidence = logits.new_zeros(())
        if config.mixture_weight * start_up > 0:
            terms = mixture_losses(rotations, logits, batch.rotations, self.concentration(progress))
            mixture, confidence = (term.mean() for term in terms)
        # Convolutions that are frozen learn nothing from it.
        if config.surface_weight * start_up > 0 and maps[-1].requires_grad:
            maps = [features.float() for features in maps]
            surface = F.mse_loss(self.surface_decoder(maps, batch.object_index), batch.surface)
        if progress >= config.depth_start:
            depth = self._depth(rotations, logits, batch.object_index, batch.rotations).mean()
            spread = spread_loss(rotations).mean()
        extra = config.mixture_weight * mixture + config.surface_weight * surface
        extra = extra + config.confidence_weight * confidence
        total = depth + config.spread_weight * spread + start_up * extra
        return LossTerms(total, *(term.detach() for term in (depth, spread, mixture, surface, confidence)))

    def _depth(self, rotations: Tensor, logits: Tensor, object_index: Tensor, truth: Tensor) -> Tensor:
        # The truth is one more "hypothesis", so that all renders of a step are one launch.
        everything = torch.cat([truth[:, None], rotations], dim=1)
        depth = render_hypotheses(self.meshes, object_index, everything, self.config.size, self.rasterizer)
        losses = hypothesis_depth_losses(depth[:, 0].detach(), depth[:, 1:], self.config.d_max)
        return depth_loss(losses, torch.softmax(logits, dim=1), self.config.gamma)
