"""The refiner's training loop: pairs, loss, Adam and Muon, averaged weights, checkpoints.

As in trainer.py, a step's randomness follows from (seed, step) alone, so a resumed run makes exactly the pairs of an
uninterrupted one. The rates follow the samples or, where a time is given, the share of the time that is spent, so that
the training ends with small rates whatever the machine's speed.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.checkpoint import (
    CHECKPOINT_NAME,
    check_replaceable,
    load_resumable,
    save_checkpoint,
    training_record,
)
from shared_pose_ros.training.config import RefinerConfig
from shared_pose_ros.training.objective import LossTerms
from shared_pose_ros.training.optimizer import AdamAndMuon
from shared_pose_ros.training.prefetch import prefetched, step_generator
from shared_pose_ros.training.provenance import hardware
from shared_pose_ros.training.refiner_losses import refiner_losses, rotation_errors
from shared_pose_ros.training.refiner_pairs import NetworkAnswers, Pairs, PairSynthesizer
from shared_pose_ros.training.refiner_report import write_refiner_report
from shared_pose_ros.training.refiner_validation import REFINER_PROTOCOL, RefinerValidation, RefinerValidator
from shared_pose_ros.training.refiner_weights import refiner_checkpoint
from shared_pose_ros.training.run_report import REPORT_NAME
from shared_pose_ros.training.trainer import FREE_AT_RESUME, autocast_dtype, learning_rate
from shared_pose_ros.training.training_log import LOG_NAME, FigureLog, read_log


@dataclass(frozen=True)
class RefinerProgress:
    """What the loop reports: samples done and wanted, the done fraction, speed, seconds left, losses, validation."""

    samples: int
    total: int
    fraction: float
    samples_per_second: float
    seconds_left: float
    terms: LossTerms
    validation: RefinerValidation | None


class RefinerTrainer:
    """Trains a refiner on an object set.

    Args:
        objects: all objects.
        shares: of the samples, one per object, see ``refiner_pairs.sample_shares``.
        config: every setting.
        out: folder of the checkpoint, the configuration and the log.
        device: torch device of everything.
        backgrounds: folder of photographs, None for procedural pictures.
        resume: go on from the folder's checkpoint.
        preset: name of the configuration, for the record.
        begin: weights to begin with, of an encoder's or of another refiner's training; None for random ones.
        earlier_samples: of the training that ``begin`` comes from.
        answers: of pose networks, among the hypotheses.

    Raises:
        CheckpointError: resume without a usable checkpoint of the same objects; or no resume where one exists.
        ValueError: images that do not fit together.
    """

    def __init__(
        self,
        objects: ObjectSet,
        shares: Tensor,
        config: RefinerConfig,
        out: Path,
        device: torch.device,
        backgrounds: Path | None = None,
        resume: bool = False,
        preset: str = "custom",
        begin: PoseRefiner | None = None,
        earlier_samples: int = 0,
        answers: NetworkAnswers | None = None,
    ) -> None:
        self.objects, self.config, self.out, self.device = objects, config, Path(out), device
        self.metrics: dict[str, Any] = {}
        self.record = training_record(objects, preset)
        self.checkpoint_path = self.out / CHECKPOINT_NAME
        check_replaceable(self.checkpoint_path, resume)
        torch.manual_seed(config.seed)
        self.synthesizer = PairSynthesizer(objects, shares, config, make_rasterizer(), device, backgrounds, answers)
        self.network = copy.deepcopy(begin) if begin is not None else PoseRefiner()
        self.network.requires_grad_(True).to(device)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = refiner_optimizer(self.network, config)
        self.autocast = autocast_dtype(config.precision, device)
        self.step, self.seconds, self.earlier_samples = 0, 0.0, earlier_samples
        if resume:
            self._restore()
        # Negative, so that no step of any training shares the seed.
        self.validator = RefinerValidator(
            self.synthesizer, config.validation_samples, -1 - config.seed, config.batch_size
        )  # fmt: skip

    @property
    def samples(self) -> int:
        """Samples trained on so far."""
        return self.step * self.config.batch_size

    def train(
        self,
        time_budget: float | None = None,
        report: Callable[[RefinerProgress], None] = lambda progress: None,
        stop_after: float = math.inf,
    ) -> RefinerValidation:
        """Train to ``config.samples``, or to the end of ``time_budget``, and leave a checkpoint either way.

        Args:
            time_budget: seconds of the whole training, earlier sittings included. The rates fall over it, and it
                alone decides when the training is over; None for the samples.
            report: called after every step.
            stop_after: seconds of this sitting, which change nothing about the rates.

        Returns:
            The last validation, of the averaged weights.

        Raises:
            CheckpointError: the checkpoint cannot be written.
            FloatingPointError: the loss is not finite; the last good checkpoint stays.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1))
        log = FigureLog(self.out, self.samples)
        started = saved = time.monotonic()
        first_sample, earlier, progress = self.samples, self.seconds, None
        try:
            with contextlib.closing(prefetched(self._pairs, self.step)) as batches:
                while self.fraction(time_budget) < 1.0 and time.monotonic() < started + stop_after:
                    terms = self._train_step(next(batches), time_budget)
                    validates = self.samples % self.config.validation_every < self.config.batch_size
                    validation = self.validator.evaluate(self.averaged) if validates else None
                    now = time.monotonic()
                    self.seconds = earlier + now - started
                    rate = (self.samples - first_sample) / (now - started)
                    progress = self._progress(terms, validation, time_budget, rate)
                    # Before the checkpoint: a record beyond it is made again, one missing is not.
                    self._log(log, progress)
                    if now - saved > self.config.checkpoint_seconds:
                        self.save()
                        saved = now
                    report(progress)
        except KeyboardInterrupt:
            self.save()  # Ctrl-C loses nothing
            raise
        validation = self.validator.evaluate(self.averaged)
        self.metrics = {"validation": {"protocol": REFINER_PROTOCOL, **validation.figures()}}
        self.save()
        if progress is not None:
            self._log(log, dataclasses.replace(progress, validation=validation))
        log.close()
        self._write_report(validation)
        return validation

    def fraction(self, time_budget: float | None = None) -> float:
        """Done fraction of the training: of the time where one is given, else of the samples."""
        return self.step / self.config.steps if time_budget is None else self.seconds / time_budget

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.checkpoint_path,
            {
                "step": self.step,
                "seconds": self.seconds,
                "network": self.network.state_dict(),
                "refiner": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "config": self.config.to_dict(),
                "earlier_samples": self.earlier_samples,
                "metrics": self.metrics,
                **self.record,
            },
        )

    def _pairs(self, step: int) -> Pairs:
        """The pairs of a step; the same whichever thread or run makes them."""
        config = self.config
        seen = self.earlier_samples + step * config.batch_size
        ramp = min(1.0, seen / config.ramp_samples) if config.ramp_samples > 0 else 1.0
        difficulty = config.first_difficulty + (1.0 - config.first_difficulty) * ramp
        return self.synthesizer.pairs(
            config.batch_size, step_generator(config.seed, step, self.device), step, difficulty
        )  # fmt: skip

    def _train_step(self, pairs: Pairs, time_budget: float | None) -> LossTerms:
        self.network.train()
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            increments, log_errors = self.network(_fast(pairs.crops), _fast(pairs.renders), pairs.crop_of)
        refined = increments @ pairs.hypotheses
        nearest = self.synthesizer.nearest_truth(refined, pairs.truth, pairs.object_index)
        errors = rotation_errors(pairs.hypotheses, pairs.nearest_truth, refined, nearest)
        terms = refiner_losses(refined, log_errors, pairs.nearest_truth, errors, self.config)
        if not torch.isfinite(terms.total):
            raise FloatingPointError(
                f"the loss is {terms.total.item()} at sample {self.samples}; lower learning_rate and --resume"
            )
        self.optimizer.zero_grad()
        terms.total.backward()
        rate = learning_rate(self.config, self.step, self.fraction(time_budget))
        self.optimizer.step(rate / self.config.learning_rate)
        self.step += 1
        # At first the plain mean, so that the beginning is soon forgotten.
        average_weights(self.averaged, self.network, min(self.config.average, 1.0 - 1.0 / self.step))
        return terms

    def _restore(self) -> None:
        refiner_checkpoint(self.checkpoint_path)  # says so if it is another kind's
        state = load_resumable(self.checkpoint_path, self.objects, self.config, FREE_AT_RESUME)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["refiner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.earlier_samples = state["step"], state["seconds"], state["earlier_samples"]

    def _progress(
        self, terms: LossTerms, validation: RefinerValidation | None, time_budget: float | None, rate: float
    ) -> RefinerProgress:
        total, fraction = self.config.samples, self.fraction(time_budget)
        left = (total - self.samples) / rate if time_budget is None else time_budget - self.seconds
        return RefinerProgress(self.samples, total, fraction, rate, max(left, 0.0), terms, validation)

    def _log(self, log: FigureLog, progress: RefinerProgress) -> None:
        """Record a validation; one of samples that are recorded already is left out."""
        if progress.validation is None or progress.samples <= log.last:
            return
        values = {
            "loss/total": progress.terms.total.item(),
            **{f"loss/{name}": value.item() for name, value in progress.terms.parts.items()},
            **{f"validation/{name}": value for name, value in progress.validation.figures().items()},
            "learning_rate": learning_rate(self.config, self.step, progress.fraction),
            "speed/samples_per_second": progress.samples_per_second,
            "speed/seconds_left": progress.seconds_left,
        }
        log.record(progress.samples, values)

    def _write_report(self, validation: RefinerValidation) -> None:
        done = f"{self.samples:,} crops with {self.config.hypotheses} hypotheses each, in {self.seconds / 60:.0f} min"
        if self.earlier_samples:
            done += f", after {self.earlier_samples:,} crops of earlier trainings"
        facts = [
            ("objects", ", ".join(self.objects.class_ids)),
            ("preset", self.record["preset"]),
            ("samples", done),
            ("backgrounds", self.synthesizer.background_name),
            ("hardware", hardware(self.device)),
            ("commit", self.record["commit"]),
        ]
        path, records = self.out / REPORT_NAME, read_log(self.out / LOG_NAME)
        write_refiner_report(path, self.record["preset"], self.config, facts, validation, records)


def refiner_optimizer(refiner: PoseRefiner, config: RefinerConfig) -> AdamAndMuon:
    """Muon for hidden weights, the trunks' at a share of its rate; Adam for first and last layers, biases and norms."""
    first = ("crop_blocks.0.", "render_blocks.0.", "output.")
    matrices = {name: p for name, p in refiner.named_parameters() if p.ndim >= 2 and not name.startswith(first)}
    trunks = [p for name, p in matrices.items() if name.startswith(("crop_blocks.", "render_blocks."))]
    joined = [p for name, p in matrices.items() if not name.startswith(("crop_blocks.", "render_blocks."))]
    others = [p for name, p in refiner.named_parameters() if name not in matrices]
    groups = [(trunks, config.muon_rate * config.trunk_rate), (joined, config.muon_rate)]
    return AdamAndMuon(others, config.learning_rate, groups)


@torch.no_grad()
def average_weights(averaged: nn.Module, network: nn.Module, kept: float) -> None:
    """Move weights and the norms' statistics of ``averaged`` towards ``network``; ``kept`` is the share that stays."""
    for mean, new in zip(averaged.state_dict().values(), network.state_dict().values()):
        if mean.dtype.is_floating_point:
            mean.lerp_(new, 1.0 - kept)


def _fast(images: Tensor) -> Tensor:
    """The same images with channels last, as convolutions on a CPU are fastest."""
    return images.to(memory_format=torch.channels_last)
