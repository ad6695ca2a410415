"""Training pairs of the refiner: crops of a ``Synthesizer``, and for each several hypotheses with their renders.

Convention: as the crop shows it, the object stands on the optical axis; rotations are R_m2c; lengths are normalised
mesh units. The truth of a hypothesis is the equivalent pose of the object that is nearest to it, so that no needless
rotation is learnt where an object is symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_equivalents
from shared_pose_ros.geometry.rotations import random_rotations, rotation_from_vector
from shared_pose_ros.meshes.object_set import NORMALISED_SIZE, ObjectSet
from shared_pose_ros.network.refiner import REFINER_SIZE
from shared_pose_ros.rendering.hypotheses import NEAREST, HypothesisRenderer
from shared_pose_ros.rendering.rasterizer import Rasterizer
from shared_pose_ros.training.augmentation import Draw
from shared_pose_ros.training.config import (
    AugmentationConfig,
    RefinerConfig,
    SynthesisConfig,
    at_difficulty,
    load_preset,
)
from shared_pose_ros.training.synthesis import Synthesizer

Images = tuple[SynthesisConfig, AugmentationConfig]
Answering = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """B crops with n hypotheses each, H = B·n, those of a crop one after the other.

    Attributes:
        crops: ``(B, 3, S, S)`` normalised.
        renders: ``(H, 4, S, S)``, of ``rendering.hypotheses``.
        crop_of: ``(H,)`` int64.
        hypotheses: ``(H, 3, 3)``.
        truth: ``(B, 3, 3)``.
        nearest_truth: ``(H, 3, 3)``, of the equivalent poses that nearest to each hypothesis.
        object_index: ``(B,)`` int64.
    """

    crops: Tensor
    renders: Tensor
    crop_of: Tensor
    hypotheses: Tensor
    truth: Tensor
    nearest_truth: Tensor
    object_index: Tensor


def image_settings(config: RefinerConfig) -> list[Images]:
    """Settings of the images that alternate.

    Raises:
        ValueError: a name that is no preset, or presets whose crops have different pads.
    """
    presets = {name: load_preset(name) for name in config.images.split(",")}
    pads = {name: preset.synthesis.crop_pad for name, preset in presets.items()}
    if len(set(pads.values())) > 1:
        said = ", ".join(f"{name} {pad:g}" for name, pad in pads.items())
        raise ValueError(f"the presets of images {config.images} differ in crop_pad ({said}); give some of one pad")
    return [(preset.synthesis, preset.augmentation) for preset in presets.values()]


def sample_shares(sizes: Sequence[int], shares: Sequence[float]) -> Tensor:
    """Share of the samples of each object, ``(k,)``, summing to 1.

    Args:
        sizes: objects of each set; k is their sum.
        shares: of the first sets; all further ones have the rest together, and within a share objects are alike.
            Shares that no further set complements are scaled to 1.
    """
    named = list(shares[: len(sizes)])
    counts = [*sizes[: len(named)], sum(sizes[len(named) :])]
    parts = [torch.full((count,), share / count) for count, share in zip(counts, [*named, 1 - sum(named)]) if count]
    found = torch.cat(parts)
    return found / found.sum()


class NetworkAnswers:
    """What pose networks answer for crops of objects that they know: the hypotheses that a refiner meets in a cell.

    Args:
        networks: each with the class ids of its objects; from normalised crops ``(B, 3, S, S)``, S = ``REFINER_SIZE``,
            and its object indices ``(B,)`` to rotations ``(B, n, 3, 3)``.
        objects: that crops are made of; of several networks that know one, the last is asked.
    """

    def __init__(self, networks: Sequence[tuple[Answering, Sequence[str]]], objects: ObjectSet) -> None:
        self._networks = [network for network, _ in networks]
        self._network_of = torch.full((len(objects),), -1)
        self._index_there = torch.zeros(len(objects), dtype=torch.int64)
        for number, (_, class_ids) in enumerate(networks):
            there = {class_id: index for index, class_id in enumerate(class_ids)}
            for row, class_id in enumerate(objects.class_ids):
                if class_id in there:
                    self._network_of[row], self._index_there[row] = number, there[class_id]

    @property
    def known(self) -> int:
        """Objects that some network knows."""
        return int((self._network_of >= 0).sum())

    def draw(
        self, crops: Tensor, object_index: Tensor, number: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Some answers for each crop, without repetition as far as there are so many.

        Returns:
            Rotations ``(B, number, 3, 3)``, and which crops have any, ``(B,)`` bool.
        """
        rows = object_index.cpu()
        asked = self._network_of[rows].to(crops.device)
        found = torch.eye(3, device=crops.device).expand(len(crops), number, 3, 3).clone()
        for which, network in enumerate(self._networks):
            mine = (asked == which).nonzero()[:, 0]
            if len(mine):
                answers = network(crops[mine], self._index_there[rows[mine.cpu()]].to(crops.device))
                order = torch.rand(answers.shape[:2], generator=generator, device=crops.device).argsort(dim=1)
                order = order.repeat(1, -(-number // order.shape[1]))[:, :number]
                found[mine] = answers[torch.arange(len(mine), device=crops.device)[:, None], order]
        return found, asked >= 0


class PairSynthesizer(Synthesizer):
    """Makes pairs of an object set.

    Args:
        objects: all of them.
        shares: of the samples, one per object, see ``sample_shares``.
        config: images, hypotheses and renders.
        rasterizer: the backend.
        device: where pairs are made.
        backgrounds: folder of photographs, or None for procedural pictures.
        answers: give some of the hypotheses, see ``config.answered_share``; None for none.

    Raises:
        ValueError: as ``image_settings``.
    """

    def __init__(
        self,
        objects: ObjectSet,
        shares: Tensor,
        config: RefinerConfig,
        rasterizer: Rasterizer,
        device: torch.device,
        backgrounds: Path | None = None,
        answers: NetworkAnswers | None = None,
    ) -> None:
        self.images = image_settings(config)
        synthesis, augmentation = self.images[0]
        super().__init__(
            objects, synthesis, augmentation, REFINER_SIZE, rasterizer, device, backgrounds, config.seed
        )  # fmt: skip
        self.config, self.shares, self.answers = config, shares.to(device), answers
        meshes = [model.normalized(config.render_faces) for model in objects]
        self.renderer = HypothesisRenderer(meshes, rasterizer, synthesis.crop_pad, device)
        self.table = SymmetryTable.from_dicts([model.symmetries.to_dict() for model in objects])

    @torch.no_grad()
    def pairs(self, count: int, generator: torch.Generator, kind: int = 0, difficulty: float = 1.0) -> Pairs:
        """Pairs of ``count`` crops, everything drawn from ``generator`` (on the device).

        Args:
            count: B.
            generator: source of randomness.
            kind: which of the alternating images, modulo their number.
            difficulty: scales the disturbances, see ``config.at_difficulty``.
        """
        synthesis, augmentation = self.images[kind % len(self.images)]
        synthesis, augmentation = at_difficulty(synthesis, difficulty), at_difficulty(augmentation, difficulty)
        draw = Draw(count, generator)
        object_index = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        truth = random_rotations(count, generator, self.device)
        crops, _ = self._crops(object_index, truth, draw, synthesis, augmentation)
        hypotheses = draw_hypotheses(truth, self.config, generator)
        if self.answers is not None:
            answered, known = self.answers.draw(crops, object_index, self.config.hypotheses, generator)
            chance = torch.rand(hypotheses.shape[:2], generator=generator, device=self.device)
            chosen = (chance < self.config.answered_share) & known[:, None]
            hypotheses = torch.where(chosen[..., None, None], answered, hypotheses)
        hypotheses = hypotheses.flatten(0, 1)
        # Where the camera stood for the crop is not known at inference either.
        distance = draw.uniform(*synthesis.distance) / self.metres[object_index]
        distance = distance.clamp(min=NEAREST * NORMALISED_SIZE)
        crop_of = torch.arange(count, device=self.device).repeat_interleave(self.config.hypotheses)
        renders = self.renderer.render(object_index[crop_of], hypotheses, distance[crop_of], REFINER_SIZE)
        nearest = self.nearest_truth(hypotheses, truth, object_index)
        return Pairs(crops, renders, crop_of, hypotheses, truth, nearest, object_index)

    def nearest_truth(self, rotations: Tensor, truth: Tensor, object_index: Tensor) -> Tensor:
        """The equivalent truth that is nearest to each rotation.

        Args:
            rotations: ``(H, 3, 3)``, as many per crop, those of a crop one after the other.
            truth: ``(B, 3, 3)``.
            object_index: ``(B,)``.

        Returns:
            ``(H, 3, 3)``, as ``rotations``.
        """
        first = rotations.detach().cpu().double().unflatten(0, (len(truth), -1))
        found = nearest_equivalents(first, truth[:, None].cpu().double(), self.table.take(object_index.cpu()))
        return found[:, :, 0].flatten(0, 1).to(rotations)


def draw_hypotheses(truth: Tensor, config: RefinerConfig, generator: torch.Generator) -> Tensor:
    """Hypotheses ``(B, n, 3, 3)`` of truths ``(B, 3, 3)``: most perturbed, some flipped as well, some anything.

    A perturbation is a rotation vector in camera axes whose σ is one of ``perturbations``; a flip is about an axis of
    the CAD, by one to three quarter turns: what networks confuse.
    """
    count, number, device = len(truth), config.hypotheses, truth.device
    shape = (count, number)

    def perturbed(rotations: Tensor, sigmas: Tensor) -> Tensor:
        vectors = torch.randn(*shape, 3, generator=generator, device=device) * sigmas[..., None]
        return rotation_from_vector(vectors) @ rotations

    def drawn(low: int, high: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator, device=device)

    chance = torch.rand(shape, generator=generator, device=device)[..., None, None]
    known = torch.deg2rad(torch.tensor(config.perturbations, device=device))
    sigmas = known[drawn(0, len(known))]
    near = perturbed(truth[:, None], sigmas)
    quarters = F.one_hot(drawn(0, 3), 3) * drawn(1, 4)[..., None] * (math.pi / 2)
    flips = rotation_from_vector(quarters)
    flipped = perturbed(truth[:, None] @ flips, sigmas.clamp(max=math.radians(config.flipped_perturbation)))
    anything = random_rotations(count * number, generator, device).unflatten(0, shape)
    some = torch.where(chance < config.random_share + config.flipped_share, flipped, near)
    return torch.where(chance < config.random_share, anything, some)
