"""What is minimised at each point of the training: a weighted sum of loss terms, each declared under its name.

A term is a function in ``TERMS``; ``config.LossConfig`` declares its weight and the schedule of that weight. Training
log, TensorBoard and the report of a run show whatever terms there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer, pack_meshes
from shared_pose_ros.training.auxiliary_decoder import SurfaceDecoder
from shared_pose_ros.training.config import LossConfig
from shared_pose_ros.training.losses import (
    depth_loss,
    diversity_loss,
    hypothesis_depth_losses,
    mixture_losses,
    render_hypotheses,
)
from shared_pose_ros.training.synthesis import TrainingBatch


@dataclass(frozen=True)
class Predictions:
    """What a loss term judges: the network's outputs for B samples.

    Attributes:
        batch: the samples, with the truth.
        rotations: hypotheses ``(B, n, 3, 3)``.
        logits: of their confidences ``(B, n)``.
        maps: the encoder's feature maps.
        config: sizes, weights and schedules.
        progress: done fraction of the training, 0…1.
        meshes: normalised meshes of the objects, with as many faces as the loss renders have.
        rasterizer: the backend of the depth renders.
    """

    batch: TrainingBatch
    rotations: Tensor
    logits: Tensor
    maps: list[Tensor]
    config: LossConfig
    progress: float
    meshes: PackedMeshes
    rasterizer: Rasterizer

    @cached_property
    def mixture(self) -> tuple[Tensor, Tensor]:
        """``mixture_losses``, whose two terms share their distances."""
        concentration = self.config.concentration_at(self.progress)
        return mixture_losses(self.rotations, self.logits, self.batch.rotations, concentration)


# Of predictions, and of the term's own module if it has one: the batch mean, or None where nothing is to be learnt.
TermFunction = Callable[..., "Tensor | None"]
TERMS: dict[str, TermFunction] = {}
# Modules of terms by their name, made for (objects, encoder width) and trained with the network.
TERM_MODULES: dict[str, Callable[[int, str], nn.Module]] = {}


def loss_term(module: Callable[[int, str], nn.Module] | None = None) -> Callable[[TermFunction], TermFunction]:
    """Register a function as a loss term under its own name, of which ``LossConfig`` declares ``NAME_weight``.

    Args:
        module: makes what the term has to learn itself, from the number of objects and the encoder's width; the
            function gets it as a second argument.
    """

    def register(function: TermFunction) -> TermFunction:
        TERMS[function.__name__] = function
        if module:
            TERM_MODULES[function.__name__] = module
        return function

    return register


@loss_term()
def depth(seen: Predictions) -> Tensor:
    """L_d: depth renders of the hypotheses against that of the truth."""
    # The truth is one more "hypothesis", so that all renders of a step are one launch.
    everything = torch.cat([seen.batch.rotations[:, None], seen.rotations], dim=1)
    renders = render_hypotheses(seen.meshes, seen.batch.object_index, everything, seen.config.size, seen.rasterizer)
    losses = hypothesis_depth_losses(renders[:, 0].detach(), renders[:, 1:], seen.config.d_max)
    return depth_loss(losses, torch.softmax(seen.logits, dim=1), seen.config.gamma).mean()


@loss_term()
def diversity(seen: Predictions) -> Tensor:
    """L_pose: keeps the hypotheses apart."""
    return diversity_loss(seen.rotations).mean()


@loss_term()
def mixture(seen: Predictions) -> Tensor:
    """Likelihood of the truth, the hypotheses being modes of a density."""
    return seen.mixture[0].mean()


@loss_term(SurfaceDecoder)
def auxiliary(seen: Predictions, decoder: SurfaceDecoder) -> Tensor | None:
    """What a decoder makes of the encoder's feature maps against the object's surface."""
    if not seen.maps[-1].requires_grad:
        return None  # frozen convolutions learn nothing from it
    maps = [features.float() for features in seen.maps]
    return F.mse_loss(decoder(maps, seen.batch.object_index), seen.batch.surface)


@loss_term()
def confidence(seen: Predictions) -> Tensor | None:
    """Cross-entropy of the confidences against the hypotheses' shares of the mixture."""
    return seen.mixture[1].mean() if seen.config.mixture_weight > 0 else None


@dataclass(frozen=True)
class LossTerms:
    """Batch means: the total with its graph; every term by its name, without graph, zero where it is off."""

    total: Tensor
    parts: Mapping[str, Tensor]


class Objective(nn.Module):
    """The training loss of an object set.

    Args:
        objects: the set, in the network's order.
        config: sizes, weights and schedules.
        rasterizer: the backend of the depth renders.
        device: of the network.
        width: of its encoder.
        autocast: type that the encoder computes in, None for that of its weights.

    Raises:
        ValueError: a term without a weight in ``config``, or a weight without a term.
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
        self.weights = config.weights()
        alone = set(TERMS).symmetric_difference(name for group in self.weights.values() for name in group)
        if alone:
            name = min(alone)
            raise ValueError(f"loss term {name!r} needs a function in objective.TERMS and LossConfig.{name}_weight")
        self.meshes = pack_meshes([model.normalized(config.face_budget or None) for model in objects], device)
        made = {name: make(len(objects), width) for name, make in TERM_MODULES.items()}
        self.term_modules = nn.ModuleDict(made).to(device)

    def forward(self, network: PoseNetwork, batch: TrainingBatch, progress: float) -> LossTerms:
        """Run the network and weigh its terms.

        Args:
            network: in the mode that it trains in.
            batch: B samples.
            progress: done fraction of the training, 0…1.
        """
        with torch.autocast(batch.crops.device.type, self.autocast, enabled=self.autocast is not None):
            code, maps = network.code_and_maps(batch.crops)
        rotations, logits = network.hypotheses(code.float(), batch.object_index)
        seen = self.predictions(batch, rotations, logits, maps, progress)
        total, parts = logits.new_zeros(()), {}
        for schedule, group in self.weights.items():
            factor, part = schedule(self.config, progress), logits.new_zeros(())
            for name, weight in group.items():
                own = [self.term_modules[name]] if name in self.term_modules else []
                value = TERMS[name](seen, *own) if weight * factor > 0 else None
                parts[name] = logits.new_zeros(()) if value is None else value.detach()
                part = part if value is None else part + weight * value
            total = total + factor * part
        return LossTerms(total, parts)

    def predictions(
        self, batch: TrainingBatch, rotations: Tensor, logits: Tensor, maps: list[Tensor], progress: float
    ) -> Predictions:
        """Outputs of a network with what its terms need beside them."""
        return Predictions(batch, rotations, logits, maps, self.config, progress, self.meshes, self.rasterizer)

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """As ``nn.Module`` does; in checkpoints of earlier versions the auxiliary decoder has another name."""
        present = {key.replace("surface_decoder.", "term_modules.auxiliary."): v for key, v in state_dict.items()}
        return super().load_state_dict(present, *arguments, **options)
