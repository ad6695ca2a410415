"""The validator measures what it says: symmetric errors by falling confidence, figures that follow from them."""

import json
import math

import numpy as np
import pytest
import torch
from evaluation_scene import objects, turn
from torch import nn
from training_run import PLAIN, UNCHANGED

from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.synthesis import Synthesizer
from shared_pose_ros.training.validation import Validator

COUNT = 12


class StandIn(nn.Module):
    """Answers every batch of a validator with the truth, turned: hypothesis 0 by 40°, 1 by 10°, 2 by a half turn."""

    def __init__(self, validator):
        super().__init__()
        self.truth = iter([batch.rotations for batch in validator.batches])

    def forward(self, crops, object_index):
        truth = next(self.truth)
        turns = torch.from_numpy(np.stack([turn([1, 0, 0], 40), turn([1, 0, 0], 10), turn([0, 0, 1], 180)])).float()
        logits = torch.tensor([1.0, 0.0, 2.0]).repeat(len(truth), 1)
        logits[object_index == 1] = torch.tensor([2.0, 1.0, 0.0])
        return truth[:, None] @ turns, logits


@pytest.fixture(scope="module")
def validator(photographs):
    parts = objects()
    synthesizer = Synthesizer(parts, PLAIN, UNCHANGED, 32, make_rasterizer(), torch.device("cpu"), photographs)
    return Validator(parts, synthesizer, COUNT, seed=-1, batch_size=5)


def test_errors_are_symmetric_and_by_falling_confidence(validator):
    network = StandIn(validator)
    result = validator.evaluate(network)
    samples, first = result.samples, result.samples.object_index == 0
    assert samples.errors.shape == samples.confidences.shape == (COUNT, 3) and samples.rotations.shape == (
        COUNT,
        3,
        3,
        3,
    )
    assert 0 < first.sum() < COUNT
    # Object 0 has the half turn about z as a symmetry, object 1 has none.
    np.testing.assert_allclose(samples.errors[first], np.tile([0, 40, 10], (first.sum(), 1)), atol=0.1)
    np.testing.assert_allclose(samples.errors[~first], np.tile([40, 10, 180], ((~first).sum(), 1)), atol=0.1)
    assert (np.diff(samples.confidences, axis=1) < 0).all()
    np.testing.assert_allclose(samples.confidences.sum(axis=1), 1, atol=1e-6)
    truth = torch.cat([batch.rotations for batch in validator.batches]).numpy()
    np.testing.assert_allclose(samples.rotations[first, 1], truth[first] @ turn([1, 0, 0], 40), atol=1e-5)
    assert network.training


def test_figures_follow_from_the_samples(validator):
    result = validator.evaluate(StandIn(validator))
    share = (result.samples.object_index == 0).mean()
    assert result.recall_15 == pytest.approx(share)
    assert result.by_object == pytest.approx((0.0, 40.0), abs=0.1)
    assert result.median == pytest.approx(np.median(result.samples.errors[:, 0]))
    assert result.oracle_median == pytest.approx(np.median(result.samples.errors.min(axis=1)))
    entropy = -sum(p * math.log(p) for p in (share, 1 - share))
    assert result.usage == pytest.approx(math.exp(entropy))
    figures = json.loads(json.dumps(result.figures()))
    assert set(figures) == {"median", "oracle_median", "recall_15", "usage", "by_object"}


def test_the_fixed_samples_are_spread_over_the_objects(validator):
    chosen, truth = validator.fixed_samples(4)
    index = torch.cat([batch.object_index for batch in validator.batches])
    rotations = torch.cat([batch.rotations for batch in validator.batches])
    assert truth.object_index.tolist() == [0, 1, 0, 1] and torch.equal(index[chosen], truth.object_index)
    assert torch.equal(rotations[chosen], truth.rotations) and truth.crops.shape == (4, 3, 32, 32)
    assert chosen[0] == (index == 0).nonzero()[0] and chosen[3] == (index == 1).nonzero()[1]
    assert len(validator.fixed_samples(100)[0]) == COUNT
