"""Sizes counted by hand; timings are of the right cases (their speed is not a test's business)."""

import pytest
import torch

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.inference_cost import IN_SEQUENCE, measure_size, measure_timings


@pytest.mark.slow
def test_sizes_are_those_of_the_network(tiny_network, tiny_bundle):
    size = measure_size(tiny_bundle)
    numbers = [*tiny_network.named_parameters(), *((n, b) for n, b in tiny_network.named_buffers() if "running" in n)]
    assert size.parameters == sum(tensor.numel() for _, tensor in numbers)
    assert size.head_parameters == sum(tensor.numel() for name, tensor in numbers if not name.startswith("encoder."))
    assert size.file_bytes == tiny_bundle.stat().st_size
    # Loaded, the weights lie in memory once at least.
    assert 4 * size.parameters < size.peak_bytes < 1e9


@pytest.mark.slow
def test_every_system_and_case_is_timed(tiny_bundle, monkeypatch):
    estimator = PoseEstimator.load(tiny_bundle, "cpu")
    calls = []
    original = estimator.estimate

    def counted(image, boxes, *rest):
        calls.append(len(boxes))
        return original(image, boxes, *rest)

    monkeypatch.setattr(estimator, "estimate", counted)
    timings = measure_timings([estimator, PoseEstimator.load(tiny_bundle, "cpu")], batches=(1, 3), seconds=0.0)
    assert len(timings) == 2
    for timing in timings:
        assert set(timing.batches) == {1, 3} and min(*timing.batches.values(), timing.in_sequence) > 0
    assert calls == [1] * 4 + [3] * 4 + [1] * (4 * IN_SEQUENCE)
    assert torch.is_grad_enabled()
