"""The soak's camera and detector: frames with random faults, each message with the moment that it is due.

Seeded: the same seed gives the same faults. Times are seconds of one clock, stamps nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from node_input import camera_info_message, detections_message, image_message, stamped
from rclpy.serialization import serialize_message

SIZES = ((480, 640), (640, 480), (512, 600))
"""(height, width) of the camera's modes, of nearly the same bytes: the buffer's share of the memory must not move."""
BAD = 0.05
"""Part of the frames that has a bad message."""
BAD_IMAGES = ("bad_encoding", "truncated_image", "empty_image")
BAD_ARRAYS = ("non_finite_box", "unknown_class", "empty_array", "no_hypothesis", "empty_box", "outside_image")
LATENCY = 0.08
"""The detector's greatest latency in s: arrays come in another order than their images now and then."""
MODE_SECONDS, DETECTOR_UP, DETECTOR_DOWN = 15.0, 20.0, 4.0
"""Mean times between changes of the camera's size, and that the detector works and is dead."""


class Stream:
    """Endless frames; `frame(now)` gives the messages of one tick."""

    def __init__(self, seed: int, class_ids: Sequence[str], first_stamp: int) -> None:
        self.faults: Counter[str] = Counter()
        """How often each fault was played."""
        self._random = np.random.default_rng(seed)
        self._classes, self._stamp = list(class_ids), first_stamp
        self._images = {
            (size, kind): serialize_message(_image(size, kind)) for size in SIZES for kind in ("good", *BAD_IMAGES)
        }
        self._arrays = {
            (size, kind): serialize_message(_array(size, kind, self._classes))
            for size in SIZES
            for kind in ("good", *BAD_ARRAYS)
        }
        self._infos = {size: serialize_message(camera_info_message(size)) for size in SIZES}
        self._size, self._detector = SIZES[0], True

    def frame(self, period: float) -> Iterator[tuple[float, str, bytes]]:
        """(seconds from now, topic, serialised message) of the next frame, `period` seconds after the one before."""
        random = self._random
        self._stamp += int(period * 1e9)
        self._change(period)
        image, array = "good", "good"
        if random.random() < BAD:
            if random.random() < 0.5:
                image = self._count(str(random.choice(BAD_IMAGES)))
            else:
                array = self._count(str(random.choice(BAD_ARRAYS)))
        yield 0.0, "camera_info", stamped(self._infos[self._size], self._stamp)
        yield 0.0, "image", stamped(self._images[self._size, image], self._stamp)
        if not self._detector:
            return
        data, delay = stamped(self._arrays[self._size, array], self._stamp), float(random.uniform(0, LATENCY))
        fate = random.random()
        if fate < 0.01:
            delay += 2.0
            self._count("late")
        elif fate < 0.02:
            yield delay + float(random.uniform(0, LATENCY)), "detections", data
            self._count("duplicated")
        yield delay, "detections", data

    def _change(self, period: float) -> None:
        """The slow faults: another camera mode, a dead detector, a jump of the clock."""
        random = self._random
        if random.random() < period / MODE_SECONDS:
            self._size = SIZES[int(random.integers(len(SIZES)))]
            self._count("camera_mode")
        if random.random() < period / (DETECTOR_UP if self._detector else DETECTOR_DOWN):
            self._detector = not self._detector
            self._count("detector_back" if self._detector else "detector_dead")
        if random.random() < period / 20:
            # Far enough ahead and back that both directions happen, never below the beginning of time.
            seconds = float(random.choice([-30.0, -2.0, -0.2, 2.0, 30.0]))
            self._stamp = max(self._stamp + int(seconds * 1e9), 10**9)
            self._count("time_back" if seconds < 0 else "time_forward")

    def _count(self, name: str) -> str:
        self.faults[name] += 1
        return name


def _image(size: tuple[int, int], kind: str) -> Any:
    message = image_message(size, "raw")
    if kind == "bad_encoding":
        message.encoding = "holo9"
    elif kind == "truncated_image":
        message.data = message.data[: len(message.data) // 2]
    elif kind == "empty_image":
        message.width, message.data = 0, message.data[:0]
    return message


def _array(size: tuple[int, int], kind: str, classes: Sequence[str]) -> Any:
    """Two detections, of which the first has the fault."""
    message = detections_message(size, 0 if kind == "empty_array" else 2, classes)
    for first in message.detections[:1]:
        if kind == "non_finite_box":
            first.bbox.center.position.x = float("nan")
        elif kind == "unknown_class":
            first.results[0].hypothesis.class_id = "spoon"
        elif kind == "no_hypothesis":
            first.results = []
        elif kind == "empty_box":
            first.bbox.size_x = 0.0
        elif kind == "outside_image":
            first.bbox.center.position.x = -1e4
    return message
