"""How good a refiner is now: errors before and after on fixed pairs, and whether its expected errors are calibrated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.training.refiner_losses import laplace_likelihood, rotation_errors
from shared_pose_ros.training.refiner_pairs import Pairs, PairSynthesizer

REFINER_PROTOCOL = (
    "synthetic crops from the training synthesis with another seed, hypotheses drawn as in training, one increment; "
    "symmetric rotation error in degrees: medians of the hypotheses that began within 20 and within 50 degrees, "
    "means of all, expected and true"
)


@dataclass(frozen=True)
class RefinerValidation:
    """Degrees over the validation's hypotheses.

    Attributes:
        median_20: error of those that began within 20°, before the increment; 0 where there are none.
        median_20_refined: the same ones after it.
        median_50: of those within 50°.
        median_50_refined: after it.
        likelihood_before: mean negative log-likelihood of the errors before the increment, see ``laplace_likelihood``.
        likelihood_after: after it.
        mean_before: true mean error of all before the increment.
        expected_before: the mean that the refiner expects; calibrated if they agree.
        mean_after: true mean error after it.
        expected_after: the mean that the refiner expects.
    """

    median_20: float
    median_20_refined: float
    median_50: float
    median_50_refined: float
    likelihood_before: float
    likelihood_after: float
    mean_before: float
    expected_before: float
    mean_after: float
    expected_after: float

    def figures(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


class RefinerValidator:
    """A fixed set of pairs, of every kind of images alike.

    Args:
        synthesizer: makes them.
        count: crops.
        seed: of the set.
        batch_size: crops that go through the network at once.
    """

    def __init__(self, synthesizer: PairSynthesizer, count: int, seed: int, batch_size: int) -> None:
        self.synthesizer = synthesizer
        generator = torch.Generator(synthesizer.device).manual_seed(seed)
        sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
        self.batches: list[Pairs] = [synthesizer.pairs(size, generator, kind) for kind, size in enumerate(sizes)]

    @torch.no_grad()
    def evaluate(self, refiner: PoseRefiner) -> RefinerValidation:
        """Run ``refiner`` (its mode is restored) over the set."""
        training = refiner.training
        refiner.eval()
        columns = []
        for pairs in self.batches:
            increments, log_errors = refiner(pairs.crops, pairs.renders, pairs.crop_of)
            refined = increments @ pairs.hypotheses
            nearest = self.synthesizer.nearest_truth(refined, pairs.truth, pairs.object_index)
            errors = rotation_errors(pairs.hypotheses, pairs.nearest_truth, refined, nearest)
            columns.append(torch.stack([errors.before, errors.after, log_errors[:, 0], log_errors[:, 1]]))
        refiner.train(training)
        before, after, log_before, log_after = torch.cat(columns, dim=1).cpu().double()

        def median(errors: torch.Tensor, within: float) -> float:
            chosen = errors[before < math.radians(within)]
            return math.degrees(chosen.median().item()) if len(chosen) else 0.0

        def mean(errors: torch.Tensor) -> float:
            return math.degrees(errors.mean().item())

        return RefinerValidation(
            median_20=median(before, 20.0),
            median_20_refined=median(after, 20.0),
            median_50=median(before, 50.0),
            median_50_refined=median(after, 50.0),
            likelihood_before=laplace_likelihood(log_before, before).mean().item(),
            likelihood_after=laplace_likelihood(log_after, after).mean().item(),
            mean_before=mean(before),
            expected_before=mean(torch.exp(log_before)),
            mean_after=mean(after),
            expected_after=mean(torch.exp(log_after)),
        )
