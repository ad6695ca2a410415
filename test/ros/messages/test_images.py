"""Image messages to RGB: every encoding, padded rows, and each way in which an image can be broken."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.images import ENCODINGS, ImageError, rgb_from_compressed, rgb_from_image

HEIGHT, WIDTH = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA = np.full((HEIGHT, WIDTH, 1), 77, dtype=np.uint8)
CHANNELS = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "8UC3": RGB[..., ::-1],
    "rgba8": np.concatenate([RGB, ALPHA], axis=2),
    "bgra8": np.concatenate([RGB[..., ::-1], ALPHA], axis=2),
    "8UC4": np.concatenate([RGB[..., ::-1], ALPHA], axis=2),
}


def image(pixels: np.ndarray, pixel_format: str, padding: int = 0, **changes) -> Image:
    """An Image message with `padding` bytes of rubbish at the end of each row."""
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
    rows = np.concatenate([rows, np.full((rows.shape[0], padding), 99, dtype=np.uint8)], axis=1)
    fields = {"height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1], "encoding": pixel_format}
    return Image(**{**fields, "data": array.array("B", rows.tobytes()), **changes})


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_colour_encodings(encoding: str, padding: int) -> None:
    result = rgb_from_image(image(CHANNELS[encoding], encoding, padding))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_equal_channels(encoding: str) -> None:
    result = rgb_from_image(image(RGB[..., 0], encoding, padding=3))
    np.testing.assert_array_equal(result, np.repeat(RGB[..., :1], 3, axis=2))


def test_rgb8_is_not_copied() -> None:
    message = image(RGB, "rgb8", padding=2)
    before = rgb_from_image(message)
    message.data[0] = (message.data[0] + 1) % 256
    assert before[0, 0, 0] == message.data[0]


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_of_a_plain_colour(pattern: str) -> None:
    """A plain colour seen through the pattern's filter comes back as that colour everywhere."""
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array(
        [[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], dtype=np.uint8
    )
    result = rgb_from_image(image(np.tile(tile, (3, 4)), f"bayer_{pattern}8"))
    np.testing.assert_array_equal(result, np.broadcast_to(np.uint8([200, 120, 40]), (HEIGHT, WIDTH, 3)))


def test_byte_order_does_not_matter_for_bytes() -> None:
    np.testing.assert_array_equal(rgb_from_image(image(RGB, "rgb8", is_bigendian=1)), RGB)


def test_last_row_may_lack_its_padding() -> None:
    message = image(RGB, "bgr8", padding=4)
    message.data = message.data[:-4]
    np.testing.assert_array_equal(rgb_from_image(message), RGB[..., ::-1])


@pytest.mark.parametrize(
    ("changes", "counter", "words"),
    [
        ({"encoding": "holo9"}, "bad_encoding", "holo9"),
        ({"encoding": ""}, "bad_encoding", "''"),
        ({"data": array.array("B", bytes(100))}, "truncated_image", "100 bytes.*needs 144"),
        ({"data": array.array("B")}, "truncated_image", "0 bytes"),
        ({"step": 23}, "truncated_image", "step of 23.*needs 24"),
        ({"height": 7}, "truncated_image", "needs 168"),
        ({"width": 0}, "empty_image", "0x6"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "truncated_image", "step"),
    ],
)
def test_broken_images_name_counter_and_sizes(changes: dict, counter: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        rgb_from_image(image(RGB, "rgb8", **changes))
    assert caught.value.counter == counter


def compressed(extension: str, pixels: np.ndarray = RGB) -> CompressedImage:
    data = cv2.imencode(extension, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    return CompressedImage(format=f"rgb8; {extension[1:]} compressed bgr8", data=array.array("B", data))


def test_png_is_exact_and_jpeg_is_close() -> None:
    np.testing.assert_array_equal(rgb_from_compressed(compressed(".png")), RGB)
    smooth = np.tile(np.uint8([[[200, 120, 40]]]), (32, 32, 1))
    assert np.abs(rgb_from_compressed(compressed(".jpg", smooth)).astype(int) - smooth).max() <= 3


def test_compressed_grey_becomes_rgb() -> None:
    assert rgb_from_compressed(compressed(".png", RGB[..., 0])).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_cut_compressed_images_are_truncated(extension: str) -> None:
    message = compressed(extension, np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    message.data = message.data[: len(message.data) // 2]
    with pytest.raises(ImageError, match="no end") as caught:
        rgb_from_compressed(message)
    assert caught.value.counter == "truncated_image"


def test_other_broken_compressed_images() -> None:
    cases = {
        "empty_image": CompressedImage(format="jpeg"),
        "undecodable_image": CompressedImage(format="jpeg", data=array.array("B", b"this is no image at all")),
        "bad_encoding": CompressedImage(format="16UC1; compressedDepth png", data=array.array("B", b"1234")),
    }
    for counter, message in cases.items():
        with pytest.raises(ImageError) as caught:
            rgb_from_compressed(message)
        assert caught.value.counter == counter


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*ENCODINGS, "RGB8", "mono16", "yuv422", "x"]),
    st.integers(0, 9), st.integers(0, 9), st.integers(0, 40), st.binary(max_size=300),
)  # fmt: skip
def test_any_image_gives_an_array_or_a_named_error(
    encoding: str, height: int, width: int, step: int, data: bytes
) -> None:
    message = Image(height=height, width=width, step=step, encoding=encoding, data=array.array("B", data))
    try:
        result = rgb_from_image(message)
    except ImageError as error:
        counter, result = error.counter, None
    if result is None:
        assert counter in COUNTERS
    else:
        # Reading each pixel would crash if the view reached beyond the data.
        assert result.shape == (height, width, 3) and result.sum() >= 0
