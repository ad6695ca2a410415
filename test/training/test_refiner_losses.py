"""The loss against closed forms, and an untrained refiner that leaves hypotheses where they are."""

import dataclasses
import math

import pytest
import torch
from refiner_run import TINY_REFINER, fresh_refiner

from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle, rotation_from_vector
from shared_pose_ros.training.refiner_losses import (
    RefinerErrors,
    chordal_distance,
    laplace_likelihood,
    refiner_losses,
    rotation_errors,
)


def about_x(*degrees):
    return rotation_from_vector(torch.deg2rad(torch.tensor([[angle, 0.0, 0.0] for angle in degrees])))


def test_the_chordal_distance_is_twice_the_sine_of_half_the_angle():
    angles = torch.deg2rad(torch.tensor([10.0, 60.0, 180.0]))
    found = chordal_distance(about_x(10.0, 60.0, 180.0), torch.eye(3))
    torch.testing.assert_close(found, 2 * torch.sin(angles / 2), atol=1e-5, rtol=0)


def test_the_likelihood_is_laplaces_and_smallest_at_the_mean_error():
    error, scale = torch.tensor([0.1, 0.4, 0.2]), torch.tensor([0.2, 0.3, 1.0])
    density = torch.distributions.Laplace(torch.zeros(3), scale).log_prob(error)
    torch.testing.assert_close(laplace_likelihood(scale.log(), error), -density - math.log(2.0))
    errors = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    log_scale = torch.tensor(0.0, requires_grad=True)
    laplace_likelihood(errors.mean().log() + log_scale, errors).mean().backward()
    assert abs(log_scale.grad.item()) < 1e-5


def test_the_total_is_the_weighted_sum_and_far_hypotheses_teach_no_increment():
    hypotheses, truth = about_x(10.0, 40.0, 120.0), torch.eye(3).expand(3, 3, 3)
    refined = about_x(5.0, 60.0, 0.0)
    errors = rotation_errors(hypotheses, truth, refined, truth)
    log_errors = torch.log(torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    config = dataclasses.replace(TINY_REFINER, increment_weight=2.0, before_weight=3.0, after_weight=5.0, within=50.0)
    terms = refiner_losses(refined, log_errors, truth, errors, config)
    increment = sum(2 * math.sin(math.radians(angle) / 2) for angle in (5.0, 60.0)) / 2
    before = sum(math.log(b) + math.radians(a) / b for a, b in ((10, 0.1), (40, 0.3), (120, 0.5))) / 3
    after = sum(math.log(b) + math.radians(a) / b for a, b in ((5, 0.2), (60, 0.4), (0, 0.6))) / 3
    assert terms.parts["increment"].item() == pytest.approx(increment, abs=1e-4)
    assert terms.parts["before"].item() == pytest.approx(before, abs=1e-4)
    assert terms.parts["after"].item() == pytest.approx(after, abs=1e-4)
    assert terms.total.item() == pytest.approx(2 * increment + 3 * before + 5 * after, abs=1e-3)
    none = RefinerErrors(errors.before + math.pi, errors.after)
    assert refiner_losses(refined, log_errors, truth, none, config).parts["increment"] == 0


def test_an_untrained_refiner_rotates_little_and_expects_about_8_degrees():
    generator = torch.Generator().manual_seed(0)
    crops, renders = torch.rand(4, 3, 64, 64, generator=generator), torch.rand(8, 4, 64, 64, generator=generator)
    with torch.no_grad():
        increments, log_errors = fresh_refiner().train()(crops, renders, torch.arange(4).repeat_interleave(2))
    assert torch.rad2deg(rotation_angle(increments, torch.eye(3))).max() < 3.0
    expected = torch.rad2deg(torch.exp(log_errors))
    assert expected.min() > 6.0 and expected.max() < 10.0
    hypotheses = random_rotations(8, generator)
    errors = rotation_errors(hypotheses, torch.eye(3), increments @ hypotheses, torch.eye(3))
    assert torch.rad2deg((errors.before - errors.after).abs()).max() < 3.0
