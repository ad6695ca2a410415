"""Fixtures that several rooms share: a bundle with random weights, small enough to make in every test session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_run import make_trainer, write_photographs

from shared_pose_ros.bundle import BundleMetadata, BundleObject, export_bundle
from shared_pose_ros.network.pose_network import PoseNetwork


def make_metadata(objects: int = 3, hypotheses: int = 4, crop_size: int = 32) -> BundleMetadata:
    """Metadata of a network for ``objects`` boxes of 60×40×20 mm called part_0, part_1, …, with aliases "0", "1", …"""
    described = tuple(
        BundleObject(
            class_id=f"part_{index}",
            aliases=(str(index),),
            name=f"part number {index}",
            diameter=0.0748,
            extents=(0.06, 0.04, 0.02),
            centre=(0.0, 0.0, 0.01 * index),
            scale=0.03,
        )
        for index in range(objects)
    )
    return BundleMetadata(
        name="tiny", objects=described, hypotheses=hypotheses, crop_pad=1.2, crop_size=crop_size,
        encoder_width="compact", tuning="full", normalize_code=False, preset="test", samples=0, seed=0, commit="none",
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_network() -> PoseNetwork:
    """Random weights, evaluation mode: 3 objects, 4 hypotheses, crops of 32 pixels."""
    torch.manual_seed(0)
    return PoseNetwork(3, 4, "compact", 32).eval()


@pytest.fixture(scope="session")
def tiny_bundle(tiny_network: PoseNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a verified bundle of ``tiny_network``."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.pose.pt"
    export_bundle(tiny_network, make_metadata(), path)
    return path


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two background pictures."""
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def tiny_run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training of six steps; read it, do not train in it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    make_trainer(folder, photographs).train()
    return folder
