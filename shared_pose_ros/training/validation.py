"""How good the network is now: symmetric rotation error on a fixed synthetic set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.training.synthesis import Synthesizer, TrainingBatch

CORRECT = 15.0  # degrees: a hypothesis with a smaller error counts as right
_SYMMETRY_STEP = 0.05  # of continuous symmetries, as bop_toolkit's max_sym_disc_step: 63 steps per revolution


@dataclass(frozen=True)
class SampleErrors:
    """Every validation sample: N samples, n hypotheses, those of a sample by falling confidence.

    Attributes:
        errors: ``(N, n)`` symmetric rotation errors, degrees.
        confidences: ``(N, n)``, rows sum to 1.
        rotations: ``(N, n, 3, 3)`` R_m2c.
        object_index: ``(N,)``.
    """

    errors: np.ndarray
    confidences: np.ndarray
    rotations: np.ndarray
    object_index: np.ndarray


@dataclass(frozen=True)
class ValidationResult:
    """Degrees, over all validation samples.

    Attributes:
        median: error of the most confident hypothesis.
        oracle_median: error of the best hypothesis.
        recall_15: share of samples with an error under 15°.
        usage: perplexity of the chosen hypothesis' index (1: always the same one; n: all alike).
        by_object: median error per object, in the network's order; None for one without a sample.
        samples: what the figures are made of.
    """

    median: float
    oracle_median: float
    recall_15: float
    usage: float
    by_object: tuple[float | None, ...]
    samples: SampleErrors = field(repr=False, compare=False)

    def figures(self) -> dict[str, Any]:
        """The figures without the samples, plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "samples"}


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
        parts, chosen = [], []
        for batch in self.batches:
            rotations, logits = network(batch.crops, batch.object_index)
            confidences, order = torch.softmax(logits, dim=1).sort(dim=1, descending=True, stable=True)
            rotations = rotations.gather(1, order[:, :, None, None].expand_as(rotations))
            errors = torch.rad2deg(self._errors(rotations, batch.rotations, batch.object_index))
            parts.append((errors, confidences, rotations, batch.object_index))
            chosen.append(order[:, 0])
        network.train(training)
        samples = SampleErrors(*(torch.cat(column).cpu().numpy() for column in zip(*parts)))
        error, objects = samples.errors[:, 0], samples.object_index
        share = torch.bincount(torch.cat(chosen)).double() / len(error)
        entropy = -(share * torch.log(share.clamp(min=1e-12))).sum().item()
        return ValidationResult(
            median=float(np.median(error)),
            oracle_median=float(np.median(samples.errors.min(axis=1))),
            recall_15=float((error < CORRECT).mean()),
            usage=math.exp(entropy),
            by_object=tuple(
                float(np.median(error[objects == index])) if (objects == index).any() else None
                for index in range(len(self.symmetries))
            ),
            samples=samples,
        )

    def fixed_samples(self, limit: int) -> tuple[np.ndarray, TrainingBatch]:
        """At most ``limit`` samples, always the same: the first of every object, then the second of each, and so on.

        Returns:
            Their places in ``SampleErrors`` and the samples, in that order.
        """
        columns = zip(*((b.crops, b.object_index, b.rotations, b.surface) for b in self.batches))
        crops, object_index, rotations, surface = (torch.cat(column) for column in columns)
        objects = object_index.cpu().numpy()
        order = np.array([(objects[:place] == index).sum() for place, index in enumerate(objects)])
        chosen = np.lexsort((objects, order))[:limit]
        return chosen, TrainingBatch(crops[chosen], object_index[chosen], rotations[chosen], surface[chosen])

    def _errors(self, rotations: Tensor, truth: Tensor, object_index: Tensor) -> Tensor:
        """Smallest angle to any equivalent of the truth, ``(B, n)`` radians."""
        equivalent = truth[:, None] @ self.symmetries[object_index]
        return rotation_angle(rotations[:, :, None], equivalent[:, None]).amin(dim=2)
