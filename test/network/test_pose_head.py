"""The pose head: METHOD 2's sizes and wiring, and the mask by object."""

import numpy as np
import pytest
import torch

from shared_pose_ros.network.pose_head import PoseHead


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("objects", "parameters"), [(1, 162_310), (30, 294_260)])
def test_the_head_has_the_methods_number_of_parameters(objects, parameters):
    assert count(PoseHead(objects, 10)) == parameters


def naive_head(head, code):
    """METHOD 2 written out for one code; returns the last layer's output (k·n·7,)."""

    def layer(module, x):
        linear, norm = module
        x = linear.weight.detach().numpy() @ x + linear.bias.detach().numpy()
        x = (x - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-5)
        return np.maximum(x * norm.weight.detach().numpy() + norm.bias.detach().numpy(), 0.0)

    x1 = layer(head.layer1, code)
    x2 = layer(head.layer2, np.concatenate([code, x1]))
    x3 = layer(head.layer3, np.concatenate([x1, x2]))
    x4 = layer(head.layer4, np.concatenate([x2, x3]))
    h = layer(head.layer5, np.concatenate([x3, x4]))
    h = layer(head.layer6, h)
    return head.output.weight.detach().numpy() @ h + head.output.bias.detach().numpy()


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(1)
    head = PoseHead(3, 4).eval()
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.normal_()
            module.bias.data.normal_()
    return head


def test_the_head_is_wired_as_the_method_says_and_masks_one_object(head):
    codes = torch.randn(6, 128)
    index = torch.tensor([0, 1, 2, 2, 1, 0])
    with torch.no_grad():
        vectors, logits = head(codes, index)
    assert vectors.shape == (6, 4, 6) and logits.shape == (6, 4)
    for row in range(6):
        flat = naive_head(head, codes[row].numpy())
        k = int(index[row])
        # Confidences first, then poses, object-major in both.
        np.testing.assert_allclose(logits[row].numpy(), flat[k * 4 : k * 4 + 4], atol=1e-4)
        poses = flat[12:].reshape(3, 4, 6)[k]
        np.testing.assert_allclose(vectors[row].numpy(), poses, atol=1e-4)


def test_only_the_selected_objects_outputs_get_a_gradient(head):
    head.zero_grad()
    vectors, logits = head(torch.randn(5, 128), torch.full((5,), 1))
    (vectors.sum() + logits.square().sum()).backward()
    rows = head.output.weight.grad.abs().sum(dim=1)
    touched = torch.zeros(84, dtype=torch.bool)
    touched[4:8] = True
    touched[12 + 24 : 12 + 48] = True
    assert (rows[touched] > 0).all() and (rows[~touched] == 0).all()
    head.zero_grad()


def test_weights_start_kaiming_uniform_by_fan_out():
    torch.manual_seed(0)
    weight = PoseHead(30, 10).output.weight
    # a = √5: bound = √(6/(6·fan_out)) = 1/√2100.
    bound = 2100**-0.5
    assert 0.99 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(("objects", "hypotheses"), [(0, 5), (2, 0)])
def test_a_head_without_outputs_is_refused(objects, hypotheses):
    with pytest.raises(ValueError, match="at least 1"):
        PoseHead(objects, hypotheses)
