"""The pairing buffer: matching rules one by one, and its bookkeeping under random schedules."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_pose_ros.ros.pairing import PairingBuffer, PairingLimits

MS = 1_000_000
IMAGE_COUNTERS = {
    "unmatched_image", "superseded_image", "duplicate_image", "image_buffer_full", "time_jump_image",
    "deactivated_image",
}  # fmt: skip
DETECTION_COUNTERS = {
    "unmatched_detection", "late_detection", "frame_id_mismatch", "superseded", "duplicate_detection",
    "detection_buffer_full", "time_jump_detection", "deactivated_detection",
}  # fmt: skip


def lost(buffer: PairingBuffer) -> dict[str, int]:
    """The counters that are not zero, without the note about time jumps."""
    return {name: count for name, count in buffer.counters.items() if count and name != "time_jumps"}


def stamp_taken(buffer: PairingBuffer, now: float) -> Optional[int]:
    """Stamp (ms) of the pair that `take` returns, or None."""
    pair = buffer.take(now)
    return None if pair is None else pair.detections.stamp // MS


@pytest.mark.parametrize("image_first", [True, False])
def test_exact_match_in_either_order(image_first: bool) -> None:
    buffer = PairingBuffer()
    if image_first:
        buffer.add_image(5 * MS, "camera", "image", 10, 0.0)
    buffer.add_detections(5 * MS, "camera", "boxes", 0.1)
    if not image_first:
        buffer.add_image(5 * MS, "camera", "image", 10, 0.2)
    pair = buffer.take(0.3)
    assert (pair.image.payload, pair.detections.payload) == ("image", "boxes")
    assert pair.completed == (0.1 if image_first else 0.2)
    assert buffer.take(0.3) is None
    assert not any(buffer.pending.values()) and not lost(buffer)


def test_without_slop_a_nanosecond_matters() -> None:
    buffer = PairingBuffer()
    buffer.add_image(1000, "camera", "image", 1, 0.0)
    buffer.add_detections(1001, "camera", "boxes", 0.0)
    assert buffer.take(0.1) is None
    buffer.expire(10.0)
    assert lost(buffer) == {"unmatched_detection": 1, "unmatched_image": 1}


def test_slop_takes_the_nearest_and_prefers_the_exact_image() -> None:
    buffer = PairingBuffer(PairingLimits(slop_seconds=0.02))
    for stamp in (0, 15, 30, 100):
        buffer.add_image(stamp * MS, "camera", stamp, 1, 0.0)
    buffer.add_detections(22 * MS, "camera", "near", 0.0)
    assert buffer.take(0.0).image.payload == 15
    buffer.add_detections(30 * MS, "camera", "exact", 0.0)
    assert buffer.take(0.0).image.payload == 30
    buffer.add_detections(60 * MS, "camera", "none within the slop", 0.0)
    assert buffer.take(0.0) is None
    buffer.add_image(75 * MS, "camera", 75, 1, 0.0)
    assert buffer.take(0.0).detections.payload == "none within the slop"


def test_newest_complete_pair_wins_and_the_others_are_counted() -> None:
    buffer = PairingBuffer()
    for stamp in (1, 2, 3):
        buffer.add_image(stamp * MS, "camera", stamp, 1, 0.0)
    for stamp in (1, 3, 2):
        buffer.add_detections(stamp * MS, "camera", stamp, 0.0)
    assert stamp_taken(buffer, 0.0) == 3 and stamp_taken(buffer, 0.0) is None
    assert lost(buffer) == {"superseded": 2, "superseded_image": 2}


def test_two_detectors_on_one_image_are_both_served_and_repeats_are_not() -> None:
    buffer = PairingBuffer()
    buffer.add_image(MS, "camera", "image", 1, 0.0)
    for payload in ("left detector", "right detector", "left detector"):
        buffer.add_detections(MS, "camera", payload, 0.0)
    buffer.add_image(MS, "camera", "image", 1, 0.0)
    assert [buffer.take(0.0).detections.payload for _ in range(2)] == ["left detector", "right detector"]
    buffer.add_detections(MS, "camera", "a slow third one", 0.8)
    assert buffer.take(0.8).image.payload == "image"
    assert lost(buffer) == {"duplicate_detection": 1, "duplicate_image": 1}
    assert buffer.taken == {"images": 1, "detections": 3, "depth": 0}


def test_late_unmatched_and_wrong_frame_have_their_own_names() -> None:
    buffer = PairingBuffer(PairingLimits(max_age_seconds=0.5))
    buffer.add_image(MS, "camera", "image", 1, 0.0)
    buffer.expire(0.6)
    assert lost(buffer) == {"unmatched_image": 1}
    buffer.add_image(2 * MS, "camera", "image", 1, 0.85)
    buffer.add_detections(MS, "camera", "900 ms late", 0.9)
    buffer.add_detections(2 * MS, "other_camera", "wrong frame", 0.9)
    buffer.add_detections(3 * MS, "camera", "no image", 0.9)
    buffer.expire(2.0)
    assert lost(buffer) == {
        "unmatched_image": 2, "late_detection": 1, "frame_id_mismatch": 1, "unmatched_detection": 1,
    }  # fmt: skip
    assert buffer.lateness == pytest.approx(0.9)


def test_with_a_slop_late_and_wrong_frames_keep_their_names() -> None:
    buffer = PairingBuffer(PairingLimits(max_age_seconds=0.5, slop_seconds=0.002))
    buffer.add_image(100 * MS, "camera", "image", 1, 0.0)
    buffer.expire(0.6)
    buffer.add_detections(101 * MS, "camera", "900 ms late, of another clock", 0.9)
    buffer.add_detections(99 * MS, "other_camera", "wrong frame", 0.9)
    buffer.add_detections(103 * MS, "camera", "beyond the slop", 0.9)
    buffer.expire(2.0)
    assert lost(buffer) == {
        "unmatched_image": 1, "late_detection": 1, "frame_id_mismatch": 1, "unmatched_detection": 1,
    }  # fmt: skip
    assert buffer.lateness == buffer.recent_lateness == pytest.approx(0.9)


def test_bytes_and_counts_are_bounded() -> None:
    buffer = PairingBuffer(PairingLimits(max_bytes=100, max_count=5))
    buffer.add_image(1, "camera", "bigger than the buffer", 101, 0.0)
    assert lost(buffer) == {"image_buffer_full": 1} and buffer.nbytes["images"] == 0
    for stamp in range(2, 6):
        buffer.add_image(stamp, "camera", stamp, 40, 0.0)
    assert buffer.nbytes["images"] == 80 and buffer.counters["image_buffer_full"] == 3
    for stamp in range(100, 110):
        buffer.add_detections(stamp, "camera", stamp, 0.0)
    assert buffer.pending["detections"] == 5 and buffer.counters["detection_buffer_full"] == 5


def test_the_image_of_a_waiting_pair_is_not_evicted() -> None:
    buffer = PairingBuffer(PairingLimits(max_bytes=100))
    buffer.add_image(1, "camera", "wanted", 60, 0.0)
    buffer.add_detections(1, "camera", "boxes", 0.0)
    for stamp in (2, 3):
        buffer.add_image(stamp, "camera", stamp, 60, 0.0)
    assert buffer.take(9.0).image.payload == "wanted"
    buffer.expire(9.0)
    assert buffer.nbytes["images"] == 0


def test_a_bag_loop_starts_a_new_time_line_without_false_pairs() -> None:
    buffer = PairingBuffer(PairingLimits(time_jump_seconds=0.5))
    for stamp in (10_000, 10_033):
        buffer.add_image(stamp * MS, "camera", "first loop", 1, 0.0)
    buffer.add_detections(10_033 * MS, "camera", "first loop", 0.0)
    buffer.add_detections(10_066 * MS, "camera", "first loop", 0.0)
    buffer.add_detections(2_000 * MS, "camera", "second loop, before its image", 0.1)
    buffer.add_image(2_000 * MS, "camera", "second loop", 1, 0.1)
    assert buffer.take(0.1).image.payload == "second loop" and buffer.take(0.1) is None
    assert buffer.counters["time_jumps"] == 1
    assert lost(buffer) == {"time_jump_image": 2, "time_jump_detection": 2}
    buffer.add_image(10_000 * MS, "camera", "second loop", 1, 0.2)
    buffer.add_detections(10_000 * MS, "camera", "second loop", 0.2)
    assert buffer.take(0.2).image.payload == "second loop"


def test_slightly_reordered_images_are_no_time_jump() -> None:
    buffer = PairingBuffer(PairingLimits(time_jump_seconds=0.5))
    for stamp in (1000, 1066, 1033):
        buffer.add_image(stamp * MS, "camera", stamp, 1, 0.0)
    buffer.add_detections(1033 * MS, "camera", "boxes", 0.0)
    assert stamp_taken(buffer, 0.0) == 1033 and not lost(buffer)


def test_clear_names_everything_that_waited() -> None:
    buffer = PairingBuffer()
    buffer.add_image(1, "camera", "image", 1, 0.0)
    buffer.add_detections(1, "camera", "paired", 0.0)
    buffer.add_detections(2, "camera", "waiting", 0.0)
    buffer.clear("deactivated")
    assert lost(buffer) == {"deactivated_image": 1, "deactivated_detection": 2}
    assert not any(buffer.pending.values()) and buffer.nbytes["images"] == 0


@pytest.mark.parametrize("wrong", [{"max_count": 0}, {"max_age_seconds": float("nan")}, {"slop_seconds": 2.0}])
def test_useless_limits_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PairingBuffer(PairingLimits(**wrong))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["image", "image", "detections", "detections", "take", "expire", "loop", "clear"]),
        st.integers(0, 12),  # stamp, in frames of 100 ms
        st.sampled_from(["camera", "camera", "camera", "other"]),
        st.integers(0, 2),  # payload: equal ones are repeats
        st.floats(0, 0.4),  # time since the event before (s)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    EVENTS,
    st.sampled_from([0.0, 0.06, 0.2]),
    st.integers(1, 4),
    st.sampled_from([25, 60, 1000]),
)
def test_every_input_ends_exactly_once(events: list, slop: float, max_count: int, max_bytes: int) -> None:
    """received = taken + counters + pending, after every event, for both streams; and the bounds hold."""
    buffer = PairingBuffer(PairingLimits(0.5, max_count, max_bytes, slop, 0.5))
    now, base = 0.0, 1000
    inputs = {"images": 0, "detections": 0}
    pairs = []
    for kind, frame, frame_id, payload, delay in events:
        now += delay
        stamp = (base + frame) * 100 * MS
        if kind == "image":
            inputs["images"] += 1
            buffer.add_image(stamp, frame_id, payload, 20, now)
        elif kind == "detections":
            inputs["detections"] += 1
            buffer.add_detections(stamp, frame_id, payload, now)
        elif kind == "take":
            pairs += [pair for pair in [buffer.take(now)] if pair is not None]
        elif kind == "expire":
            buffer.expire(now)
        elif kind == "loop":
            base -= 50
        else:
            buffer.clear("deactivated")
        counted = lost(buffer)
        assert set(counted) <= IMAGE_COUNTERS | DETECTION_COUNTERS
        images = sum(counted.get(name, 0) for name in IMAGE_COUNTERS)
        detections = sum(counted.get(name, 0) for name in DETECTION_COUNTERS)
        assert buffer.received == {**inputs, "depth": 0}
        assert inputs["images"] == buffer.taken["images"] + images + buffer.pending["images"]
        assert inputs["detections"] == buffer.taken["detections"] + detections + buffer.pending["detections"]
        assert buffer.nbytes["images"] <= max_bytes + 20 and buffer.pending["images"] <= max_count + 1
        assert buffer.pending["detections"] <= 2 * max_count
    assert buffer.taken["detections"] == len(pairs) == len({id(pair.detections) for pair in pairs})
    for pair in pairs:
        assert pair.image.frame_id == pair.detections.frame_id
        assert abs(pair.image.stamp - pair.detections.stamp) <= slop * 1e9
    buffer.expire(now + 10)
    while buffer.take(now + 10):
        continue
    buffer.expire(now + 20)
    assert not any(buffer.pending.values()) and buffer.nbytes["images"] == 0
