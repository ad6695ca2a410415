"""Depth messages to metres."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.images import ImageError, depth_from_image

MILLIMETRES = np.array([[0, 1, 1234], [65535, 500, 7]], dtype=np.uint16)
METRES = np.array([[0.5, np.nan, np.inf], [-1.0, 0.0, 2.25]], dtype=np.float32)


def message(pixels: np.ndarray, encoding: str, big: bool = False, padding: int = 0, **changes) -> SimpleNamespace:
    """A depth image in either byte order, each row but the last with padding."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xff" * padding for row in stored]
    data = b"".join(rows)[: len(b"".join(rows)) - padding]
    fields = {
        "height": pixels.shape[0], "width": pixels.shape[1], "step": len(rows[0]), "encoding": encoding,
        "is_bigendian": big, "data": data,
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(
    ("pixels", "encoding", "expected"),
    [
        (MILLIMETRES, "16UC1", [[0, 0.001, 1.234], [65.535, 0.5, 0.007]]),
        (MILLIMETRES, "mono16", [[0, 0.001, 1.234], [65.535, 0.5, 0.007]]),
        (METRES, "32FC1", [[0.5, 0, 0], [0, 0, 2.25]]),
    ],
)
def test_both_encodings_in_both_byte_orders_with_and_without_padding(pixels, encoding, expected, big, padding) -> None:
    depth = depth_from_image(message(pixels, encoding, big, padding))
    assert depth.dtype == np.float32 and depth.flags.c_contiguous
    np.testing.assert_allclose(depth, np.array(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "rgb8"}, "depth encoding 'rgb8' .3x2. cannot be read; publish 16UC1"),
        ({"encoding": "64FC1"}, "cannot be read"),
        ({"width": 0}, "0x2 pixels: nothing to look at"),
        ({"height": 0}, "3x0 pixels"),
        (
            {"data": MILLIMETRES.tobytes()[:-1]},
            "depth image: 11 bytes of data, but 3x2 16UC1 with a step of 6 needs 12",
        ),
        ({"data": b""}, "0 bytes"),
        ({"step": 3}, "step of 3 bytes, but a row of 3 16UC1 pixels needs 6"),
    ],
)
def test_what_cannot_be_read_has_a_reason(changes, words) -> None:
    with pytest.raises(ImageError, match=words) as raised:
        depth_from_image(message(MILLIMETRES, **{"encoding": "16UC1", **changes}))
    assert raised.value.counter in COUNTERS
