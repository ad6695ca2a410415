"""The training objective: the paper's loss where it is alone, the start-up terms and their schedule."""

import dataclasses

import pytest
import torch
from shapes import tiny_objects
from training_run import PLAIN, UNCHANGED

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training.config import LossConfig
from shared_pose_ros.training.losses import (
    depth_loss,
    hypothesis_depth_losses,
    mixture_losses,
    render_hypotheses,
    spread_loss,
)
from shared_pose_ros.training.objective import Objective
from shared_pose_ros.training.synthesis import Synthesizer
from shared_pose_ros.training.trainer import set_tuning

PAPER = LossConfig(size=16, mixture_weight=0.0, surface_weight=0.0, depth_start=0.0)
MIXED = LossConfig(size=16, mixture_weight=2.0, surface_weight=0.0, depth_start=0.5, mixture_end=1.0)


@pytest.fixture(scope="module")
def batch(photographs):
    synthesizer = Synthesizer(tiny_objects(), PLAIN, UNCHANGED, 32, make_rasterizer(), torch.device("cpu"), photographs)
    return synthesizer.batch(6, torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return PoseNetwork(2, 3, "compact", 32).eval()


def objective(config):
    return Objective(tiny_objects(), config, make_rasterizer(), torch.device("cpu"), "compact")


def test_the_papers_loss_is_depth_plus_spread(batch, network):
    terms = objective(PAPER)(network, batch, 0.3)
    with torch.no_grad():
        rotations, logits = network(batch.crops, batch.object_index)
    packed = pack_meshes([model.normalized() for model in tiny_objects()])
    rasterizer = make_rasterizer()
    truth = render_hypotheses(packed, batch.object_index, batch.rotations[:, None], 16, rasterizer)[:, 0]
    guesses = render_hypotheses(packed, batch.object_index, rotations, 16, rasterizer)
    losses = hypothesis_depth_losses(truth, guesses, 30.0)
    depth = depth_loss(losses, torch.softmax(logits, dim=1), 0.01).mean()
    spread = spread_loss(rotations).mean()
    torch.testing.assert_close(terms.depth, depth)
    torch.testing.assert_close(terms.spread, spread)
    torch.testing.assert_close(terms.total.detach(), depth + spread)
    assert terms.mixture == 0 and terms.surface == 0


def test_the_spread_weight_and_the_clip_are_settings(batch, network):
    heavy = objective(dataclasses.replace(PAPER, spread_weight=3.0))(network, batch, 0.0)
    plain = objective(PAPER)(network, batch, 0.0)
    torch.testing.assert_close(heavy.total - plain.total, 2 * plain.spread)
    strict = objective(dataclasses.replace(PAPER, d_max=3.0))(network, batch, 0.0)
    assert strict.depth > plain.depth


def test_before_its_start_no_depth_is_rendered(batch, network):
    early = objective(MIXED)(network, batch, 0.49)
    assert early.depth == 0 and early.spread == 0 and early.mixture > 0
    late = objective(MIXED)(network, batch, 0.5)
    assert late.depth > 0


def test_start_up_terms_fade_to_nothing(batch, network):
    module = objective(MIXED)
    assert [module.start_up(progress) for progress in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    assert objective(dataclasses.replace(MIXED, mixture_end=0.4)).start_up(0.4) == 0.0
    ended = module(network, batch, 1.0)
    assert ended.mixture == 0
    torch.testing.assert_close(ended.total.detach(), ended.depth + MIXED.spread_weight * ended.spread)


def test_the_mixtures_concentration_rises_geometrically(batch, network):
    module = objective(dataclasses.replace(MIXED, concentration=(4.0, 64.0), mixture_end=0.8, confidence_weight=0.0))
    assert [module.concentration(p) for p in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([4.0, 16.0, 64.0, 64.0])
    with torch.no_grad():
        rotations, logits = network(batch.crops, batch.object_index)
    expected = mixture_losses(rotations, logits, batch.rotations, 16.0)[0].mean()
    terms = module(network, batch, 0.4)
    torch.testing.assert_close(terms.mixture, expected)
    torch.testing.assert_close(terms.total.detach(), module.start_up(0.4) * 2.0 * expected)


def test_the_surface_term_teaches_the_convolutions_only(batch, network):
    module = objective(LossConfig(size=16, mixture_weight=0.0, surface_weight=5.0, depth_start=1.0))
    terms = module(network, batch, 0.0)
    torch.testing.assert_close(terms.total.detach(), 5.0 * terms.surface)
    terms.total.backward()
    assert all(block.convolution.weight.grad.abs().sum() > 0 for block in network.encoder.blocks)
    assert all(parameter.grad is None for parameter in (*network.head.parameters(), network.encoder.linear.weight))
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_frozen_convolutions_are_not_asked_to_learn_the_surface(batch, network):
    module = objective(LossConfig(size=16, mixture_weight=1.0, surface_weight=5.0, depth_start=1.0))
    for tuning in ("frozen", "last_layer"):
        set_tuning(network, tuning)
        terms = module(network, batch, 0.0)
        terms.total.backward()
        assert terms.surface == 0 and terms.mixture > 0
        assert all(parameter.grad is None for parameter in module.parameters())


def test_every_part_of_the_network_learns_from_the_papers_loss(batch, network):
    objective(PAPER)(network.train(), batch, 0.0).total.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert network.encoder.blocks[0].convolution.weight.grad.abs().sum() > 0
