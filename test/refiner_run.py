"""A refiner's training that takes seconds: two boxes, plain images, a handful of pairs."""

import dataclasses
import json

import torch
import yaml
from evaluation_scene import objects
from training_run import PLAIN, UNCHANGED

from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.training.config import RefinerConfig
from shared_pose_ros.training.refiner_pairs import PairSynthesizer, sample_shares
from shared_pose_ros.training.refiner_trainer import RefinerTrainer

TINY_REFINER = RefinerConfig(
    samples=24,
    batch_size=4,
    hypotheses=2,
    warmup_steps=1,
    validation_samples=6,
    validation_every=8,
    precision="fp32",
)


def write_images(folder, name="plain", **changes):
    """A preset file of images without disturbances; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"synthesis": {**dataclasses.asdict(PLAIN), **changes}, "augmentation": dataclasses.asdict(UNCHANGED)}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values))))  # tuples as lists
    return path


def make_refiner_trainer(out, photographs, images, resume=False, begin=None, parts=None, **changes):
    """A trainer of the two boxes on the CPU."""
    config = dataclasses.replace(TINY_REFINER, images=str(images), **changes)
    parts = parts or objects()
    shares, cpu = sample_shares([len(parts)], config.shares), torch.device("cpu")
    return RefinerTrainer(parts, shares, config, out, cpu, photographs, resume, "tiny", begin)


def make_pair_synthesizer(rasterizer, photographs, images, parts=None, answers=None, **changes):
    """A synthesizer of the two boxes on the CPU."""
    config = dataclasses.replace(TINY_REFINER, images=str(images), **changes)
    parts = parts or objects()
    shares = sample_shares([len(parts)], config.shares)
    return PairSynthesizer(parts, shares, config, rasterizer, torch.device("cpu"), photographs, answers)


def fresh_refiner(seed=0):
    """Random weights."""
    torch.manual_seed(seed)
    return PoseRefiner()
