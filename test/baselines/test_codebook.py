"""Codebooks: views spread over SO(3), nearest views found exactly, a bundle that runs like any other."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bundle_facts import make_metadata
from shapes import tiny_objects

from shared_pose_ros.baselines.codebook import build_codebook, view_rotations
from shared_pose_ros.bundle import export_bundle
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle
from shared_pose_ros.network.codebook_network import Codebook
from shared_pose_ros.network.strided_encoder import CompactEncoder
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.transfer import EncoderWeights


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = CompactEncoder(32)
    return EncoderWeights("encoder.pt", encoder.state_dict(), "compact", 32, {}, {})


def build(encoder, rotations, **options):
    config = EncoderConfig(crop_size=32)
    return build_codebook(tiny_objects(), encoder, config, torch.device("cpu"), rotations, **options)


@pytest.mark.parametrize(("viewpoints", "count"), [(12, 12), (13, 42), (162, 162), (2562, 2562)])
@pytest.mark.slow
def test_views_are_rotations_an_icosphere_times_the_turns(viewpoints, count):
    views = view_rotations(viewpoints, 36)
    assert views.shape == (36 * count, 3, 3)
    torch.testing.assert_close(views @ views.mT, torch.eye(3).expand_as(views), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(views), torch.ones(len(views)))
    # R takes the direction towards the camera to (0, 0, -1): as many different ones as there are viewpoints.
    assert len(np.unique((-views[:, 2]).numpy().round(4), axis=0)) == count


def test_no_rotation_is_far_from_a_view():
    views = view_rotations(162, 18)
    queries = random_rotations(200, torch.Generator().manual_seed(0))
    nearest = torch.rad2deg(rotation_angle(queries[:, None], views[None]).amin(dim=1))
    # Half the turn's step about the axis, and the greatest distance to a corner of 162 points, about 10 degrees.
    assert nearest.max() < 15 and nearest.median() < 10


@pytest.mark.slow
def test_a_view_finds_itself_first(encoder):
    rotations = random_rotations(40, torch.Generator().manual_seed(1))
    network = build(encoder, rotations, hypotheses=3)
    assert network.head.codes.shape == (2, 40, 128)
    torch.testing.assert_close(network.head.codes.norm(dim=2), torch.ones(2, 40))
    own = network.head.codes[1, 7:9].clone()
    found, logits = network.head(own, torch.tensor([1, 1]))
    torch.testing.assert_close(found[:, 0], rotations[7:9])
    torch.testing.assert_close(logits[:, 0], torch.full((2,), 50.0))


@pytest.mark.slow
def test_the_nearest_are_those_of_a_full_sort():
    generator = torch.Generator().manual_seed(0)
    codes = F.normalize(torch.randn(3, 50, 128, generator=generator), dim=2)
    rotations = random_rotations(50, generator)
    queries, index = F.normalize(torch.randn(4, 128, generator=generator), dim=1), torch.tensor([2, 0, 2, 1])
    found, logits = Codebook(codes, rotations, 5)(queries, index)
    for row in range(4):
        cosines = sorted(((float(code @ queries[row]), view) for view, code in enumerate(codes[index[row]])))[::-1][:5]
        torch.testing.assert_close(found[row], torch.stack([rotations[view] for _, view in cosines]))
        np.testing.assert_allclose(logits[row], [50 * cosine for cosine, _ in cosines], rtol=1e-4)
    half = Codebook(codes.half(), rotations, 5)(queries, index)
    torch.testing.assert_close(half[1], logits, atol=0.05, rtol=0)


def test_more_hypotheses_than_views_are_refused():
    with pytest.raises(ValueError, match="9 hypotheses of 8 views: give 1…8"):
        Codebook(torch.zeros(1, 8, 128), torch.zeros(8, 3, 3), 9)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.slow
def test_a_codebook_is_a_bundle_like_any_other(encoder, tmp_path, half):
    network = build(encoder, view_rotations(12, 4), hypotheses=4, half=half)
    metadata = dataclasses.replace(make_metadata(objects=2), normalize_code=True)
    export_bundle(network, metadata, tmp_path / "codebook.pose.pt")
    estimator = PoseEstimator.load(tmp_path / "codebook.pose.pt", "cpu")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.array([[30.0, 30, 25, 20], [50, 25, 20, 30]])
    estimate = estimator.estimate(image, boxes, np.array([1, 0]))
    assert estimate.rotations.shape == (2, 4, 3, 3)
    np.testing.assert_allclose(estimate.confidences.sum(axis=1), 1.0, rtol=1e-5)
    views = view_rotations(12, 4)
    distance = rotation_angle(torch.from_numpy(estimate.rotations)[:, :, None], views).amin(dim=2)
    assert distance.max() < 1e-2  # what it answers are its views
