"""The soak's checks and faults: each check finds what it is for, and passes what is sound."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import soak_faults
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from soak_checks import (
    MEMORY_LIMIT,
    counter_problems,
    log_problems,
    memory_fit,
    memory_problems,
    transport,
    unbalanced,
)
from vision_msgs.msg import Detection2DArray

from shared_pose_ros.replay.player import header_key
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.detections import read_detections
from shared_pose_ros.ros.messages.images import ImageError, rgb_from_image

SOUND = {
    "received/detections": "20", "published/poses": "12", "pending/detections": "1",
    "received/images": "30", "used/images": "14", "pending/images": "3",
    "counter/superseded": "5", "counter/bad_encoding": "2",
    "counter/superseded_image": "4", "counter/unmatched_image": "9",
    "counter/unknown_class": "99", "counter/time_jumps": "7",
}  # fmt: skip


def test_books_that_balance_pass():
    assert unbalanced(SOUND) == []


@pytest.mark.parametrize("key", ["received/images", "used/images", "published/poses", "counter/superseded"])
def test_one_lost_message_is_found(key):
    broken = SOUND | {key: str(int(SOUND[key]) + 1)}
    (problem,) = unbalanced(broken)
    assert problem.startswith("images" if "images" in key else "detections")


def test_every_counter_of_a_stream_is_in_the_books():
    for name, info in COUNTERS.items():
        changed = SOUND | {f"counter/{name}": str(int(SOUND.get(f"counter/{name}", "0")) + 1)}
        assert bool(unbalanced(changed)) == (info.stream in ("image", "detections")), name


def samples(minutes: float, slope: float, noise: float = 1.0, step: float = 0.0) -> list[tuple[float, float]]:
    """One a second; the first third climbs steeply, as buffers fill."""
    when = np.arange(0, 60 * minutes)
    value = 500 + slope * when / 60 + np.random.default_rng(0).normal(0, noise, len(when))
    value -= 100 * np.clip(1 - when / (20 * minutes), 0, None)
    value += step * (when > 40 * minutes)
    return list(zip(when + 1e6, value))


def test_a_leak_is_found_and_warming_up_is_none():
    assert memory_fit(samples(30, 0.3)).slope == pytest.approx(0.3, abs=0.02)
    assert memory_problems(samples(30, 0.3)) == []
    assert "grows by 2.0" in memory_problems(samples(30, 2.0))[0]


def test_two_minutes_find_a_great_leak_and_forgive_one_small_step():
    assert memory_problems(samples(2, 0.0, step=3.0)) == []
    assert "grows" in memory_problems(samples(2, 20.0))[0]
    assert memory_problems([(float(when), MEMORY_LIMIT + 1) for when in range(10)]) == [
        "resident memory reached 1025 MiB, limit 1024"
    ]


def test_errors_in_the_log_and_the_counters_are_found():
    log = "[INFO] [1] [node]: active\n[WARN] [2] [node]: superseded +1\n"
    assert log_problems(log) == []
    assert len(log_problems(log + "[ERROR] [3] [node]: in a callback\nTraceback (most recent call last):\n")) == 2
    assert counter_problems({"superseded": 3, "estimator_error": 0}) == []
    assert counter_problems({"publish_error": 2}) == ["publish_error counted 2"]


def test_what_the_transport_lost_lies_between_two_numbers():
    figures, problems = transport(1000, 100, 880, "image")
    assert (figures["lost_in_transport_at_least"], figures["lost_in_transport_at_most"]) == (20, 120) and not problems
    assert transport(1000, 100, 950, "image")[0]["lost_in_transport_at_least"] == 0
    assert "received of" in transport(10, 0, 11, "image")[1][0]
    assert "only 4" in transport(10, 0, 4, "image")[1][0]


def test_faults_are_the_same_for_a_seed_and_do_what_they_are_called(monkeypatch):
    monkeypatch.setattr(soak_faults, "BAD", 0.5)

    def play(seed):
        stream = soak_faults.Stream(seed, ["part"], 10**18)
        return [list(stream.frame(1 / 30)) for _ in range(300)], stream.faults

    frames, faults = play(3)
    again, same = play(3)
    assert faults == same and [[m[:2] for m in f] for f in frames] == [[m[:2] for m in f] for f in again]
    assert play(4)[1] != faults
    seen: Counter[str] = Counter()
    for frame in frames:
        keys = {header_key(data) for _, _, data in frame}
        assert len(keys) == 1 and [topic for _, topic, _ in frame][:2] == ["camera_info", "image"]
        message = deserialize_message(frame[1][2], Image)
        try:
            size = rgb_from_image(message).shape[:2]
            assert size in soak_faults.SIZES
        except ImageError as error:
            seen[error.counter] += 1
            continue
        for _, _, data in frame[2:3]:
            array = deserialize_message(data, Detection2DArray)
            objects = read_detections(array, {"part": 0}.get, size)
            seen.update(name for name, _ in objects.rejected)
            seen["empty_array"] += not array.detections
    expected = {name: faults[name] for name in soak_faults.BAD_IMAGES}
    assert {name: seen[name] for name in expected} == expected
    # Arrays are only sent while the detector lives, so fewer are seen than were made.
    for name in soak_faults.BAD_ARRAYS:
        assert 0 < seen[name] <= faults[name], name
