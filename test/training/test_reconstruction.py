"""The bootstrapped loss against a loop, the picture, and the autoencoder's targets."""

import dataclasses

import numpy as np
import pytest
import torch
from shapes import tiny_objects
from training_run import PLAIN, UNCHANGED

from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.config import AugmentationConfig, SynthesisConfig
from shared_pose_ros.training.reconstruction import bootstrapped_loss, reconstruction_picture
from shared_pose_ros.training.synthesis import Synthesizer

SIZE = 32


def naive_loss(reconstructions, targets, ratio):
    """Sort every image's squared errors, average the largest, then average over the images."""
    means = []
    for image, target in zip(reconstructions.tolist(), targets.tolist()):
        errors = [
            (a - b) ** 2
            for plane, wanted in zip(image, target)
            for row, wanted_row in zip(plane, wanted)
            for a, b in zip(row, wanted_row)
        ]
        errors.sort(reverse=True)
        kept = errors[: len(errors) // ratio]
        means.append(sum(kept) / len(kept))
    return sum(means) / len(means)


@pytest.mark.parametrize("ratio", [1, 3, 4])
def test_the_loss_is_that_of_the_hardest_values_of_each_image(ratio):
    torch.manual_seed(0)
    images, targets = torch.rand(3, 3, 6, 5, dtype=torch.float64), torch.rand(3, 3, 6, 5, dtype=torch.float64)
    images[1] *= 9  # one bad image must not take the others' share
    found = bootstrapped_loss(images, targets, ratio)
    assert found.item() == pytest.approx(naive_loss(images, targets, ratio), rel=1e-12)


def test_easy_values_have_no_gradient():
    images = torch.zeros(1, 3, 4, 4, requires_grad=True)
    targets = torch.zeros(1, 3, 4, 4)
    targets[0, 0, :3] = 1.0  # a quarter of the 48 values
    bootstrapped_loss(images, targets, 4).backward()
    assert torch.equal(images.grad != 0, targets > 0)


def test_the_picture_has_rows_of_input_target_and_reconstruction():
    # Two objects, three images each: sample i is a flat grey of (i + 1)/10, its target and reconstruction 0 and 1.
    crops = (torch.arange(6) / 10 + 0.1)[:, None, None, None].expand(6, 3, SIZE, SIZE)
    picture = reconstruction_picture(crops, torch.zeros_like(crops), torch.ones_like(crops), objects=2)
    assert picture.shape == (9 * 64, 2 * 64, 3) and picture.dtype == np.uint8
    tiles = picture.reshape(9, 64, 2, 64, 3).mean(axis=(1, 3, 4))
    assert (tiles[1::3] == 0).all() and (tiles[2::3] == 255).all()
    # A column an object, a block of rows an image.
    np.testing.assert_allclose(tiles[::3] / 255, [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], atol=0.002)


def make(photographs, synthesis, augmentation=UNCHANGED):
    return Synthesizer(
        tiny_objects(), synthesis, augmentation, SIZE, make_rasterizer(), torch.device("cpu"), photographs
    )


def batch(synthesizer, images=6, seed=0):
    return synthesizer.autoencoder_batch(images, torch.Generator().manual_seed(seed))


def test_a_batch_holds_as_many_of_each_object_and_follows_its_generator(photographs):
    synthesizer = make(photographs, SynthesisConfig(), AugmentationConfig())
    first, same, other = batch(synthesizer), batch(synthesizer), batch(synthesizer, seed=1)
    assert first.object_index.tolist() == [0] * 6 + [1] * 6
    assert first.crops.shape == first.targets.shape == (12, 3, SIZE, SIZE)
    for images in (first.crops, first.targets):
        assert (images.amin(dim=(1, 2, 3)) == 0).all() and torch.allclose(images.amax(dim=(1, 2, 3)), torch.ones(12))
    for field in ("crops", "targets", "rotations"):
        assert torch.equal(getattr(first, field), getattr(same, field))
        assert not torch.equal(getattr(first, field), getattr(other, field))


def test_targets_are_centred_and_alone_on_black(photographs):
    busy = dataclasses.replace(SynthesisConfig(), neighbours=1.0, occluders=1.0, crop_shift=0.2, crop_scale=0.2)
    made = batch(make(photographs, busy, AugmentationConfig()), 12)
    for crop in made.targets.amax(dim=1).numpy():
        rows, columns = (np.flatnonzero((crop > 0.05).any(axis=axis)) for axis in (1, 0))
        for filled in (rows, columns):
            assert abs((filled[0] + filled[-1]) / 2 - (SIZE - 1) / 2) <= 1.0
        assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - SIZE / busy.crop_pad) <= 2.0
        border = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
        assert (border == 0).all()


def test_a_target_shows_the_rotation_of_its_input(photographs):
    # White objects, a black background, no jitter: silhouettes of input and target are the same.
    plain = dataclasses.replace(PLAIN, ambient=(1.0, 1.0), distance=(0.7, 0.7), crop_shift=0.0, crop_scale=0.0)
    synthesizer = make(photographs, plain)
    synthesizer.backgrounds = torch.zeros_like(synthesizer.backgrounds)
    made = batch(synthesizer, 12)
    assert ((made.crops > 0.05) == (made.targets > 0.05)).float().mean() > 0.999
    # They change with the rotation, and the jitter of the input leaves them.
    shifted = make(photographs, dataclasses.replace(plain, crop_shift=0.2, crop_scale=0.1))
    moved = batch(shifted, 12)
    torch.testing.assert_close(moved.rotations, made.rotations)
    torch.testing.assert_close(moved.targets, made.targets)
    assert (moved.crops - made.crops).abs().mean() > 0.05
    assert (made.targets[0] - made.targets[1]).abs().mean() > 0.02


def test_the_light_of_targets_is_fixed(photographs):
    dark = dataclasses.replace(PLAIN, ambient=(0.0, 0.0), lamp=(0.3, 0.3), brightness=(0.3, 0.3), tint=0.3)
    bright = dataclasses.replace(PLAIN, ambient=(0.6, 0.6), specular=(0.5, 0.5), metallic=(0.5, 0.5), lights=3)
    first, second = batch(make(photographs, dark)), batch(make(photographs, bright))
    torch.testing.assert_close(first.targets, second.targets)
    assert (first.targets[:, 0] == first.targets[:, 2]).all()  # grey
    inside = [crop[crop > 0] for crop in first.targets]
    assert np.median([values.std().item() for values in inside]) > 0.05  # and shaded, no silhouette
