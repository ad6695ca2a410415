"""The crop function against a slow loop over pixels, and the normalisation."""

import numpy as np
import pytest
import torch

from shared_pose_ros.network.crop import crop_objects, normalize_crops


def pixel_at(image, x, y, channel):
    """Bilinear value at a real position, black outside, pixel centres at integers."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row, column, weight in (
        (y0, x0, (1 - (x - x0)) * (1 - (y - y0))),
        (y0, x0 + 1, (x - x0) * (1 - (y - y0))),
        (y0 + 1, x0, (1 - (x - x0)) * (y - y0)),
        (y0 + 1, x0 + 1, (x - x0) * (y - y0)),
    ):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += weight * float(image[row, column, channel]) / 255
    return total


def slow_crop(image, box, pad, size, taps):
    """The mean of taps² bilinear samples in every output pixel."""
    cx, cy, w, h = (float(value) for value in box)
    side = pad * max(w, h)
    crop = np.zeros((3, size, size))
    for channel in range(3):
        for row in range(size):
            for column in range(size):
                values = [
                    pixel_at(
                        image,
                        cx + side * ((column * taps + i + 0.5) / (size * taps) - 0.5),
                        cy + side * ((row * taps + j + 0.5) / (size * taps) - 0.5),
                        channel,
                    )
                    for i in range(taps)
                    for j in range(taps)
                ]
                crop[channel, row, column] = np.mean(values)
    return crop


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "taps"),
    [
        ((28.0, 20.0, 6.0, 4.0), 1),  # enlarged
        ((27.3, 18.6, 9.0, 12.0), 2),  # a little smaller
        ((25.0, 20.0, 26.0, 20.0), 4),
        ((25.0, 20.0, 30.0, 20.0), 8),
        ((2.0, 37.0, 10.0, 10.0), 2),  # over a corner
        ((30.0, 20.0, 54.0, 70.0), 16),  # larger than the image
        ((55.0, 39.0, 1.0, 1.0), 1),  # one pixel in the corner
    ],
)
def test_crops_match_a_loop_over_pixels(image, box, taps):
    found = crop_objects(torch.from_numpy(image), torch.tensor([box]), 1.2, 8)
    np.testing.assert_allclose(found[0].numpy(), slow_crop(image, box, 1.2, 8, taps), atol=2e-4)


def test_a_crop_of_the_images_own_pixels_is_the_image(image):
    # Side 16 onto 16 pixels, its centre between pixels: every sample falls on a pixel's centre.
    found = crop_objects(torch.from_numpy(image), torch.tensor([[20.5, 15.5, 16.0, 10.0]]), 1.0, 16)
    expected = image[8:24, 13:29].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_boxes_of_all_sizes_in_one_call_do_not_touch_each_other(image):
    boxes = torch.tensor(
        [[28.0, 20.0, 6.0, 4.0], [25.0, 20.0, 50.0, 20.0], [2.0, 37.0, 10.0, 10.0], [28.0, 20.0, 300.0, 300.0]]
    )
    together = crop_objects(torch.from_numpy(image), boxes, 1.2, 16)
    for row in range(len(boxes)):
        alone = crop_objects(torch.from_numpy(image), boxes[row : row + 1], 1.2, 16)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)


def test_outside_the_image_is_black_never_stretched(image):
    white = torch.full((40, 56, 3), 255, dtype=torch.uint8)
    crop = crop_objects(white, torch.tensor([[0.0, 20.0, 16.0, 16.0]]), 1.0, 16)[0]
    assert (crop[:, :, :7] == 0).all() and (crop[:, :, 9:] > 0.999).all()
    for centre in ((-100.0, 20.0), (20.0, 500.0), (1e6, -1e6)):
        assert (crop_objects(white, torch.tensor([[*centre, 20.0, 20.0]]), 1.2, 16) == 0).all()


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crop = crop_objects(torch.from_numpy(stripes), torch.tensor([[256.0, 256.0, 400.0, 400.0]]), 1.0, 32)
    assert (crop - 0.5).abs().max() < 0.05


def test_no_boxes_and_extreme_boxes_are_finite(image):
    pixels = torch.from_numpy(image)
    assert crop_objects(pixels, torch.zeros(0, 4), 1.2, 16).shape == (0, 3, 16, 16)
    wild = torch.tensor([[1e30, 1e30, 1e30, 1e30], [5.0, 5.0, 1e-30, 1e-30], [5.0, 5.0, 1e-3, 1e7]])
    crops = normalize_crops(crop_objects(pixels, wild, 1.2, 16))
    assert torch.isfinite(crops).all()


def test_normalisation_spans_zero_to_one_over_all_channels():
    crops = torch.rand(3, 3, 8, 8) * 0.3 + 0.2
    crops[2] = 0.7
    found = normalize_crops(crops)
    for row in range(2):
        values = crops[row].numpy()
        expected = (values - values.min()) / (values.max() - values.min())
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-5)
    assert (found[2] == 0).all()
