"""The paper's losses, pinned by loops: masks, denominators, weights, clips; the mixture losses against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import log_softmax, logsumexp, softmax
from shapes import box, tetrahedron

from shared_pose_ros.geometry.rotations import axis_angle_rotation, random_rotations
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training.losses import (
    LOSS_DISTANCE,
    depth_loss,
    diversity_loss,
    hypothesis_depth_losses,
    loss_camera,
    mixture_losses,
    render_hypotheses,
)


def naive_depth_losses(truth, hypotheses, d_max):
    """l_i pixel by pixel: clipped difference where both show the object, 1 where one does, over their union."""
    result = np.zeros(hypotheses.shape[:2])
    for b in range(hypotheses.shape[0]):
        for i in range(hypotheses.shape[1]):
            total, union = 0.0, 0
            for y in range(truth.shape[1]):
                for x in range(truth.shape[2]):
                    d, guess = truth[b, y, x], hypotheses[b, i, y, x]
                    if d > 0 or guess > 0:
                        union += 1
                        total += min(abs(d - guess), d_max) / d_max if d > 0 and guess > 0 else 1.0
            result[b, i] = total / union if union else 0.0
    return result


def depth_images(*shape, seed=0):
    """Random depths near 1000 in random silhouettes."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.6, 1000 + rng.normal(0, 25, shape), 0.0)


def test_the_loss_camera_has_the_methods_focal_length():
    camera = loss_camera(64)
    assert camera[0, 0].item() == pytest.approx(243.06, abs=0.01) and camera[1, 1] == camera[0, 0]
    assert camera[0, 2].item() == camera[1, 2].item() == 31.5
    assert LOSS_DISTANCE == 1000


@pytest.mark.parametrize("d_max", [30.0, 10.0])
def test_depth_losses_are_those_of_the_loop(d_max):
    truth, hypotheses = depth_images(3, 9, 11), depth_images(3, 4, 9, 11, seed=1)
    found = hypothesis_depth_losses(torch.from_numpy(truth), torch.from_numpy(hypotheses), d_max)
    np.testing.assert_allclose(found.numpy(), naive_depth_losses(truth, hypotheses, d_max), rtol=1e-9)


def test_depth_losses_of_the_corner_cases():
    truth = torch.zeros(1, 4, 4)
    truth[0, :2] = 1000.0
    same, apart, nothing, beyond = truth.clone(), torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), truth.clone()
    apart[0, 2:] = 1000.0
    beyond[0, :2] += 500.0
    hypotheses = torch.stack([same, apart, nothing, beyond], dim=1)
    losses = hypothesis_depth_losses(truth, hypotheses, 30.0)
    # The union counts, not the image: the IROS code's mask bug would give 0, 1, 0.5 and 0.5.
    torch.testing.assert_close(losses, torch.tensor([[0.0, 1.0, 1.0, 1.0]]))
    assert hypothesis_depth_losses(nothing, nothing[:, None], 30.0).item() == 0.0


def test_depth_losses_give_a_gradient_in_the_overlap_below_the_clip_only():
    truth = torch.tensor([[[1000.0, 1000.0, 1000.0, 0.0, 0.0]]])
    hypothesis = torch.tensor([[[[1010.0, 1100.0, 0.0, 1000.0, 0.0]]]], requires_grad=True)
    hypothesis_depth_losses(truth, hypothesis, 30.0).sum().backward()
    torch.testing.assert_close(hypothesis.grad.flatten(), torch.tensor([1 / 30 / 4, 0.0, 0.0, 0.0, 0.0]))


def test_weights_and_gamma_follow_the_method():
    losses, confidences = torch.tensor([[0.2, 0.8, 0.5]]), torch.tensor([[0.7, 0.1, 0.2]])
    expected = sum((w * x + 0.01 * x) / 2 for w, x in zip([0.7, 0.1, 0.2], [0.2, 0.8, 0.5]))
    assert depth_loss(losses, confidences, 0.01).item() == pytest.approx(expected)
    weights = confidences.clone().requires_grad_(True)
    depth_loss(losses, weights, 0.01).sum().backward()
    torch.testing.assert_close(weights.grad, losses / 2)  # not detached


def test_diversity_is_the_mean_over_pairs():
    rotations = random_rotations(12, torch.Generator().manual_seed(0), dtype=torch.float64).reshape(3, 4, 3, 3)
    axis = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    for i in range(1, 4):  # the second sample's hypotheses lie 10° apart, those of the third coincide
        angle = torch.tensor(i * math.radians(10.0), dtype=torch.float64)
        rotations[1, i] = rotations[1, 0] @ axis_angle_rotation(axis, angle)
        rotations[2, i] = rotations[2, 0]
    found = diversity_loss(rotations)
    for b in range(3):
        pairs = []
        for i in range(4):
            for j in range(i + 1, 4):
                cosine = (np.trace(rotations[b, i].numpy().T @ rotations[b, j].numpy()) - 1) / 2
                angle = math.degrees(math.acos(min(max(cosine, -1 + 1e-5), 1 - 1e-5)))
                pairs.append(1 - min(angle, 40.0) / 40.0)
        assert found[b].item() == pytest.approx(np.mean(pairs), abs=1e-9)
    # By hand: three pairs at 10°, two at 20°, one at 30°.
    assert found[1].item() == pytest.approx((3 * 0.75 + 2 * 0.5 + 0.25) / 6, abs=1e-9)
    assert found[2].item() == pytest.approx(1.0, abs=0.01)


def test_diversity_of_coinciding_hypotheses_has_a_finite_gradient_and_one_alone_costs_nothing():
    rotations = torch.eye(3).repeat(2, 3, 1, 1).requires_grad_(True)
    diversity_loss(rotations).sum().backward()
    assert torch.isfinite(rotations.grad).all()
    assert diversity_loss(torch.eye(3).expand(5, 1, 3, 3)).tolist() == [0.0] * 5


@pytest.mark.parametrize("concentration", [1.0, 4.0, 30.0])
def test_mixture_is_a_log_likelihood_and_confidences_a_cross_entropy(concentration):
    generator = torch.Generator().manual_seed(1)
    rotations = random_rotations(20, generator, dtype=torch.float64).reshape(4, 5, 3, 3)
    truth = random_rotations(4, generator, dtype=torch.float64)
    logits = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    likelihood, cross_entropy = mixture_losses(rotations, logits, truth, concentration)
    for b in range(4):
        between = Rotation.from_matrix(rotations[b].numpy()).inv() * Rotation.from_matrix(truth[b].numpy())
        distance = 2 * np.sin(between.magnitude() / 2)
        weights = log_softmax(logits[b].numpy())
        expected = -logsumexp(weights - concentration * distance) / concentration
        assert likelihood[b].item() == pytest.approx(expected, abs=1e-4)
        assert cross_entropy[b].item() == pytest.approx(-softmax(-concentration * distance) @ weights, abs=1e-3)


def test_mixture_is_zero_when_right_and_two_when_turned_by_180_degrees():
    truth = torch.eye(3)[None]
    flipped = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
    certain = torch.zeros(1, 1)
    assert mixture_losses(truth[:, None], certain, truth, 10.0)[0].item() == pytest.approx(0.0, abs=0.01)
    assert mixture_losses(flipped[:, None], certain, truth, 10.0)[0].item() == pytest.approx(2.0, abs=1e-4)


def test_an_exact_hypothesis_has_a_finite_gradient():
    rotations = torch.eye(3).expand(1, 2, 3, 3).clone().requires_grad_(True)
    mixture_losses(rotations, torch.zeros(1, 2), torch.eye(3)[None], 8.0)[0].sum().backward()
    assert torch.isfinite(rotations.grad).all()


def test_gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(2)
    rotations = random_rotations(6, generator, dtype=torch.float64).reshape(2, 3, 3, 3).requires_grad_(True)
    truth = random_rotations(2, generator, dtype=torch.float64)
    logits = torch.randn(2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, w: mixture_losses(r, w, truth, 8.0)[0], (rotations, logits))
    near = rotations.detach()[:, :1] @ axis_angle_rotation(
        torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([0.0, 0.2, 0.5]).double()
    )
    assert torch.autograd.gradcheck(diversity_loss, (near.requires_grad_(True),))
    images, target = torch.from_numpy(depth_images(2, 3, 4, 4)), torch.from_numpy(depth_images(2, 4, 4, seed=7))
    seen = (images > 0).double()  # silhouettes have no gradient: they stay as they are
    depths = torch.where(images > 0, images, 1000.0).requires_grad_(True)
    check = torch.autograd.gradcheck(lambda d: hypothesis_depth_losses(target, d * seen, 30.0), (depths,), atol=1e-7)
    assert check


def test_hypotheses_are_rendered_at_the_methods_place_each_with_its_object():
    packed = pack_meshes([tetrahedron(100.0), box(200.0, 120.0, 60.0)])
    rasterizer = make_rasterizer()
    rotations = random_rotations(6, torch.Generator().manual_seed(3)).reshape(2, 3, 3, 3)
    depth = render_hypotheses(packed, torch.tensor([1, 0]), rotations, 32, rasterizer)
    assert depth.shape == (2, 3, 32, 32)
    seen = depth[depth > 0]
    assert seen.min() > 850 and seen.max() < 1150
    alone = render_hypotheses(packed, torch.tensor([0]), rotations[1:, 2:], 32, rasterizer)
    torch.testing.assert_close(depth[1, 2], alone[0, 0])


def test_confidences_are_drawn_to_the_nearest_hypothesis_and_do_not_move_it():
    angles = torch.tensor([0.3, 1.0, 2.0])
    rotations = axis_angle_rotation(torch.tensor([0.0, 0.0, 1.0]), angles)[None].requires_grad_()
    logits = torch.tensor([[0.2, -0.5, 1.0]], requires_grad=True)
    mixture_losses(rotations, logits, torch.eye(3)[None], 7.0)[1].sum().backward()
    assert rotations.grad is None and logits.grad[0, 0] < 0 < logits.grad[0, 2]
