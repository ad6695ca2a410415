"""Depth messages to metres, and the buffer that keeps them: bounded, and every one accounted for."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.depth_images import DepthBuffer, depth_from_image
from shared_pose_ros.ros.messages.images import ImageError
from shared_pose_ros.ros.pairing import PairingLimits

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


def buffer(**limits) -> DepthBuffer:
    bounds = PairingLimits(**limits)
    return DepthBuffer(lambda: bounds)


def check_books(kept: DepthBuffer) -> None:
    assert kept.received == kept.used + sum(kept.counters.values()) + kept.pending
    assert all(COUNTERS[name].stream == "depth" for name in kept.counters)


def test_the_frame_s_own_is_found_and_stays_for_a_second_pair() -> None:
    kept = buffer()
    kept.add(10, "left", "a", 1, 0.0)
    kept.add(10, "right", "b", 1, 0.0)
    assert kept.find(11, "left") is None and kept.find(10, "middle") is None
    assert [kept.find(10, "right"), kept.find(10, "right")] == ["b", "b"]
    assert (kept.used, kept.pending) == (1, 1)
    kept.expire(1.6)
    assert kept.find(10, "right") is None and kept.counters == {"unmatched_depth": 1} and kept.nbytes == 0
    check_books(kept)


def test_with_a_slop_the_nearest_is_found() -> None:
    kept = buffer(slop_seconds=5e-9)
    for stamp in (10, 14, 30):
        kept.add(stamp, "c", stamp, 1, 0.0)
    assert [kept.find(stamp, "c") for stamp in (5, 4, 11, 13, 19, 20, 35)] == [10, None, 10, 14, 14, None, 30]
    assert kept.used == 3


def test_the_bounds_hold() -> None:
    kept = buffer(max_count=3, max_bytes=100)
    for stamp in range(5):
        kept.add(stamp, "c", stamp, 10, 0.0)
    assert kept.counters == {"depth_buffer_full": 2} and kept.pending == 3
    kept.add(6, "c", 6, 75, 0.0)
    assert kept.nbytes == 95 and kept.pending == 3
    kept.add(7, "c", 7, 101, 0.0)
    assert (kept.nbytes, kept.pending) == (0, 0)
    check_books(kept)


def test_repeated_stamps_and_old_time_lines_are_named() -> None:
    kept = buffer()
    second = 10**9
    kept.add(10 * second, "c", 1, 1, 0.0)
    kept.add(10 * second, "c", 2, 1, 0.0)
    kept.add(5 * second, "c", 3, 1, 0.0)
    assert kept.counters == {"duplicate_depth": 1, "time_jump_depth": 1}
    assert kept.find(10 * second, "c") is None and kept.find(5 * second, "c") == 3
    kept.add(6 * second, "c", 4, 1, 0.0)
    kept.clear("deactivated")
    assert kept.counters["deactivated_depth"] == 1 and kept.pending == 0
    check_books(kept)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "find", "expire", "clear"]), st.integers(0, 8), st.sampled_from("lr"),
        st.integers(0, 40), st.floats(0, 0.8),
    ),
    max_size=60,
)  # fmt: skip


@given(EVENTS, st.sampled_from([0.0, 0.25]))
def test_every_depth_image_leaves_once_and_the_bounds_always_hold(events, slop) -> None:
    kept, now = buffer(max_count=4, max_bytes=60, slop_seconds=slop, time_jump_seconds=0.3), 0.0
    stored: Counter[int] = Counter()
    for kind, stamp, frame, nbytes, later in events:
        now += later
        if kind == "add":
            kept.add(stamp * 10**8, frame, (stamp, frame), nbytes, now)
            stored[stamp] += 1
        elif kind == "find":
            found = kept.find(stamp * 10**8, frame)
            assert found is None or (found[1] == frame and abs(found[0] - stamp) * 0.1 <= slop + 1e-9)
        elif kind == "expire":
            kept.expire(now)
        else:
            kept.clear("deactivated")
        assert kept.nbytes <= 60 and kept.pending <= 4
        check_books(kept)
    assert kept.received == sum(stored.values())
