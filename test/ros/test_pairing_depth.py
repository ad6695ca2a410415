"""The depth images of the pairing buffer: found for their image, bounded, and every one accounted for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.pairing import Item, PairingBuffer, PairingLimits


def buffer(**limits) -> PairingBuffer:
    return PairingBuffer(PairingLimits(**limits))


def find(kept: PairingBuffer, stamp: int, frame_id: str):
    """The depth image of an image."""
    return kept.depth_of(Item(stamp, frame_id, None, 0.0))


def check(kept: PairingBuffer) -> None:
    assert kept.received["depth"] == kept.taken["depth"] + sum(kept.counters.values()) + kept.pending["depth"]
    assert all(COUNTERS[name].stream == "depth" for name, number in kept.counters.items() if number)


def test_the_frame_s_own_is_found_and_stays_for_a_second_pair() -> None:
    kept = buffer()
    kept.add_depth(10, "left", "a", 1, 0.0)
    kept.add_depth(10, "right", "b", 1, 0.0)
    assert find(kept, 11, "left") is None and find(kept, 10, "middle") is None
    assert [find(kept, 10, "right"), find(kept, 10, "right")] == ["b", "b"]
    assert (kept.taken["depth"], kept.pending["depth"]) == (1, 1)
    kept.expire(1.6)
    assert find(kept, 10, "right") is None and kept.counters == {"unmatched_depth": 1} and kept.nbytes["depth"] == 0
    check(kept)


def test_with_a_slop_the_nearest_is_found() -> None:
    kept = buffer(slop_seconds=5e-9)
    for stamp in (10, 14, 30):
        kept.add_depth(stamp, "c", stamp, 1, 0.0)
    assert [find(kept, stamp, "c") for stamp in (5, 4, 11, 13, 19, 20, 35)] == [10, None, 10, 14, 14, None, 30]
    assert kept.taken["depth"] == 3


def test_the_bounds_hold() -> None:
    kept = buffer(max_count=3, max_bytes=100)
    for stamp in range(5):
        kept.add_depth(stamp, "c", stamp, 10, 0.0)
    assert kept.counters == {"depth_buffer_full": 2} and kept.pending["depth"] == 3
    kept.add_depth(6, "c", 6, 75, 0.0)
    assert kept.nbytes["depth"] == 95 and kept.pending["depth"] == 3
    # One that is too large alone costs the others nothing.
    kept.add_depth(7, "c", 7, 101, 0.0)
    assert (kept.nbytes["depth"], kept.pending["depth"]) == (95, 3)
    check(kept)


def test_repeated_stamps_and_old_time_lines_are_named() -> None:
    kept = buffer()
    second = 10**9
    kept.add_depth(10 * second, "c", 1, 1, 0.0)
    kept.add_depth(10 * second, "c", 2, 1, 0.0)
    kept.add_depth(5 * second, "c", 3, 1, 0.0)
    # It is the images' stamps that tell of a new time line.
    kept.add_image(10 * second, "other", "image", 1, 0.0)
    kept.add_image(5 * second, "other", "image", 1, 0.0)
    kept.counters -= Counter({"time_jumps": 1, "time_jump_image": 1})
    assert kept.counters == {"duplicate_depth": 1, "time_jump_depth": 1}
    assert find(kept, 10 * second, "c") is None and find(kept, 5 * second, "c") == 3
    kept.add_depth(6 * second, "c", 4, 1, 0.0)
    kept.clear("deactivated")
    assert kept.counters["deactivated_depth"] == 1 and kept.pending["depth"] == 0
    kept.counters -= Counter({"deactivated_image": 1})
    check(kept)


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
            kept.add_depth(stamp * 10**8, frame, (stamp, frame), nbytes, now)
            stored[stamp] += 1
        elif kind == "find":
            found = find(kept, stamp * 10**8, frame)
            assert found is None or (found[1] == frame and abs(found[0] - stamp) * 0.1 <= slop + 1e-9)
        elif kind == "expire":
            kept.expire(now)
        else:
            kept.clear("deactivated")
        assert kept.nbytes["depth"] <= 60 and kept.pending["depth"] <= 4
        check(kept)
    assert kept.received["depth"] == sum(stored.values())
