"""The training loop: synthesis, loss, optimiser, checkpoints. Readable from top to bottom.

Every step draws its randomness from a generator seeded by (seed, step), so a resumed run makes exactly the samples that
an uninterrupted one would have made, without storing any generator's state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared_pose_ros.geometry.display_mesh import pack_meshes
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.backends.precision import has_bf16
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.checkpoint import (
    CHECKPOINT_NAME,
    check_replaceable,
    load_resumable,
    save_checkpoint,
    training_record,
)
from shared_pose_ros.training.config import EncoderConfig, RefinerConfig, TrainingConfig
from shared_pose_ros.training.distributed import Loss, Processes, averaged
from shared_pose_ros.training.incremental import Extension, NewObjects, freeze_known
from shared_pose_ros.training.objective import LossTerms, Objective
from shared_pose_ros.training.optimizer import TrainingOptimizer
from shared_pose_ros.training.prefetch import prefetched, step_generator
from shared_pose_ros.training.provenance import hardware
from shared_pose_ros.training.run_report import REPORT_NAME, RunFacts, write_training_report
from shared_pose_ros.training.synthesis import Synthesizer, TrainingBatch
from shared_pose_ros.training.training_log import LOG_NAME, Progress, TrainingLog, ValidationPictures, read_log
from shared_pose_ros.training.transfer import EncoderWeights, TrainedWeights, load_encoder, transfer
from shared_pose_ros.training.validation import ValidationResult, Validator

# Settings that change nothing about a step; a longer training goes on with the course of its new length.
FREE_AT_RESUME = ("samples", "threads", "checkpoint_seconds", "validation_samples", "validation_every")
VALIDATION_PROTOCOL = (
    "synthetic crops from the training synthesis with another seed; symmetric rotation error in degrees of the most "
    "confident hypothesis (median), of the best one (oracle_median), share under 15 degrees (recall_15)"
)


class Trainer:
    """Trains one shared network on an object set.

    Args:
        objects: the set; its order becomes the network's.
        config: every setting.
        out: folder of the checkpoint, the configuration and the TensorBoard log.
        device: torch device of everything.
        backgrounds: folder of photographs, None for procedural pictures.
        resume: go on from the folder's checkpoint.
        preset: name of the configuration, for the record.
        start_from: weights of another training to begin with; crop size and objects may differ.
        extend: a trained network that ``objects`` are added to; its own objects keep their output.
        processes: this process among those that share the training; the leader alone writes.
        encoder: a pre-trained encoder to begin with, where ``start_from`` is None; the crop size may differ.
        rasterizer: backend of the loss renders and of the synthesis' face ids, see ``make_rasterizer``.

    Raises:
        CheckpointError: resume without a usable checkpoint of the same objects; or no resume where one exists.
        ImportError: the rasterizer's package is absent.
    """

    def __init__(
        self,
        objects: ObjectSet,
        config: TrainingConfig,
        out: Path,
        device: torch.device,
        backgrounds: Path | None = None,
        resume: bool = False,
        preset: str = "custom",
        start_from: TrainedWeights | None = None,
        extend: Extension | None = None,
        processes: Processes = Processes(),  # noqa: B008 (immutable)
        encoder: EncoderWeights | None = None,
        rasterizer: str = "warp",
    ) -> None:
        known = extend.objects if extend else ()
        self.metrics: dict[str, Any] = {}
        self.record = training_record(objects, preset, known)
        self.processes, self.share = processes, processes.share(config.batch_size)
        self.objects, self.config, self.out, self.device = objects, config, Path(out), device
        self.checkpoint_path = self.out / CHECKPOINT_NAME
        check_replaceable(self.checkpoint_path, resume)
        torch.manual_seed(config.seed)
        backend = make_rasterizer(rasterizer)
        self.synthesizer = Synthesizer(
            objects, config.synthesis, config.augmentation, config.crop_size, backend, device, backgrounds,
            config.seed,
        )  # fmt: skip
        self.objective = Objective(
            objects, config.loss, backend, device, config.width, autocast_dtype(config.precision, device)
        )
        self.network = PoseNetwork(
            len(known) + len(objects), config.hypotheses, config.width, config.crop_size, config.normalize_code
        ).to(device)
        # What the loss and the validation see: all of the network, or its new objects.
        self.learner = NewObjects(self.network, len(known)) if extend else self.network
        self.tuning = "rows" if extend else config.tuning
        if extend:
            freeze_known(self.network, len(known))
        else:
            set_tuning(self.network, config.tuning)
        self.optimizer = TrainingOptimizer(self.network, self.objective, config)
        self._known_meshes = extend.meshes if extend else ()
        self._packed_meshes = b""
        self.step = self.earlier_samples = 0
        if resume:
            self._restore()
        elif (source := extend.weights if extend else start_from) is not None:
            self._start_from(source)
        elif encoder is not None:
            load_encoder(encoder, self.network, config.crop_size)
            self.record["encoder_source"] = encoder.source
        # After the weights are in place: all processes begin with the leader's.
        self.loss = averaged(Loss(self.learner, self.objective), processes)
        # Negative, so that no step of any training shares the seed.
        self.validator = Validator(
            objects, self.synthesizer, config.validation_samples, -1 - config.seed, config.batch_size
        )

    @property
    def samples(self) -> int:
        """Samples trained on so far."""
        return self.step * self.config.batch_size

    def train(
        self, time_budget: float | None = None, report: Callable[[Progress], None] = lambda progress: None
    ) -> ValidationResult:
        """Train to ``config.samples``, or for ``time_budget`` seconds, and leave a checkpoint either way.

        Args:
            time_budget: seconds from now; None trains to the end. The schedule follows samples, not time.
            report: called after every step.

        Returns:
            The last validation.

        Raises:
            CheckpointError: the checkpoint cannot be written.
            FloatingPointError: the loss is not finite; the last good checkpoint stays.
        """
        leads = self.processes.leads
        log = pictures = None
        if leads:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1))
            pictures = ValidationPictures(self.synthesizer, self.validator, self.objects.class_ids)
            log = TrainingLog(self.out, self.objects.class_ids, self.samples, pictures)
        started = saved = time.monotonic()
        first_sample, validation, progress = self.samples, None, None
        deadline = math.inf if time_budget is None else started + time_budget
        try:
            with contextlib.closing(prefetched(self._batch, self.step)) as batches:
                while self._goes_on(deadline):
                    terms = self._train_step(next(batches))
                    validates = leads and self.samples % self.config.validation_every < self.config.batch_size
                    if validates:
                        validation = self.validator.evaluate(self.learner)
                    now = time.monotonic()
                    rate = (self.samples - first_sample) / (now - started)
                    left = max(0.0, min((self.config.samples - self.samples) / rate, deadline - now))
                    progress = Progress(self.samples, self.config.samples, rate, left, terms, validation)
                    # Before the checkpoint: a record beyond it is made again, one missing is not.
                    if validates and log is not None:
                        log.write(progress, learning_rate(self.config, self.step))
                    if now - saved > self.config.checkpoint_seconds:
                        self.save()
                        saved = now
                    report(progress)
        except KeyboardInterrupt:
            self.save()  # Ctrl-C loses nothing
            raise
        validation = self.validator.evaluate(self.learner)
        self.metrics = {"validation": {"protocol": VALIDATION_PROTOCOL, **validation.figures()}}
        self.save()
        if log is not None and pictures is not None:
            if progress is not None:
                log.write(dataclasses.replace(progress, validation=validation), learning_rate(self.config, self.step))
            log.close()
            self._write_report(validation, pictures, progress.samples_per_second if progress else None)
        self.processes.wait()
        return validation

    def _goes_on(self, deadline: float) -> bool:
        return self.samples < self.config.samples and self.processes.agree(time.monotonic() < deadline, self.device)

    def save(self) -> None:
        """Write the checkpoint, if this process leads."""
        if not self.processes.leads:
            return
        save_checkpoint(
            self.checkpoint_path,
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "config": self.config.to_dict(),
                "earlier_samples": self.earlier_samples,
                "metrics": self.metrics,
                **self.record,
                "display_meshes": self._display_meshes(),
            },
        )

    def _batch(self, step: int) -> TrainingBatch:
        """The samples of a step; the same whichever thread or run makes them."""
        progress = step * self.config.batch_size / self.config.samples
        place = step * self.processes.count + self.processes.rank
        generator = step_generator(self.config.seed, place, self.device)
        return self.synthesizer.batch(self.share, generator, difficulty(self.config, progress))

    def _train_step(self, batch: TrainingBatch) -> LossTerms:
        train_mode(self.network, self.tuning)
        terms: LossTerms = self.loss(batch, self.samples / self.config.samples)
        if not torch.isfinite(terms.total):
            raise FloatingPointError(
                f"the loss is {terms.total.item()} at sample {self.samples}; lower learning_rate and --resume"
            )
        self.optimizer.zero_grad()
        terms.total.backward()
        self.optimizer.step(learning_rate(self.config, self.step) / self.config.learning_rate)
        self.step += 1
        return terms

    def _restore(self) -> None:
        state = load_resumable(self.checkpoint_path, self.objects, self.config, FREE_AT_RESUME)
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.earlier_samples = state.get("earlier_samples", 0)
        self.record["encoder_source"] = state.get("encoder_source")
        self._packed_meshes = state.get("display_meshes", b"")

    def _display_meshes(self) -> bytes:
        """For the bundle, packed: made when the first checkpoint needs them, half a second per object."""
        if not self._packed_meshes:
            new = [display_mesh(model.mesh) for model in self.objects]
            self._packed_meshes = pack_meshes([*self._known_meshes, *new])
        return self._packed_meshes

    def _start_from(self, source: TrainedWeights) -> None:
        """Take the weights of another training; its samples count as earlier ones."""
        transfer(source, self.network, [entry["class_id"] for entry in self.record["objects"]], self.config.crop_size)
        if source.objective is not None and source.class_ids == tuple(self.objects.class_ids):
            self.objective.load_state_dict(source.objective)
        self.earlier_samples = source.samples

    def _write_report(self, validation: ValidationResult, pictures: ValidationPictures, rate: float | None) -> None:
        facts = RunFacts(
            class_ids=self.objects.class_ids,
            preset=self.record["preset"],
            config=self.config,
            samples=self.samples,
            earlier_samples=self.earlier_samples,
            samples_per_second=rate,
            backgrounds=self.synthesizer.background_name,
            hardware=hardware(self.device),
            commit=self.record["commit"],
            protocol=VALIDATION_PROTOCOL,
        )
        rows = dict(zip(pictures.names, pictures.rows(validation.samples)))
        records = read_log(self.out / LOG_NAME)
        write_training_report(self.out / REPORT_NAME, facts, records, validation.samples, rows)


def learning_rate(
    config: TrainingConfig | EncoderConfig | RefinerConfig, step: int, progress: float | None = None
) -> float:
    """Adam's rate at a step.

    Schedule "cosine": a linear rise, then a cosine from learning_rate to final_learning_rate at the last step.
    "one_cycle", of the paper's object-specific networks: from a tenth of learning_rate up to it over 45 % of the
    training, back over the next 45 %, then down to final_learning_rate.

    Args:
        config: the rates and the length.
        step: steps done.
        progress: done fraction of the training; None for that of the steps.
    """
    done = step / config.steps if progress is None else progress
    if isinstance(config, TrainingConfig) and config.schedule == "one_cycle":
        low, high, last = config.learning_rate / 10, config.learning_rate, config.final_learning_rate
        return float(np.interp(done, [0.0, 0.45, 0.9, 1.0], [low, high, low, last]))
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return rise * (config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * fall)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that the encoder computes in, None for full precision; "auto" takes bfloat16 where hardware has it.

    Emulated, as on other processors, it is slower than full precision.
    """
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else has_bf16()
        return torch.bfloat16 if fast else None
    return {"fp32": None, "bf16": torch.bfloat16}[precision]


def difficulty(config: TrainingConfig, progress: float) -> float:
    """How much of the synthesis' disturbances is on: 0 before the ramp, 1 after it."""
    start, end = config.ramp
    return 1.0 if progress >= end else max(0.0, (progress - start) / (end - start))


def set_tuning(network: PoseNetwork, tuning: str) -> None:
    """Which parts learn: the head always; of the encoder nothing (frozen), its last layer (last_layer), all (full)."""
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(tuning == "full")
    for parameter in network.encoder.last_layer().parameters():
        parameter.requires_grad_(tuning in ("full", "last_layer"))


def train_mode(network: PoseNetwork, tuning: str) -> None:
    """Training mode; frozen parts keep their norms in evaluation mode, as in the paper.

    ``tuning`` is one of TUNINGS, or "rows" where only output rows learn.
    """
    network.train(tuning != "rows")
    if tuning != "full":
        network.encoder.eval()
