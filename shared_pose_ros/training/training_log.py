"""The log of a training: figures and pictures in TensorBoard, a line per validation in log.jsonl.

A resumed training goes on in the same log: what a crash left beyond the checkpoint is dropped from log.jsonl and hidden
from TensorBoard, so every step stands there once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from shared_pose_ros.training.config import RENAMED
from shared_pose_ros.training.objective import LossTerms
from shared_pose_ros.training.sample_images import hypothesis_rows
from shared_pose_ros.training.synthesis import Synthesizer
from shared_pose_ros.training.validation import SampleErrors, ValidationResult, Validator

LOG_NAME = "log.jsonl"
# Loss terms are called as their weights are.
_PRESENT_NAMES = {
    older.replace(".", "/").removesuffix("_weight"): name.replace(".", "/").removesuffix("_weight")
    for older, name in RENAMED.items()
}
PICTURED_SAMPLES = 12  # at most this many a validation: a tenth of a second to a second of rendering


@dataclass(frozen=True)
class Progress:
    """What the loop reports: samples done and wanted, samples per second, seconds left, last losses and validation."""

    samples: int
    total: int
    samples_per_second: float
    seconds_left: float
    terms: LossTerms
    validation: ValidationResult | None


class ValidationPictures:
    """Rows of pictures of a few fixed validation samples.

    Args:
        synthesizer: its meshes and its backend are used.
        validator: the samples are some of its own, spread over the objects.
        class_ids: in the network's order.
    """

    def __init__(self, synthesizer: Synthesizer, validator: Validator, class_ids: Sequence[str]) -> None:
        self.synthesizer, self.class_ids = synthesizer, tuple(class_ids)
        self.chosen, self.truth = validator.fixed_samples(PICTURED_SAMPLES)
        names = [self.class_ids[index] for index in self.truth.object_index.tolist()]
        self.names = [f"{number:02d}_{name}" for number, name in enumerate(names)]

    def rows(self, samples: SampleErrors) -> list[np.ndarray]:
        """``pictures.hypothesis_rows`` of the fixed samples."""
        own = SampleErrors(*(getattr(samples, name)[self.chosen] for name in samples.__dataclass_fields__))
        meshes, rasterizer = self.synthesizer.meshes, self.synthesizer.rasterizer
        return hypothesis_rows(self.truth, own, self.class_ids, meshes, rasterizer)


class FigureLog:
    """Figures of a training folder, in TensorBoard and log.jsonl.

    Args:
        out: the folder; TensorBoard's files lie in its ``tensorboard``.
        samples: that the training has done; records beyond it are dropped.
    """

    def __init__(self, out: Path, samples: int) -> None:
        self.path = out / LOG_NAME
        kept = [record for record in read_log(self.path) if record["samples"] <= samples]
        _rewrite(self.path, kept)
        self.last = kept[-1]["samples"] if kept else -1
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=samples + 1)

    def record(self, samples: int, values: Mapping[str, float], further: Mapping[str, Any] | None = None) -> None:
        """Record figures by their TensorBoard names; ``further`` goes to log.jsonl alone."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, samples)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"samples": samples, **values, **(further or {})}) + "\n")
        self.writer.flush()
        self.last = samples

    def close(self) -> None:
        """Write what is still buffered."""
        self.writer.close()


class TrainingLog(FigureLog):
    """The log of one training folder of a pose network.

    Args:
        out: as of ``FigureLog``.
        class_ids: in the network's order.
        samples: as of ``FigureLog``.
        pictures: what TensorBoard shows beside figures.
    """

    def __init__(self, out: Path, class_ids: Sequence[str], samples: int, pictures: ValidationPictures) -> None:
        super().__init__(out, samples)
        self.class_ids, self.pictures = tuple(class_ids), pictures

    def write(self, progress: Progress, learning_rate: float) -> None:
        """Record a validation; one of samples that are recorded already is left out."""
        validation, samples = progress.validation, progress.samples
        if validation is None or samples <= self.last:
            return
        for class_id, error in zip(self.class_ids, validation.by_object):
            if error is not None:
                self.writer.add_scalar(f"median_deg/{class_id}", error, samples)
        for name, row in zip(self.pictures.names, self.pictures.rows(validation.samples)):
            self.writer.add_image(f"hypotheses/{name}", row, samples, dataformats="HWC")
        self.record(samples, scalars(progress, validation, learning_rate), {"by_object": validation.by_object})


def scalars(progress: Progress, validation: ValidationResult, learning_rate: float) -> dict[str, float]:
    """The figures of a validation by their TensorBoard names: losses, speed, rate, errors in degrees."""
    terms = progress.terms
    return {
        "loss/total": terms.total.item(),
        **{f"loss/{name}": value.item() for name, value in terms.parts.items()},
        "validation/median_deg": validation.median,
        "validation/oracle_median_deg": validation.oracle_median,
        "validation/recall_15": validation.recall_15,
        "validation/usage": validation.usage,
        "learning_rate": learning_rate,
        "speed/samples_per_second": progress.samples_per_second,
        "speed/seconds_left": progress.seconds_left,
    }


def read_log(path: Path) -> list[dict[str, Any]]:
    """Records of a log.jsonl by rising samples; a line that a crash cut short is left out, a missing file is empty."""
    records: dict[int, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                records[int(record["samples"])] = {_PRESENT_NAMES.get(name, name): record[name] for name in record}
            except (ValueError, KeyError, TypeError):
                continue
    return [records[samples] for samples in sorted(records)]


def _rewrite(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace the file in one move, so that a kill leaves the old or the new one."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    os.replace(partial, path)
