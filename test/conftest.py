"""Fixtures that several packages share: a bundle with random weights, a training, two boxes in two images."""

from __future__ import annotations

# ruff: noqa: E402 -- how threads wait is chosen before torch is imported
from pathlib import Path

from shared_pose_ros.resources import share_cores

share_cores()

import pytest
import torch
from bundle_facts import make_meshes, make_metadata
from evaluation_scene import objects, write_dataset
from training_run import make_trainer, write_photographs

from shared_pose_ros.bundle import export_bundle
from shared_pose_ros.evaluation.bop import BopDataset, load_bop, write_bop_targets
from shared_pose_ros.evaluation.bop_models import write_bop_models
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
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


@pytest.fixture(scope="session")
def scorer() -> PoseScorer:
    """Of the two boxes of ``evaluation_scene``."""
    return PoseScorer(objects())


@pytest.fixture(scope="session")
def dataset(scorer: PoseScorer, tmp_path_factory: pytest.TempPathFactory) -> BopDataset:
    """Two images of both boxes in BOP layout, with targets and models; read it, do not write in it."""
    root = tmp_path_factory.mktemp("data") / "two_boxes"
    write_dataset(root, scorer)
    write_bop_targets(root)
    write_bop_models(root / "models", objects())
    return load_bop(root)
