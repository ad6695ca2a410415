"""Fixtures that several rooms share: a bundle with random weights, small enough to make in every test session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_facts import make_meshes, make_metadata
from training_run import make_trainer, write_photographs

from shared_pose_ros.bundle import export_bundle
from shared_pose_ros.network.pose_network import PoseNetwork


@pytest.fixture(scope="session")
def tiny_network() -> PoseNetwork:
    """Random weights, evaluation mode: 3 objects, 4 hypotheses, crops of 32 pixels."""
    torch.manual_seed(0)
    return PoseNetwork(3, 4, "compact", 32).eval()


@pytest.fixture(scope="session")
def tiny_bundle(tiny_network: PoseNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a verified bundle of ``tiny_network``; its last object has no display mesh."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.pose.pt"
    export_bundle(tiny_network, make_metadata(), path, make_meshes())
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
