"""The autoencoder: METHOD 5b's sizes, and up-convolutions against what they stand for."""

import pytest
import torch
import torch.nn.functional as F

from shared_pose_ros.network.autoencoder import Autoencoder, Decoder, UpConvolution
from shared_pose_ros.network.encoder_registry import encoder_class


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def expected_parameters(channels, side):
    """METHOD 5b, counted by hand: linear layer, three 5×5 convolutions, their norms, the last convolution."""
    c1, c2, c3, c4 = channels
    linear = 129 * c4 * side**2
    convolutions = sum(25 * a * b + b for a, b in ((c4, c3), (c3, c2), (c2, c1), (c1, 3)))
    return linear + convolutions + 2 * (c4 + c3 + c2 + c1)


@pytest.mark.parametrize(("width", "size", "parameters"), [("paper", 128, 14_889_987), ("compact", 48, 817_539)])
def test_a_decoder_mirrors_the_encoder(width, size, parameters):
    with torch.device("meta"):
        decoder = Decoder(encoder_class(width), size)
        network = Autoencoder(3, width, size)
    assert count(decoder) == parameters == expected_parameters(encoder_class(width).channels, size // 16)
    assert count(network) == count(network.encoder) + 3 * parameters
    assert len({id(parameter) for parameter in network.decoders.parameters()}) == 3 * len(list(decoder.parameters()))


@pytest.mark.parametrize(("width", "size"), [("compact", 16), ("compact", 48), ("paper", 32)])
def test_every_multiple_of_16_comes_back_at_its_size(width, size):
    images = Autoencoder(2, width, size)(torch.rand(4, 3, size, size))
    assert images.shape == (4, 3, size, size) and images.min() > 0 and images.max() < 1


def test_an_up_convolution_is_enlargement_then_convolution():
    torch.manual_seed(0)
    block = UpConvolution(3, 4).double()
    features = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    expected = block.convolution(F.interpolate(features, scale_factor=2.0))
    found = block(features)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (features, block.convolution.weight, block.convolution.bias)
    torch.testing.assert_close(
        torch.autograd.grad((found * probe).sum(), inputs), torch.autograd.grad((expected * probe).sum(), inputs)
    )


def test_every_object_has_its_own_decoder():
    torch.manual_seed(0)
    network = Autoencoder(3, "compact", 16).eval()
    crops = torch.rand(6, 3, 16, 16)
    with torch.no_grad():
        images = network(crops)
        for index, decoder in enumerate(network.decoders):
            rows = slice(2 * index, 2 * index + 2)
            torch.testing.assert_close(images[rows], decoder(network.encoder(crops[rows])))
    network(crops)[2:4].sum().backward()
    learnt = [any(p.grad is not None and p.grad.abs().sum() > 0 for p in d.parameters()) for d in network.decoders]
    assert learnt == [False, True, False] and network.encoder.linear.weight.grad.abs().sum() > 0


def test_a_decoder_is_relu_then_norm_and_ends_in_a_sigmoid():
    torch.manual_seed(0)
    decoder = Decoder(encoder_class("compact"), 16).eval()
    code = torch.randn(2, 128)
    features = F.relu(F.linear(code, decoder.linear.weight, decoder.linear.bias)).reshape(2, 128, 1, 1)
    features = decoder.norm(features)
    with torch.no_grad():
        for block, norm in zip(decoder.convolutions, decoder.norms):
            features = norm(F.relu(block.convolution(F.interpolate(features, scale_factor=2.0))))
        last = decoder.output.convolution(F.interpolate(features, scale_factor=2.0))
        torch.testing.assert_close(decoder(code), torch.sigmoid(last))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="autoencoder of 0 objects; it must be at least 1"):
        Autoencoder(0, "compact", 16)
    with pytest.raises(ValueError, match="batch of 5 crops for 2 decoders; give as many of each object"):
        Autoencoder(2, "compact", 16)(torch.rand(5, 3, 16, 16))
    with pytest.raises(ValueError, match="crop size 40 must be a multiple of 16"):
        Autoencoder(2, "compact", 40)
