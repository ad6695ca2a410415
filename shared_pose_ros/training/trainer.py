"""The training loop: synthesis, loss, optimiser, checkpoints. Readable from top to bottom.

Every step draws its randomness from a generator seeded by (seed, step), so a resumed run makes exactly the samples that
an uninterrupted one would have made, without storing any generator's state.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.checkpoint import (
    CHECKPOINT_NAME,
    CheckpointError,
    load_checkpoint,
    object_set_fingerprint,
    save_checkpoint,
)
from shared_pose_ros.training.config import TrainingConfig, changed_settings
from shared_pose_ros.training.objective import LossTerms, Objective
from shared_pose_ros.training.optimizer import TrainingOptimizer
from shared_pose_ros.training.provenance import describe_object, source_commit
from shared_pose_ros.training.synthesis import Synthesizer, TrainingBatch
from shared_pose_ros.training.transfer import TrainedWeights, transfer
from shared_pose_ros.training.validation import ValidationResult, Validator

# Settings that change nothing about what is learnt.
FREE_AT_RESUME = ("threads", "checkpoint_seconds", "validation_samples", "validation_every")
VALIDATION_PROTOCOL = (
    "synthetic crops from the training synthesis with another seed; symmetric rotation error in degrees of the most "
    "confident hypothesis (median), of the best one (oracle_median), share under 15 degrees (recall_15)"
)


@dataclass(frozen=True)
class Progress:
    """What the loop reports: samples done and wanted, rate a second, seconds left, the last losses and validation."""

    samples: int
    total: int
    samples_per_second: float
    seconds_left: float
    terms: LossTerms
    validation: ValidationResult | None


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
        rasterizer: str = "warp",
    ) -> None:
        self.metrics: dict[str, Any] = {}
        self.record = {
            "preset": preset,
            "commit": source_commit(),
            "objects": [describe_object(model) for model in objects],
        }
        self.objects, self.config, self.out, self.device = objects, config, Path(out), device
        self.checkpoint_path = self.out / CHECKPOINT_NAME
        if self.checkpoint_path.exists() and not resume:
            raise CheckpointError(f"{self.checkpoint_path} exists; add --resume to go on, or choose another --out")
        self.fingerprint = object_set_fingerprint(objects)
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
            len(objects), config.hypotheses, config.width, config.crop_size, config.normalize_code
        ).to(device)
        set_tuning(self.network, config.tuning)
        self.optimizer = TrainingOptimizer(self.network, self.objective, config)
        self.step = self.earlier_samples = 0
        if resume:
            self._restore()
        elif start_from is not None:
            self._start_from(start_from)
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
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1))
        log = SummaryWriter(str(self.out / "tensorboard"))
        started = saved = time.monotonic()
        first_sample, validation = self.samples, None
        deadline = math.inf if time_budget is None else started + time_budget
        try:
            # Synthesis runs one step ahead in a thread of its own: torch and Warp release the GIL while they compute.
            with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as ahead:
                upcoming = ahead.submit(self._batch, self.step)
                while self.samples < self.config.samples and time.monotonic() < deadline:
                    batch = upcoming.result()
                    upcoming = ahead.submit(self._batch, self.step + 1)
                    terms = self._train_step(batch)
                    if self.samples % self.config.validation_every < self.config.batch_size:
                        validation = self.validator.evaluate(self.network)
                        self._log(log, terms, validation)
                    now = time.monotonic()
                    if now - saved > self.config.checkpoint_seconds:
                        self.save()
                        saved = now
                    rate = (self.samples - first_sample) / (now - started)
                    left = max(0.0, min((self.config.samples - self.samples) / rate, deadline - now))
                    report(Progress(self.samples, self.config.samples, rate, left, terms, validation))
        except KeyboardInterrupt:
            self.save()  # Ctrl-C loses nothing
            raise
        validation = self.validator.evaluate(self.network)
        self.metrics = {"validation": {"protocol": VALIDATION_PROTOCOL, **dataclasses.asdict(validation)}}
        self.save()
        log.close()
        return validation

    def save(self) -> None:
        """Write the checkpoint."""
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
                "fingerprint": self.fingerprint,
            },
        )

    def _batch(self, step: int) -> TrainingBatch:
        """The samples of a step; the same whichever thread or run makes them."""
        progress = step * self.config.batch_size / self.config.samples
        generator = torch.Generator(self.device).manual_seed(self.config.seed * 1_000_000_007 + step)
        return self.synthesizer.batch(self.config.batch_size, generator, difficulty(self.config, progress))

    def _train_step(self, batch: TrainingBatch) -> LossTerms:
        train_mode(self.network, self.config.tuning)
        terms = self.objective(self.network, batch, self.samples / self.config.samples)
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
        state = load_checkpoint(self.checkpoint_path)
        if state["fingerprint"] != self.fingerprint:
            trained = ", ".join(entry["class_id"] for entry in state["objects"])
            raise CheckpointError(
                f"{self.checkpoint_path} was trained on other objects ({trained}) than given "
                f"({', '.join(self.objects.class_ids)}); give the same object set or another --out"
            )
        for key, (old, new) in changed_settings(state["config"], self.config.to_dict()).items():
            if key not in FREE_AT_RESUME:
                raise CheckpointError(
                    f"{self.checkpoint_path} was made with {key} {old}, this run has {new}; resume with the same "
                    "setting, or begin anew with --start-from"
                )
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.earlier_samples = state.get("earlier_samples", 0)

    def _start_from(self, source: TrainedWeights) -> None:
        """Take the weights of another training; its samples count as earlier ones."""
        transfer(source, self.network, self.objects.class_ids, self.config.crop_size)
        if source.objective is not None:
            self.objective.load_state_dict(source.objective)
        self.earlier_samples = source.samples

    def _log(self, log: SummaryWriter, terms: LossTerms, validation: ValidationResult) -> None:
        values = {
            "loss/total": terms.total.item(),
            "loss/depth": terms.depth.item(),
            "loss/spread": terms.spread.item(),
            "loss/mixture": terms.mixture.item(),
            "loss/surface": terms.surface.item(),
            "validation/median_deg": validation.median,
            "validation/oracle_median_deg": validation.oracle_median,
            "validation/recall_15": validation.recall_15,
            "validation/usage": validation.usage,
            "learning_rate": learning_rate(self.config, self.step),
        }
        for name, value in values.items():
            log.add_scalar(name, value, self.samples)
        for model, error in zip(self.objects, validation.by_object):
            if error is not None:
                log.add_scalar(f"median_deg/{model.class_id}", error, self.samples)
        record = {"samples": self.samples, **values, "by_object": validation.by_object}
        with open(self.out / "log.jsonl", "a") as stream:
            stream.write(json.dumps(record) + "\n")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear rise, then a cosine from learning_rate to final_learning_rate at the last step."""
    steps = max(config.samples // config.batch_size, 1)
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return rise * (config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * fall)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that the encoder computes in, None for full precision; "auto" takes bfloat16 where hardware has it."""
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bfloat16()
        return torch.bfloat16 if fast else None
    return {"fp32": None, "bf16": torch.bfloat16}[precision]


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than full precision."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def difficulty(config: TrainingConfig, progress: float) -> float:
    """How much of the synthesis' disturbances is on: 0 before the ramp, 1 after it."""
    start, end = config.ramp
    return 1.0 if progress >= end else max(0.0, (progress - start) / (end - start))


def set_tuning(network: PoseNetwork, tuning: str) -> None:
    """Which parts learn: the head always; of the encoder nothing (frozen), its last layer (last_layer), all (full)."""
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(tuning == "full")
    for parameter in network.encoder.linear.parameters():
        parameter.requires_grad_(tuning in ("full", "last_layer"))


def train_mode(network: nn.Module, tuning: str) -> None:
    """Training mode; an encoder whose convolutions are frozen keeps its norms in evaluation mode (METHOD 1)."""
    network.train()
    if tuning != "full":
        network.encoder.eval()


def tune_allocator() -> None:
    """Keep freed memory in the process: glibc otherwise gives large tensors back and page-faults at every step.

    Measured: a synthesis step of 64 crops on one core took 25 ms a sample before, 4 ms after (with fused shading).
    """
    if sys.platform.startswith("linux"):
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        except OSError:
            pass  # another C library: nothing to tune
