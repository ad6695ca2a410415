"""The pairing buffer and the worker's accounting under what happens in a cell: a 30 Hz camera and slow detectors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.images import ImageError
from shared_pose_ros.ros.pairing import REMEMBERED_KEYS, PairingBuffer, PairingLimits
from shared_pose_ros.ros.worker import Worker

PERIOD_MS = 33
IMAGE_BYTES = (100, 400, 1600)
"""The camera's resolution may change while it runs."""
LOOP_MS = 20_000
"""How far the stamps jump back when a bag starts again."""


@dataclass
class Boxes:
    """A detection array of one detector; `fate` is what the fake estimator does with it."""

    detector: str
    stamp: int
    fate: str = "answer"
    detections: list[int] = field(default_factory=lambda: [0, 1, 2])


class FakeFrames:
    """Stands for MessagePipeline: answers, leaves objects out, or fails as the array says."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics

    def prepare(self) -> None:
        """Nothing to warm."""

    def run(self, image: Any, boxes: Boxes, depth: Any) -> Any:
        if boxes.fate == "bad image":
            raise ImageError("bad_encoding", "holo9")
        if boxes.fate == "error":
            raise RuntimeError("broken")
        if boxes.fate == "memory":
            raise MemoryError
        left_out = boxes.fate == "unknown class"
        self.statistics.count("unknown_class", int(left_out))
        names = boxes.detections[left_out:]
        return Frame(boxes.stamp, "", image, Detections(None, None, names, names), estimate=boxes)


FRAME = st.fixed_dictionaries(
    {
        "image": st.sampled_from(["once"] * 6 + ["dropped", "twice", "swapped"]),
        "size": st.sampled_from([0] * 8 + [1, 2]),
        "frame_id": st.sampled_from(["left"] * 5 + ["right"]),
        # One entry a detector: latency in ms (above 800: later than the buffer keeps an image), how often it comes,
        # error of its stamp in ms, whether it names another frame, what the estimator makes of it.
        "arrays": st.lists(
            st.tuples(
                st.integers(0, 800) | st.just(1900),
                st.sampled_from([1, 1, 1, 1, 2]),
                st.sampled_from([0, 0, 0, 4, -4, 15]),
                st.sampled_from([False] * 7 + [True]),
                st.sampled_from(["answer"] * 5 + ["unknown class", "bad image", "error", "memory"]),
            ),
            max_size=2,
        ),
        "event": st.sampled_from([None] * 12 + ["loop", "clock", "deactivate"]),
    }
)


def schedule(frames: list[dict]) -> list[tuple[float, str, Any]]:
    """Events (ms, kind, arguments) in the order in which the node sees them."""
    events, shift = [], 60_000
    for number, frame in enumerate(frames):
        now = float(number * PERIOD_MS)
        if frame["event"] in ("loop", "clock"):
            shift -= LOOP_MS if frame["event"] == "loop" else 700
        elif frame["event"]:
            events.append((now, "deactivate", ()))
        stamp, frame_id = (shift + number * PERIOD_MS) * 1_000_000, frame["frame_id"]
        copies = {"dropped": 0, "twice": 2}.get(frame["image"], 1)
        arrival = now + (1.5 * PERIOD_MS if frame["image"] == "swapped" else 0.0)
        events += [(arrival, "image", (stamp, frame_id, number, IMAGE_BYTES[frame["size"]]))] * copies
        for detector, (latency, times, error, elsewhere, fate) in enumerate(frame["arrays"]):
            boxes = Boxes(f"detector {detector}", stamp, fate)
            array = (stamp + error * 1_000_000, "elsewhere" if elsewhere else frame_id, boxes)
            events += [(now + latency, "detections", array)] * times
    return sorted(events, key=lambda event: event[0])


class Accounting:
    """A worker without a thread, fed with a schedule; checks its accounting after each event."""

    def __init__(self, limits: PairingLimits) -> None:
        self.buffer, statistics, self.limits = PairingBuffer(limits), Statistics(), limits
        self.worker = Worker(self.buffer, statistics, lambda text: None)
        self.frames = FakeFrames(statistics)
        self.sent: Counter[str] = Counter()
        self.answers: list[Any] = []
        self.objects_taken = 0
        self.now = 0.0

    def feed(self, kind: str, arguments: tuple) -> None:
        if kind == "image":
            stamp, frame_id, payload, nbytes = arguments
            self.buffer.add_image(stamp, frame_id, payload, nbytes, self.now)
        elif kind == "detections":
            self.buffer.add_detections(*arguments, self.now)
        else:
            self.buffer.clear("deactivated")
        self.sent[kind] += 1
        self.check()

    def drain(self) -> None:
        self.worker.drain(self.frames, self.answers.append, self.now)
        self.check()

    def check(self) -> None:
        snapshot, buffer, limits = self.worker.snapshot(), self.buffer, self.limits
        lost = Counter()
        for name, number in snapshot.counters.items():
            lost[COUNTERS[name].stream] += number
        assert snapshot.received == {"images": self.sent["image"], "detections": self.sent["detections"], "depth": 0}
        assert self.sent["image"] == buffer.taken["images"] + lost["image"] + snapshot.pending["images"]
        published = snapshot.published["poses"]
        assert self.sent["detections"] == published + lost["detections"] + snapshot.pending["detections"]
        assert published == len(self.answers)
        assert 3 * buffer.taken["detections"] == snapshot.published["objects"] + lost["object"]
        # The image of the pairs that wait for the worker is kept whatever the limits say; there is one at most.
        assert len(buffer._images) <= limits.max_count + 1
        assert buffer.nbytes["images"] <= limits.max_bytes + max(IMAGE_BYTES)
        assert buffer.nbytes["images"] == sum(item.nbytes for item in buffer._images)
        assert len(buffer._waiting) <= limits.max_count and len(buffer._ready) <= limits.max_count
        assert all(len(item.arrays) <= limits.max_count + 1 for item in buffer._images)
        assert len(buffer._dropped) <= REMEMBERED_KEYS


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(FRAME, max_size=30),
    st.sampled_from([0.0, 0.005, 0.02]),
    st.integers(1, 60),
    st.sampled_from([500, 3000, 10**6]),
    st.integers(0, 200),
)
@pytest.mark.slow
def test_every_message_is_answered_pending_or_named(
    frames: list[dict], slop: float, max_count: int, max_bytes: int, busy_ms: int
) -> None:
    """The accounting balance after each event, whatever the worker's speed; in the end nothing is left."""
    accounting = Accounting(PairingLimits(1.5, max_count, max_bytes, slop, 0.5))
    free = 0.0
    for time_ms, kind, arguments in schedule(frames):
        accounting.now = time_ms / 1000
        accounting.feed(kind, arguments)
        if time_ms >= free:
            accounting.drain()
            free = time_ms + busy_ms
    for _ in range(2):
        accounting.now += 10.0
        accounting.drain()
    assert (
        accounting.buffer.pending == {"images": 0, "detections": 0, "depth": 0}
        and accounting.buffer.nbytes["images"] == 0
    )


PLAIN = st.fixed_dictionaries(
    {
        "image": st.sampled_from(["once", "once", "swapped", "dropped"]),
        "size": st.sampled_from([0, 1, 2]),
        "frame_id": st.sampled_from(["left", "right"]),
        "arrays": st.lists(
            st.tuples(st.integers(0, 1400), st.just(1), st.just(0), st.just(False), st.just("answer")), max_size=2
        ),
        "event": st.none(),
    }
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(PLAIN, max_size=30))
@pytest.mark.slow
def test_a_free_worker_answers_every_array_whose_image_came(frames: list[dict]) -> None:
    """Exact stamps, latency below image_buffer_seconds, any order: none is lost but those without an image."""
    accounting = Accounting(PairingLimits())
    events = schedule(frames)
    for time_ms, kind, arguments in events:
        accounting.now = time_ms / 1000
        accounting.feed(kind, arguments)
        accounting.drain()
    images = {arguments[:2]: arguments[2] for _, kind, arguments in events if kind == "image"}
    wanted = [arguments for _, kind, arguments in events if kind == "detections" and arguments[:2] in images]
    assert len(accounting.answers) == len(wanted)
    answered = {(answer.estimate.stamp, answer.estimate.detector): answer.image for answer in accounting.answers}
    assert answered == {(stamp, boxes.detector): images[stamp, frame] for stamp, frame, boxes in wanted}
    accounting.now += 10.0
    accounting.drain()
    named = {name: number for name, number in accounting.worker.snapshot().counters.items() if number}
    without_image = accounting.sent["detections"] - len(wanted)
    assert named.pop("unmatched_detection", 0) == without_image
    assert set(named) <= {"unmatched_image"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 800), st.integers(-9, 9)), min_size=1, max_size=30))
def test_a_slop_wider_than_the_jitter_pairs_each_array_with_its_own_image(arrays: list[tuple[int, int]]) -> None:
    """Stamps of another clock, off by less than the slop, which is below half a period."""
    accounting = Accounting(PairingLimits(slop_seconds=0.01))
    frames = [
        {
            "image": "once",
            "size": 0,
            "frame_id": "left",
            "arrays": [(latency, 1, error, False, "answer")],
            "event": None,
        }
        for latency, error in arrays
    ]
    for time_ms, kind, arguments in schedule(frames):
        accounting.now = time_ms / 1000
        accounting.feed(kind, arguments)
        accounting.drain()
    shift, period = 60_000, PERIOD_MS
    assert {answer.image: answer.estimate.stamp for answer in accounting.answers} == {
        number: (shift + number * period) * 1_000_000 for number in range(len(arrays))
    }


def test_one_image_too_large_for_the_buffer_does_not_cost_the_others() -> None:
    buffer = PairingBuffer(PairingLimits(max_bytes=1000))
    for stamp in range(5):
        buffer.add_image(stamp, "left", stamp, 100, 0.0)
    buffer.add_image(5, "left", "huge", 1001, 0.0)
    assert buffer.counters == {"image_buffer_full": 1} and buffer.pending["images"] == 5
    # With its boxes already there it is served all the same.
    buffer.add_detections(6, "left", "boxes", 0.0)
    buffer.add_image(6, "left", "huge", 1001, 0.0)
    assert buffer.take(0.0).image.payload == "huge"


def test_hours_of_lonely_images_and_a_detector_gone_wild_stay_within_the_bounds() -> None:
    """More images without detections than keys are remembered, and more arrays on one image than may wait."""
    accounting = Accounting(PairingLimits(max_count=8))
    for number in range(REMEMBERED_KEYS + 200):
        accounting.now += 0.5
        accounting.feed("image", (number, "left", number, 100))
    for number in range(40):
        accounting.feed("detections", (REMEMBERED_KEYS + 199, "left", Boxes("wild", number)))
    accounting.drain()
    assert len(accounting.answers) == 8 and accounting.buffer.counters["superseded"] == 32
    assert len(accounting.buffer._dropped) == REMEMBERED_KEYS
