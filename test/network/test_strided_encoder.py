"""The encoder: the paper's sizes, padding, order of ReLU and norm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared_pose_ros.network.encoder import LATENT_SIZE, Encoder
from shared_pose_ros.network.encoder_registry import encoder_class
from shared_pose_ros.network.strided_encoder import CompactEncoder, EncoderBlock, PaperEncoder, StridedEncoder


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_width_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        encoder = PaperEncoder(128)
    assert count(encoder) == 14_857_856
    assert count(encoder.linear) == 4_194_432


def test_compact_width_has_about_1_7_million_at_128_pixels():
    with torch.device("meta"):
        encoder = CompactEncoder(128)
    assert 1.6e6 < count(encoder) < 1.8e6


def test_every_block_halves_the_side():
    encoder = CompactEncoder(64)
    features, sides = torch.zeros(2, 3, 64, 64), []
    for block, channels in zip(encoder.blocks, encoder.channels):
        features = block(features)
        sides.append(features.shape[-1])
        assert features.shape == (2, channels, sides[-1], sides[-1])
    assert sides == [32, 16, 8, 4]
    assert encoder(torch.zeros(2, 3, 64, 64)).shape == (2, LATENT_SIZE)


def naive_block(block, image):
    """The block as loops: pixels 2i−1…2i+3 of a zero-padded image (TensorFlow's 'same'), ReLU, then norm."""
    weight, bias = block.convolution.weight.detach().numpy(), block.convolution.bias.detach().numpy()
    channels, side, _ = image.shape
    result = np.zeros((len(weight), side // 2, side // 2))
    for out in range(len(weight)):
        for row in range(side // 2):
            for column in range(side // 2):
                total = bias[out]
                for j in range(5):
                    for i in range(5):
                        y, x = 2 * row - 1 + j, 2 * column - 1 + i
                        if 0 <= y < side and 0 <= x < side:
                            total += (weight[out, :, j, i] * image[:, y, x]).sum()
                result[out, row, column] = max(total, 0.0)
    norm = block.norm
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    result = (result - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-3)
    return result * scale[:, None, None] + shift[:, None, None]


def test_a_block_is_tensorflows_padding_then_relu_then_norm():
    torch.manual_seed(0)
    block = EncoderBlock(2, 3)
    for tensor in (block.norm.running_mean, block.norm.weight.data, block.norm.bias.data):
        tensor.copy_(torch.randn(3))
    block.norm.running_var.copy_(torch.rand(3) + 0.5)
    image = torch.randn(1, 2, 6, 6)
    with torch.no_grad():
        found = block.eval()(image)[0].numpy()
    np.testing.assert_allclose(found, naive_block(block, image[0].numpy()), atol=1e-5)


def test_the_code_has_no_activation():
    torch.manual_seed(0)
    encoder = CompactEncoder(16).eval()
    crops = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        code = encoder(crops)
        expected = F.linear(encoder.blocks(crops).reshape(4, -1), encoder.linear.weight, encoder.linear.bias)
    torch.testing.assert_close(code, expected)
    assert (code < 0).any() and (code > 0).any()


def test_unknown_widths_and_crop_sizes_are_refused():
    with pytest.raises(ValueError, match="'huge' is unknown.*compact.*paper"):
        encoder_class("huge")
    for size in (0, 8, 40):
        with pytest.raises(ValueError, match=f"crop size {size} must be a multiple of 16"):
            CompactEncoder(size)


def test_a_resized_encoder_gives_the_same_latent_code_of_a_constant_map():
    weight, maps = torch.randn(128, 5 * 9), torch.rand(5)
    resized = StridedEncoder.resized({"linear.weight": weight, "linear.bias": maps}, 48, 64)
    assert resized["linear.weight"].shape == (128, 5 * 16) and resized["linear.bias"] is maps
    before = weight @ maps.repeat_interleave(9)
    torch.testing.assert_close(resized["linear.weight"] @ maps.repeat_interleave(16), before, atol=1e-4, rtol=1e-4)
    other = {"stem.weight": weight}
    assert StridedEncoder.resized(other, 48, 64) is other and Encoder.resized(other, 48, 64) is other
