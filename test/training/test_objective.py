"""The training objective: the paper's loss where it is alone, the warm-up losses and their schedule."""

import dataclasses
import json

import pytest
import torch
from extending import shown, with_field
from shapes import tiny_objects
from torch import nn
from training_run import PLAIN, UNCHANGED, make_trainer

from shared_pose_ros.network.pose_network import PoseNetwork
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training import config as config_module
from shared_pose_ros.training import objective as objective_module
from shared_pose_ros.training.config import LossConfig, warm_up_schedule
from shared_pose_ros.training.losses import (
    depth_loss,
    diversity_loss,
    hypothesis_depth_losses,
    mixture_losses,
    render_hypotheses,
)
from shared_pose_ros.training.objective import TERMS, Objective, loss_term
from shared_pose_ros.training.synthesis import Synthesizer
from shared_pose_ros.training.trainer import set_tuning

PAPER = LossConfig(size=16, mixture_weight=0.0, auxiliary_weight=0.0, depth_start=0.0)
MIXED = LossConfig(size=16, mixture_weight=2.0, auxiliary_weight=0.0, depth_start=0.5, warm_up_end=1.0)


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


def test_the_papers_loss_is_depth_plus_diversity(batch, network):
    terms = objective(PAPER)(network, batch, 0.3)
    with torch.no_grad():
        rotations, logits = network(batch.crops, batch.object_index)
    packed = pack_meshes([model.normalized() for model in tiny_objects()])
    rasterizer = make_rasterizer()
    truth = render_hypotheses(packed, batch.object_index, batch.rotations[:, None], 16, rasterizer)[:, 0]
    guesses = render_hypotheses(packed, batch.object_index, rotations, 16, rasterizer)
    losses = hypothesis_depth_losses(truth, guesses, 30.0)
    depth = depth_loss(losses, torch.softmax(logits, dim=1), 0.01).mean()
    diversity = diversity_loss(rotations).mean()
    torch.testing.assert_close(terms.parts["depth"], depth)
    torch.testing.assert_close(terms.parts["diversity"], diversity)
    torch.testing.assert_close(terms.total.detach(), depth + diversity)
    assert terms.parts["mixture"] == 0 and terms.parts["auxiliary"] == 0


def test_the_diversity_weight_and_the_clip_are_settings(batch, network):
    heavy = objective(dataclasses.replace(PAPER, diversity_weight=3.0))(network, batch, 0.0)
    plain = objective(PAPER)(network, batch, 0.0)
    torch.testing.assert_close(heavy.total - plain.total, 2 * plain.parts["diversity"])
    strict = objective(dataclasses.replace(PAPER, d_max=3.0))(network, batch, 0.0)
    assert strict.parts["depth"] > plain.parts["depth"]


def test_before_its_start_no_depth_is_rendered(batch, network):
    early = objective(MIXED)(network, batch, 0.49).parts
    assert early["depth"] == early["diversity"] == 0 < early["mixture"]
    assert objective(MIXED)(network, batch, 0.5).parts["depth"] > 0


def test_warm_up_losses_fade_to_nothing(batch, network):
    module = objective(MIXED)
    assert [warm_up_schedule(MIXED, progress) for progress in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    assert warm_up_schedule(dataclasses.replace(MIXED, warm_up_end=0.4), 0.4) == 0.0
    ended = module(network, batch, 1.0)
    assert ended.parts["mixture"] == 0
    torch.testing.assert_close(
        ended.total.detach(), ended.parts["depth"] + MIXED.diversity_weight * ended.parts["diversity"]
    )


def test_the_mixtures_concentration_rises_geometrically(batch, network):
    module = objective(dataclasses.replace(MIXED, concentration=(4.0, 64.0), warm_up_end=0.8, confidence_weight=0.0))
    assert [module.config.concentration_at(p) for p in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([4.0, 16.0, 64.0, 64.0])
    with torch.no_grad():
        rotations, logits = network(batch.crops, batch.object_index)
    expected = mixture_losses(rotations, logits, batch.rotations, 16.0)[0].mean()
    terms = module(network, batch, 0.4)
    torch.testing.assert_close(terms.parts["mixture"], expected)
    torch.testing.assert_close(terms.total.detach(), warm_up_schedule(module.config, 0.4) * 2.0 * expected)


def test_the_auxiliary_decoder_teaches_the_convolutions_only(batch, network):
    module = objective(LossConfig(size=16, mixture_weight=0.0, auxiliary_weight=5.0, depth_start=1.0))
    terms = module(network, batch, 0.0)
    torch.testing.assert_close(terms.total.detach(), 5.0 * terms.parts["auxiliary"])
    terms.total.backward()
    assert all(block.convolution.weight.grad.abs().sum() > 0 for block in network.encoder.blocks)
    assert all(parameter.grad is None for parameter in (*network.head.parameters(), network.encoder.linear.weight))
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_frozen_convolutions_are_not_asked_to_learn_the_surface(batch, network):
    module = objective(LossConfig(size=16, mixture_weight=1.0, auxiliary_weight=5.0, depth_start=1.0))
    for tuning in ("frozen", "last_layer"):
        set_tuning(network, tuning)
        terms = module(network, batch, 0.0)
        terms.total.backward()
        assert terms.parts["auxiliary"] == 0 < terms.parts["mixture"]
        assert all(parameter.grad is None for parameter in module.parameters())


def test_every_part_of_the_network_learns_from_the_papers_loss(batch, network):
    objective(PAPER)(network.train(), batch, 0.0).total.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert network.encoder.blocks[0].convolution.weight.grad.abs().sum() > 0


def test_the_confidences_need_the_mixture(batch, network):
    alone = dataclasses.replace(PAPER, confidence_weight=2.0, depth_start=1.0)
    assert objective(alone)(network, batch, 0.0).total == 0
    both = objective(dataclasses.replace(alone, mixture_weight=1.0))(network, batch, 0.0)
    torch.testing.assert_close(both.total.detach(), both.parts["mixture"] + 2.0 * both.parts["confidence"])


TERM, WEIGHT = shown("A new loss term")
Extended = with_field(WEIGHT, LossConfig, config_module)


@pytest.fixture
def registry(monkeypatch):
    """Terms that are registered in a test are gone after it."""
    monkeypatch.setattr(objective_module, "TERMS", dict(TERMS))
    monkeypatch.setattr(objective_module, "TERM_MODULES", dict(objective_module.TERM_MODULES))


def test_the_documented_term_is_weighed_and_scheduled(batch, network, registry):
    exec(TERM, {**vars(objective_module)})
    config = Extended(size=16, mixture_weight=0.0, auxiliary_weight=0.0, depth_start=0.5, balance_weight=3.0)
    module = objective(config)
    assert module(network, batch, 0.4).parts["balance"] == 0
    terms = module(network, batch, 0.6)
    weights = torch.softmax(network(batch.crops, batch.object_index)[1], dim=1).detach()
    divergence = (weights * (3 * weights).log()).sum(dim=1).mean()
    torch.testing.assert_close(terms.parts["balance"], divergence)
    parts = terms.parts
    torch.testing.assert_close(terms.total.detach(), parts["depth"] + parts["diversity"] + 3.0 * divergence)
    # Off by default: nothing else changes.
    off = objective(dataclasses.replace(config, balance_weight=0.0))(network, batch, 0.6)
    torch.testing.assert_close(off.total.detach(), parts["depth"] + parts["diversity"], rtol=0, atol=0)


def test_the_documented_term_is_in_the_log_and_the_report(tmp_path, photographs, registry):
    exec(TERM, {**vars(objective_module)})
    make_trainer(tmp_path, photographs, loss=Extended(size=16, balance_weight=0.1)).train()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["loss/balance"] > 0 for record in records] == [False, True, True]
    assert ">balance<" in (tmp_path / "report.html").read_text()


def test_a_term_may_learn_itself(batch, network, registry):
    @loss_term(lambda objects, width: nn.Linear(objects, 1))
    def balance(seen, module):
        return module(torch.ones(1, 2)).square().mean()

    module = objective(Extended(size=16, depth_start=0.0, balance_weight=1.0))
    module(network, batch, 0.0).total.backward()
    assert module.term_modules["balance"].weight.grad.abs().sum() > 0
    assert any(name.startswith("term_modules.balance.") for name in module.state_dict())


def test_a_term_without_a_weight_and_a_weight_without_a_term_are_named(registry):
    with pytest.raises(ValueError, match=r"loss term 'balance' needs a function in objective\.TERMS"):
        objective(Extended())
    exec(TERM, {**vars(objective_module)})
    with pytest.raises(ValueError, match=r"loss term 'balance' needs .* LossConfig\.balance_weight"):
        objective(LossConfig())


def test_what_an_older_version_has_learnt_is_taken(batch, network):
    trained, fresh = objective(LossConfig(size=16)), objective(LossConfig(size=16))
    older = {key.replace("term_modules.auxiliary.", "surface_decoder."): v for key, v in trained.state_dict().items()}
    assert set(older) == {f"surface_decoder.{n}" for n, _ in trained.term_modules["auxiliary"].named_parameters()}
    fresh.load_state_dict(older)
    assert all(torch.equal(v, trained.state_dict()[key]) for key, v in fresh.state_dict().items())
