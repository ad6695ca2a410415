"""Augmentation: probabilities 0 and 1, ranges, one change at a time, determinism."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from training_run import UNCHANGED

from shared_pose_ros.training.augmentation import augment
from shared_pose_ros.training.config import AugmentationConfig

NEVER, ALWAYS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
OFF = dataclasses.replace(UNCHANGED, channelwise=NEVER)
EVERYTHING = AugmentationConfig(
    zoom=1,
    coarse_pair=1,
    blur=1,
    noise=1,
    add=1,
    multiply=1,
    multiply_again=1,
    contrast=1,
    invert=0.5,
    cutout=1,
    jpeg=1,
)


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

    together, apart = channel_shifts(channelwise=NEVER), channel_shifts(channelwise=(1.0, 0.0, 0.0))
    assert (together.amax(dim=1) - together.amin(dim=1)).max() < 1 / 255
    assert (apart.amax(dim=1) - apart.amin(dim=1)).median() > 5 / 255


def test_inversion(crops):
    torch.testing.assert_close(apply(crops, invert=1, invert_channel=1), steps(1 - crops))
    some = apply(crops, invert=1, invert_channel=0.5)
    inverted = ((some - steps(1 - crops)).abs() < 1e-6).flatten(2).all(dim=2)
    assert 0.3 < inverted.float().mean() < 0.7 and (inverted.any(dim=1) & ~inverted.all(dim=1)).any()
    torch.testing.assert_close(some[~inverted], steps(crops)[~inverted])


def test_the_second_multiplication_is_never_by_channel(crops):
    gain = apply(crops * 0.6, multiply_again=1, channelwise=ALWAYS).mean(dim=(2, 3)) / (crops * 0.6).mean(dim=(2, 3))
    assert (gain.amax(dim=1) - gain.amin(dim=1)).max() < 0.01 and gain.min() < 0.75 and gain.max() > 1.25


def test_zoom_enlarges_about_the_centre_within_its_range():
    ramp = torch.linspace(0.1, 0.9, 24).expand(64, 3, 24, 24)
    zoomed = apply(ramp, zoom=1, zoom_range=(1.0, 1.2))
    slope = (zoomed[:, 0, 12, 20] - zoomed[:, 0, 12, 3]) / (ramp[0, 0, 12, 20] - ramp[0, 0, 12, 3])
    assert 1 / 1.21 < slope.min() < 0.87 and 0.96 < slope.max() < 1.01
    assert (zoomed[:, 0, 12].mean(dim=1) - 0.5).abs().max() < 0.01


@pytest.mark.slow
def test_the_coarse_pair_is_two_of_five():
    # On mid-grey, black and white blocks, grey cut-outs and untouched pixels tell which of the five a sample has.
    grey = torch.full((300, 3, 128, 128), 100 / 255)
    found = apply(grey, coarse_pair=1)
    assert torch.equal(found[:, 0], found[:, 2])
    black = (found[:, 0] == 0).float().mean(dim=(1, 2))
    # A cell of a 5 % grid is hit with probability 0.2: black blocks cover about a fifth of the samples that have them.
    assert 0.12 < black[black > 0.05].median() < 0.25 and 0.2 < (black > 0.05).float().mean() < 0.6
    assert torch.equal(apply(grey, coarse_pair=0), steps(grey))
    touched = (found != steps(grey)).flatten(1).any(dim=1).float().mean()
    assert touched > 0.9
    half = (apply(grey, coarse_pair=0.5) != steps(grey)).flatten(1).any(dim=1).float().mean()
    assert 0.35 < half < 0.62


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


@pytest.fixture(scope="module")
def smooth():
    """64 crops of 32 pixels as cameras make them: soft colours, one edge."""
    coarse = torch.rand(64, 3, 5, 5, generator=generator(4)) * 0.4 + 0.3
    crops = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    crops[:, :, :, 20:] *= 0.5
    return steps(crops)


def test_jpeg_is_close_to_a_real_codec(smooth):
    found = apply(smooth, jpeg=1, jpeg_quality=(50, 50))
    for crop, compressed in zip(smooth[:8], found[:8]):
        picture = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 50])
        reference = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float32) / 255
        ours = compressed.permute(1, 2, 0).numpy()
        lost, apart = np.abs(reference - picture / 255).mean(), np.abs(ours - reference).mean()
        # Nearer to the codec's picture than that is to the original.
        assert apart < 0.6 * lost, (apart, lost)


def test_jpeg_changes_little_and_less_with_quality(smooth):
    def change(*quality):
        return (apply(smooth, jpeg=1, jpeg_quality=quality) - smooth).abs().mean(dim=(1, 2, 3))

    poor, good = change(25, 25), change(95, 95)
    assert (good > 0).all() and good.max() < 0.02 and poor.max() < 0.08 and (poor > 1.5 * good).all()
    between = change(25, 95)
    assert (between >= 0.5 * good).all() and (between <= 1.5 * poor).all() and between.std() > 0.002


def test_jpeg_follows_the_generator_and_leaves_other_presets_their_random_numbers(smooth):
    first = apply(smooth, seed=1, jpeg=0.5)
    assert torch.equal(first, apply(smooth, seed=1, jpeg=0.5))
    assert not torch.equal(first, apply(smooth, seed=2, jpeg=0.5))
    without, with_jpeg = generator(3), generator(3)
    augment(smooth, OFF, without)
    augment(smooth, dataclasses.replace(OFF, jpeg=0.0, jpeg_quality=(1, 2)), with_jpeg)
    assert torch.equal(without.get_state(), with_jpeg.get_state())


@pytest.mark.parametrize(
    "name", ["add", "multiply", "multiply_again", "contrast", "noise", "blur", "cutout", "zoom", "jpeg"]
)
def test_probabilities_are_by_sample(crops, name):
    many = crops.repeat(8, 1, 1, 1)
    changed = (apply(many, **{name: 0.5}) - steps(many)).abs().flatten(1).amax(dim=1) > 1e-6
    assert 0.3 < changed.float().mean() < 0.62
