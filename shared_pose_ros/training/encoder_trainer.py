"""Pre-training of the encoder: reconstruct every object, clean and centred, from a disturbed crop.

It is a multi-path augmented autoencoder (Sundermeyer et al., CVPR 2020).

As in trainer.py, a step's randomness follows from (seed, step) alone, so a resumed run is exactly an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.autoencoder import Autoencoder
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.checkpoint import (
    ENCODER_CHECKPOINT_NAME,
    ENCODER_NAME,
    check_replaceable,
    load_resumable,
    save_checkpoint,
    training_record,
)
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.prefetch import prefetched, step_generator
from shared_pose_ros.training.synthesis import AutoencoderBatch, Synthesizer
from shared_pose_ros.training.trainer import autocast_dtype, learning_rate

PICTURE_NAME = "reconstructions.png"
CONFIG_NAME = "encoder.json"
FREE_AT_RESUME = ("threads", "checkpoint_seconds", "log_every", "picture_every")
_COLUMNS = 10
_SHOWN = 40  # at most this many samples in a picture
_SMALLEST_TILE = 64  # pixels; smaller crops are enlarged


@dataclass(frozen=True)
class EncoderProgress:
    """What the loop reports: steps done and wanted, samples per second, seconds left, the last step's loss."""

    step: int
    steps: int
    samples_per_second: float
    seconds_left: float
    loss: float


class EncoderTrainer:
    """Trains an encoder and one decoder per object.

    Args:
        objects: the set; a step shows ``images_per_object`` samples of each.
        config: every setting.
        out: folder; receives encoder.pt (what a pose training takes), encoder_training.pt (what ``resume`` takes),
            encoder.json, reconstructions.png and tensorboard/.
        device: torch device of everything.
        backgrounds: folder of photographs, None for procedural pictures.
        resume: go on from the folder's checkpoint.
        preset: name of the configuration, for the record.

    Raises:
        CheckpointError: resume without a usable checkpoint of the same objects; or no resume where one exists.
    """

    def __init__(
        self,
        objects: ObjectSet,
        config: EncoderConfig,
        out: Path,
        device: torch.device,
        backgrounds: Path | None = None,
        resume: bool = False,
        preset: str = "custom",
    ) -> None:
        self.objects, self.config, self.out, self.device = objects, config, Path(out), device
        self.record = training_record(objects, preset)
        self.checkpoint_path = self.out / ENCODER_CHECKPOINT_NAME
        check_replaceable(self.checkpoint_path, resume)
        torch.manual_seed(config.seed)
        self.synthesizer = Synthesizer(
            objects, config.synthesis, config.augmentation, config.crop_size, make_rasterizer(), device, backgrounds,
            config.seed,
        )  # fmt: skip
        self.network = Autoencoder(len(objects), config.width, config.crop_size).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.autocast = autocast_dtype(config.precision, device)
        self.step = 0
        if resume:
            self._restore()
        # Negative, so that no step of any training shares the seed.
        generator = torch.Generator(device).manual_seed(-1 - config.seed)
        self.validation = self.synthesizer.autoencoder_batch(config.images_per_object, generator)

    def train(
        self, time_budget: float | None = None, report: Callable[[EncoderProgress], None] = lambda progress: None
    ) -> float:
        """Train to ``config.steps``, or for ``time_budget`` seconds, and leave checkpoint and picture either way.

        Args:
            time_budget: seconds from now; None trains to the end.
            report: called after every step.

        Returns:
            The loss on the fixed validation batch, the networks in evaluation mode.

        Raises:
            CheckpointError: the checkpoint cannot be written.
            FloatingPointError: the loss is not finite; the last good checkpoint stays.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / CONFIG_NAME).write_text(json.dumps(self.config.to_dict(), indent=1))
        log = SummaryWriter(str(self.out / "tensorboard"))
        started = saved = time.monotonic()
        first, samples_per_step = self.step, self.config.images_per_object * len(self.objects)
        deadline = math.inf if time_budget is None else started + time_budget
        try:
            with contextlib.closing(prefetched(self._batch, self.step)) as batches:
                while self.step < self.config.steps and time.monotonic() < deadline:
                    loss = self._train_step(next(batches))
                    now = time.monotonic()
                    rate = (self.step - first) / (now - started)
                    left = max(0.0, min((self.config.steps - self.step) / rate, deadline - now))
                    progress = EncoderProgress(self.step, self.config.steps, rate * samples_per_step, left, loss)
                    self._log(log, progress)
                    if now - saved > self.config.checkpoint_seconds:
                        self.save()
                        saved = now
                    report(progress)
        except KeyboardInterrupt:
            self.save()  # Ctrl-C loses nothing
            raise
        self.save()
        loss, picture = self.evaluate()
        if not cv2.imwrite(str(self.out / PICTURE_NAME), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{self.out / PICTURE_NAME} could not be written; free space or choose another --out")
        log.close()
        return loss

    @torch.no_grad()
    def evaluate(self) -> tuple[float, NDArray[np.uint8]]:
        """Loss and picture ``(H, W, 3)`` uint8 RGB of the validation batch: rows of input, target, reconstruction."""
        self.network.eval()
        batch = self.validation
        reconstructions = self._reconstruct(batch.crops)
        loss = bootstrapped_loss(reconstructions, batch.targets, self.config.bootstrap).item()
        return loss, reconstruction_picture(batch.crops, batch.targets, reconstructions, len(self.objects))

    def save(self) -> None:
        """Write the checkpoint and, small and alone, the encoder."""
        common = {"step": self.step, "config": self.config.to_dict(), **self.record}
        network, optimizer = self.network.state_dict(), self.optimizer.state_dict()
        save_checkpoint(self.checkpoint_path, {"network": network, "optimizer": optimizer, **common})
        save_checkpoint(self.out / ENCODER_NAME, {"encoder": self.network.encoder.state_dict(), **common})

    def _batch(self, step: int) -> AutoencoderBatch:
        """The samples of a step; the same whichever thread or run makes them."""
        generator = step_generator(self.config.seed, step, self.device)
        return self.synthesizer.autoencoder_batch(self.config.images_per_object, generator)

    def _reconstruct(self, crops: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return self.network(crops)

    def _train_step(self, batch: AutoencoderBatch) -> float:
        self.network.train()
        loss = bootstrapped_loss(self._reconstruct(batch.crops), batch.targets, self.config.bootstrap)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.step}; lower learning_rate and --resume")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _restore(self) -> None:
        constant = self.config.learning_rate == self.config.final_learning_rate
        # At a constant rate a longer training begins as a shorter one does.
        free = (*FREE_AT_RESUME, "steps") if constant else FREE_AT_RESUME
        state = load_resumable(self.checkpoint_path, self.objects, self.config, free)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _log(self, log: SummaryWriter, progress: EncoderProgress) -> None:
        if self.step % self.config.log_every == 0:
            log.add_scalar("autoencoder/loss", progress.loss, self.step)
            log.add_scalar("autoencoder/learning_rate", learning_rate(self.config, self.step), self.step)
            log.add_scalar("autoencoder/samples_per_second", progress.samples_per_second, self.step)
        if self.step % self.config.picture_every == 0:
            loss, picture = self.evaluate()
            log.add_scalar("autoencoder/validation_loss", loss, self.step)
            log.add_image("autoencoder/reconstructions", picture, self.step, dataformats="HWC")


def bootstrapped_loss(reconstructions: Tensor, targets: Tensor, ratio: int) -> Tensor:
    """Mean squared error over the hardest 1/ratio of each image's pixel values (Sundermeyer et al., ECCV 2018, 3.4).

    Without it the black background, most of every target, drowns the object.

    Args:
        reconstructions: ``(B, 3, S, S)``.
        targets: ``(B, 3, S, S)``.
        ratio: of all values to those that count; 1 is the plain mean.

    Returns:
        The mean over images, a scalar.
    """
    errors = (reconstructions - targets).square().flatten(1)
    return errors.topk(max(errors.shape[1] // ratio, 1), dim=1, sorted=False).values.mean()


def reconstruction_picture(crops: Tensor, targets: Tensor, reconstructions: Tensor, objects: int) -> NDArray[np.uint8]:
    """Rows of inputs, of their targets and of their reconstructions, three by three.

    Args:
        crops: ``(k·m, 3, S, S)`` in [0, 1], object by object.
        targets: the same shape.
        reconstructions: the same shape.
        objects: k.

    Returns:
        ``(H, W, 3)`` uint8 RGB; one image of every object in the first rows, then a second one, at most 40 in all.
    """
    layers = torch.stack([crops, targets, reconstructions]).float().clamp(0, 1).cpu()
    enlargement = -(-_SMALLEST_TILE // crops.shape[-1])
    layers = layers.repeat_interleave(enlargement, dim=3).repeat_interleave(enlargement, dim=4)
    layers = layers.unflatten(1, (objects, -1)).transpose(1, 2).flatten(1, 2)[:, :_SHOWN]
    columns = min(objects, _COLUMNS)
    rows = [_row(layers[:, start : start + columns], columns) for start in range(0, layers.shape[1], columns)]
    return (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def _row(layers: Tensor, columns: int) -> Tensor:
    """``(3, n, 3, S, S)`` as one picture ``(3, 3·S, columns·S)``, black where n is less than ``columns``."""
    layers = F.pad(layers, (0, 0) * 3 + (0, columns - layers.shape[1]))
    return layers.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
