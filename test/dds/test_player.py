"""The player: its time table (order, speed and /clock, without a wire), its topics."""

import sys
import time

import pytest

from shared_pose_ros.replay.player import Player, play, spinning


class Listener:
    """Stands in for a Player: notes what is published, when, and what the clock says."""

    def __init__(self, has_clock):
        self.has_clock, self.published, self.told = has_clock, [], []

    def play(self, topic, data):
        self.published.append((topic, time.monotonic()))

    def tell_time(self, time_ns):
        self.told.append(time_ns)


def data(stamp):
    return bytes([0, 1, 0, 0]) + stamp.to_bytes(4, "little") + bytes(4) + b"\x04\0\0\0cam\0"


@pytest.mark.parametrize("has_clock", [False, True])
def test_messages_keep_their_order_and_spacing_at_the_rate(has_clock):
    start = 5_000_000_000
    records = [("image", start, data(1)), ("boxes", start + 100_000_000, data(1)), ("image", start + 600_000_000, b"")]
    listener, began = Listener(has_clock), time.monotonic()
    sent = play(listener, records, rate=2.0, loop=3)
    assert [topic for topic, _ in listener.published] == ["image", "boxes", "image"]
    spacing = [when - began for _, when in listener.published]
    # Never early; late only by what a busy machine adds.
    assert spacing[1] >= 0.05 and spacing[2] >= 0.3 and spacing[2] < 3.0
    # What has no header is played, but cannot be asked for.
    assert [(item.topic, item.key, item.loop) for item in sent] == [
        ("image", (10**9, "cam"), 3),
        ("boxes", (10**9, "cam"), 3),
    ]
    assert all(item.time >= when for item, (_, when) in zip(sent, listener.published))
    told = listener.told
    assert told == sorted(told) and {time_ns for _, time_ns, _ in records} <= set(told)
    # Recorded time goes on between two messages, at the rate.
    assert len(told) > 6 if has_clock else len(told) == 3


def test_the_programs_own_remap_is_not_taken_for_a_rule_of_ros(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["shared_pose", "replay", "bag", "--remap", "/recorded:=/camera_info"])
    with spinning(lambda context: Player(context, {"/recorded": "sensor_msgs/msg/CameraInfo"})) as player:
        assert player.outlets["/recorded"].topic_name == "/recorded"
