"""How good the network is now: symmetric rotation error on a fixed synthetic set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training.synthesis import Synthesizer

_SYMMETRY_STEP = 0.05  # of continuous symmetries, as bop_toolkit's max_sym_disc_step: 63 rotations a turn


@dataclass(frozen=True)
class ValidationResult:
    """Degrees, over all validation samples.

    Attributes:
        median: error of the most confident hypothesis.
        oracle_median: error of the best hypothesis.
        recall_15: share of samples with an error under 15°.
        usage: perplexity of the chosen hypothesis' index (1: always the same one; n: all alike).
        by_object: median error an object, in the network's order; None for one without a sample.
    """

    median: float
    oracle_median: float
    recall_15: float
    usage: float
    by_object: tuple[float | None, ...]


class Validator:
    """A fixed validation set of ``count`` samples and the symmetries that its errors are measured under.

    The symmetries only measure: training never sees them.
    """

    def __init__(self, objects: ObjectSet, synthesizer: Synthesizer, count: int, seed: int, batch_size: int) -> None:
        device = synthesizer.device
        generator = torch.Generator(device).manual_seed(seed)
        sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
        self.batches = [synthesizer.batch(size, generator) for size in sizes]
        symmetries = [model.symmetries.rotations(_SYMMETRY_STEP) for model in objects]
        most = max(len(group) for group in symmetries)
        # Padded by repetition: the minimum over the group is unchanged.
        padded = np.stack([np.resize(group, (most, 3, 3)) for group in symmetries])
        self.symmetries = torch.from_numpy(padded.astype(np.float32)).to(device)

    @torch.no_grad()
    def evaluate(self, network: nn.Module) -> ValidationResult:
        """Run ``network`` (its mode is restored) over the set."""
        training = network.training
        network.eval()
        top, oracle, chosen = [], [], []
        for batch in self.batches:
            rotations, logits = network(batch.crops, batch.object_index)
            errors = self._errors(rotations, batch.rotations, batch.object_index)
            best = logits.argmax(dim=1)
            top.append(errors.gather(1, best[:, None])[:, 0])
            oracle.append(errors.amin(dim=1))
            chosen.append(best)
        network.train(training)
        error = torch.rad2deg(torch.cat(top))
        object_index = torch.cat([batch.object_index for batch in self.batches])
        share = torch.bincount(torch.cat(chosen)).double() / len(error)
        entropy = -(share * torch.log(share.clamp(min=1e-12))).sum().item()
        return ValidationResult(
            median=error.median().item(),
            oracle_median=math.degrees(torch.cat(oracle).median().item()),
            recall_15=(error < 15).double().mean().item(),
            usage=math.exp(entropy),
            by_object=tuple(
                error[object_index == index].median().item() if bool((object_index == index).any()) else None
                for index in range(self.symmetries.shape[0])
            ),
        )

    def _errors(self, rotations: Tensor, truth: Tensor, object_index: Tensor) -> Tensor:
        """Smallest angle to any equivalent of the truth, ``(B, n)`` radians."""
        equivalent = truth[:, None] @ self.symmetries[object_index]
        return rotation_angle(rotations[:, :, None], equivalent[:, None]).amin(dim=2)
