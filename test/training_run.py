"""A training that takes seconds: two small objects, crops of 32 pixels, a handful of samples."""

import dataclasses

import cv2
import numpy as np
import torch
from shapes import tiny_objects

from shared_pose_ros.training.config import AugmentationConfig, LossConfig, SynthesisConfig, TrainingConfig
from shared_pose_ros.training.trainer import Trainer

PLAIN = SynthesisConfig(
    supersample=1,
    lights=1,
    specular=(0, 0),
    metallic=(0, 0),
    crevice=(0, 0),
    shadows=0,
    tint=0,
    neighbours=0,
    occluders=0,
)
UNCHANGED = AugmentationConfig(blur=0, noise=0, add=0, multiply=0, contrast=0, invert=0, cutout=0)
TINY = TrainingConfig(
    crop_size=32,
    hypotheses=2,
    samples=48,
    batch_size=8,
    warmup_steps=1,
    validation_samples=8,
    validation_every=16,
    synthesis=PLAIN,
    augmentation=UNCHANGED,
    loss=LossConfig(size=16),
)


def write_photographs(folder):
    """Two small background pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 90, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def make_trainer(out, photographs, resume=False, objects=None, start_from=None, encoder=None, **changes):
    """A trainer of the two objects on the CPU."""
    config = dataclasses.replace(TINY, **changes)
    cpu = torch.device("cpu")
    return Trainer(
        objects or tiny_objects(), config, out, cpu, photographs, resume, "tiny", start_from, encoder=encoder
    )
