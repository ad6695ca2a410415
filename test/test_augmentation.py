"""Augmentation: probabilities 0 and 1, ranges, one change at a time, determinism."""

import dataclasses

import pytest
import torch

from shared_pose_ros.training.augmentation import augment
from shared_pose_ros.training.config import AugmentationConfig

OFF = AugmentationConfig(blur=0, noise=0, add=0, multiply=0, contrast=0, channelwise=0, invert=0, cutout=0)
EVERYTHING = AugmentationConfig(blur=1, noise=1, add=1, multiply=1, contrast=1, channelwise=0.5, invert=0.5, cutout=1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def apply(crops, seed=0, **changes):
    return augment(crops, dataclasses.replace(OFF, **changes), generator(seed))


@pytest.fixture(scope="module")
def crops():
    return torch.rand(64, 3, 24, 24, generator=generator(9)) * 0.5 + 0.25


def steps(crops):
    """Rounded to 8 bit, as a camera's image is."""
    return (crops * 255).round() / 255


def test_probability_zero_changes_nothing_but_the_rounding(crops):
    torch.testing.assert_close(apply(crops), steps(crops))


def test_everything_at_once_stays_in_range_on_8_bit_steps(crops):
    found = augment(crops, EVERYTHING, generator())
    assert found.shape == crops.shape and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found * 255, (found * 255).round(), atol=1e-3, rtol=0)
    assert not torch.allclose(found, crops, atol=0.05)


def test_the_generator_decides(crops):
    first = augment(crops, EVERYTHING, generator(1))
    assert torch.equal(first, augment(crops, EVERYTHING, generator(1)))
    assert not torch.equal(first, augment(crops, EVERYTHING, generator(2)))


def test_the_input_is_left_alone(crops):
    before = crops.clone()
    augment(crops, EVERYTHING, generator())
    assert torch.equal(crops, before)


def test_add_moves_every_pixel_by_one_value_within_its_range(crops):
    shift = apply(crops, add=1, add_range=0.1) - steps(crops)
    spread = shift.flatten(1).amax(dim=1) - shift.flatten(1).amin(dim=1)
    assert spread.max() < 2.1 / 255
    values = shift.mean(dim=(1, 2, 3))
    assert values.abs().max() <= 0.102 and values.min() < -0.05 and values.max() > 0.05


def test_multiply_and_contrast_are_gains_within_their_ranges(crops):
    gain = apply(crops * 0.6, multiply=1, multiply_range=(0.6, 1.4)).mean(dim=(1, 2, 3)) / (crops * 0.6).mean(
        dim=(1, 2, 3)
    )
    assert 0.59 < gain.min() < 0.75 and 1.25 < gain.max() < 1.41
    mild = apply(crops, contrast=1, contrast_range=(0.5, 1.8))
    slope = (mild - 0.5).flatten(1).norm(dim=1) / (crops - 0.5).flatten(1).norm(dim=1)
    assert 0.49 < slope.min() < 0.7 and 1.55 < slope.max() < 1.81


def test_changes_differ_by_channel_on_request_only(crops):
    def channel_shifts(**changes):
        return (apply(crops, add=1, **changes) - steps(crops)).mean(dim=(2, 3))

    together, apart = channel_shifts(channelwise=0), channel_shifts(channelwise=1)
    assert (together.amax(dim=1) - together.amin(dim=1)).max() < 1 / 255
    assert (apart.amax(dim=1) - apart.amin(dim=1)).median() > 5 / 255


def test_inversion(crops):
    torch.testing.assert_close(apply(crops, invert=1), steps(1 - crops))


def test_noise_is_bounded_by_its_sigma_and_differs_by_sample(crops):
    noise = apply(crops, noise=1, noise_sigma=0.05) - crops
    deviations = noise.flatten(1).std(dim=1)
    assert deviations.max() < 0.055 and deviations.max() > 0.03 and deviations.min() < 0.02


def test_blur_lowers_contrast_and_keeps_the_mean(crops):
    blurred = apply(crops, blur=1, blur_sigma=1.2)
    assert (blurred.mean(dim=(1, 2, 3)) - crops.mean(dim=(1, 2, 3))).abs().max() < 0.02
    ratio = blurred.flatten(1).std(dim=1) / crops.flatten(1).std(dim=1)
    assert ratio.max() < 1.05 and ratio.min() < 0.4


def test_cut_out_is_one_block_of_one_colour_within_its_size(crops):
    changed = (apply(crops, cutout=1, cutout_size=(0.1, 0.35)) - steps(crops)).abs().amax(dim=1) > 1e-6
    areas = changed.float().mean(dim=(1, 2))
    assert areas.max() <= (0.35 + 1 / 24) ** 2 and (areas > 0).float().mean() > 0.6
    found = apply(crops, cutout=1)
    for row in range(8):
        if changed[row].any():
            pixels = found[row][:, changed[row]]
            assert (pixels.amax(dim=1) - pixels.amin(dim=1)).max() < 1e-6


@pytest.mark.parametrize("name", ["add", "multiply", "contrast", "invert", "noise", "blur", "cutout"])
def test_probabilities_are_by_sample(crops, name):
    many = crops.repeat(8, 1, 1, 1)
    changed = (apply(many, **{name: 0.5}) - steps(many)).abs().flatten(1).amax(dim=1) > 1e-6
    assert 0.3 < changed.float().mean() < 0.62
