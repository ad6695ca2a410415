"""Which detections belong to which image: a buffer keyed by stamp and frame that loses nothing without a name.

Pure Python, no ROS: stamps are integer nanoseconds of the message header, `now` is seconds of any clock that never goes
back (the node uses the steady clock, so ages hold under simulated time and bag replay too), payloads are opaque.

Every image and every detection array that enters leaves exactly once: an image as used or under one counter, a
detection array as part of a taken `Pair` or under one counter. At any moment, for each of the two streams,

    received = taken (used) + sum of its counters + pending.

Rules
- Exact match of stamp and frame_id; with a slop, the nearest buffered stamp within it (exact first).
- One pair waits at a time: the newest. A pair with a newer stamp supersedes it; arrays for the same image wait
  together, so that two detectors on one camera are both served.
- The limits of count and bytes hold beside the one image whose pairs wait; an image larger than max_bytes is dropped
  at once if no array waits for it.
- An image stays buffered after its use until it is too old or the buffer is full: a second, slower detector may still
  need it.
- When image stamps jump back by more than `time_jump_seconds` (a bag loop, a clock set back), all that waits from the
  old time line is dropped; what already carries the new time is kept.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Optional

Key = tuple[int, str]
RECENT_ARRAYS = 64
REMEMBERED_KEYS = 1024
"""How many keys of dropped images are remembered, to tell a late detection from one that never had an image."""


@dataclass(frozen=True)
class PairingLimits:
    """Bounds of the buffer: ages and slop in s, `max_bytes` for the images' payloads, `max_count` for each stream."""

    max_age_seconds: float = 1.5
    max_count: int = 120
    max_bytes: int = 256 * 1024 * 1024
    slop_seconds: float = 0.0
    time_jump_seconds: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError for a bound that would make the buffer useless."""
        for name in ("max_age_seconds", "max_count", "max_bytes", "time_jump_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be greater than 0")
        if not 0 <= self.slop_seconds < self.max_age_seconds:
            raise ValueError(
                f"slop_seconds is {self.slop_seconds}: give 0 (exact) up to max_age_seconds ({self.max_age_seconds})"
            )


def limits_from(settings: Any) -> PairingLimits:
    """The bounds that the node's parameters (parameters.TABLE) ask for."""
    return PairingLimits(
        max_age_seconds=settings.image_buffer_seconds,
        max_count=settings.image_buffer_count,
        max_bytes=settings.image_buffer_mib * 2**20,
        slop_seconds=settings.pairing_slop_seconds,
        time_jump_seconds=settings.time_jump_seconds,
    )


@dataclass(eq=False)
class Item:
    """One received message: header stamp in ns, frame, payload, its size, and when it arrived (s)."""

    stamp: int
    frame_id: str
    payload: Any
    arrival: float
    nbytes: int = 0
    settled: bool = False
    """For images: already counted, as used or under a counter."""
    arrays: list[Any] = field(default_factory=list)
    """For images: the detection payloads matched so far, to recognise repeated ones."""

    @property
    def key(self) -> Key:
        """(stamp in ns, frame_id)."""
        return (self.stamp, self.frame_id)


@dataclass(frozen=True)
class Pair:
    """An image and one detection array made on it; `completed` is when the second of the two arrived (s)."""

    image: Item
    detections: Item
    completed: float


class PairingBuffer:
    """Pairs images and detection arrays; see the module's rules. Not thread-safe: the caller holds one lock."""

    def __init__(self, limits: Optional[PairingLimits] = None) -> None:
        """An empty buffer with the given bounds."""
        self.limits = limits or PairingLimits()
        self.counters: Counter[str] = Counter()
        self.received = {"images": 0, "detections": 0}
        self.taken = {"images": 0, "detections": 0}
        self.lateness = 0.0
        """Greatest delay (s) of a detection array behind its image seen so far, matched or too late."""
        self._latest_delays: deque[float] = deque([0.0], maxlen=RECENT_ARRAYS)
        self.last_pair: Optional[float] = None
        """When (s) the latest complete pair came about."""
        self._images: OrderedDict[Key, Item] = OrderedDict()
        self._waiting: list[Item] = []
        self._ready: list[Pair] = []
        self._dropped: OrderedDict[Key, float] = OrderedDict()
        self._image_bytes = 0
        self._newest_image: Optional[int] = None

    @property
    def image_bytes(self) -> int:
        """Bytes of the buffered images' payloads."""
        return self._image_bytes

    @property
    def recent_lateness(self) -> float:
        """Greatest delay (s) among the latest `RECENT_ARRAYS` arrays whose image is known."""
        return max(0.0, max(self._latest_delays))

    @property
    def pending(self) -> dict[str, int]:
        """How many messages of each stream are neither taken nor counted yet."""
        images = sum(not item.settled for item in self._images.values())
        return {"images": images, "detections": len(self._waiting) + len(self._ready)}

    def add_image(self, stamp: int, frame_id: str, payload: Any, nbytes: int, now: float) -> None:
        """Store an image (stamp in ns, payload of nbytes); pairs it with the arrays that wait for it."""
        self.received["images"] += 1
        self._notice_time_jump(stamp)
        item = Item(stamp, frame_id, payload, now, nbytes)
        if item.key in self._images:
            self.counters["duplicate_image"] += 1
            return
        self._images[item.key] = item
        self._image_bytes += nbytes
        matched = [array for array in self._waiting if self._distance(array, item) is not None]
        self._waiting = [array for array in self._waiting if array not in matched]
        for array in matched:
            self._match(item, array, now)
        self.expire(now)

    def add_detections(self, stamp: int, frame_id: str, payload: Any, now: float) -> None:
        """Store a detection array (stamp in ns) or pair it at once with its image."""
        self.received["detections"] += 1
        array = Item(stamp, frame_id, payload, now)
        image = self._find_image(array)
        if image is not None:
            self._match(image, array, now)
        elif any(other.key == array.key and other.payload == payload for other in self._waiting):
            self.counters["duplicate_detection"] += 1
        else:
            arrival = self._arrival_of_dropped(array)
            if arrival is not None:
                self._note_lateness(now - arrival)
            self._waiting.append(array)
        self.expire(now)

    def take(self, now: float) -> Optional[Pair]:
        """The newest complete pair, or None. Its array counts as taken, its image as used."""
        self.expire(now)
        if not self._ready:
            return None
        pair = self._ready.pop(0)
        self.taken["detections"] += 1
        if not pair.image.settled:
            pair.image.settled = True
            self.taken["images"] += 1
        return pair

    def expire(self, now: float) -> None:
        """Drop what is too old or too much, each under its counter. Call it now and then when nothing arrives."""
        oldest = now - self.limits.max_age_seconds
        for array in [array for array in self._waiting if array.arrival < oldest]:
            self._waiting.remove(array)
            self.counters[self._why_unmatched(array)] += 1
        while len(self._waiting) > self.limits.max_count:
            self._waiting.pop(0)
            self.counters["detection_buffer_full"] += 1
        # All waiting pairs are of one image. It is kept beside the limits, so that it costs no other image.
        protected = self._ready[0].image if self._ready else None
        max_bytes = self.limits.max_bytes + (protected.nbytes if protected else 0)
        max_count = self.limits.max_count + (protected is not None)
        for item in [item for item in self._images.values() if item is not protected]:
            if item.arrival < oldest:
                self._drop_image(item, "unmatched_image")
            elif item.nbytes > self.limits.max_bytes:
                self._drop_image(item, "image_buffer_full")
        for item in [item for item in self._images.values() if item is not protected]:
            if len(self._images) <= max_count and self._image_bytes <= max_bytes:
                break
            self._drop_image(item, "image_buffer_full")

    def clear(self, reason: str) -> None:
        """Drop everything that waits, counted under `<reason>_image` and `<reason>_detection`."""
        pending = self.pending
        self.counters[f"{reason}_image"] += pending["images"]
        self.counters[f"{reason}_detection"] += pending["detections"]
        self._images.clear()
        self._waiting.clear()
        self._ready.clear()
        self._dropped.clear()
        self._image_bytes = 0
        self._newest_image = None

    def _distance(self, array: Item, image: Item) -> Optional[int]:
        """|stamp difference| in ns if the two may be paired, else None."""
        difference = abs(array.stamp - image.stamp)
        if array.frame_id != image.frame_id or difference > self.limits.slop_seconds * 1e9:
            return None
        return difference

    def _find_image(self, array: Item) -> Optional[Item]:
        """The buffered image of the array's frame with the nearest stamp within the slop."""
        exact = self._images.get(array.key)
        if exact is not None or self.limits.slop_seconds == 0:
            return exact
        near = [
            (distance, item) for item in self._images.values() if (distance := self._distance(array, item)) is not None
        ]
        return min(near, key=lambda entry: entry[0])[1] if near else None

    def _match(self, image: Item, array: Item, now: float) -> None:
        """A complete pair: it waits to be taken unless it repeats a known array or a newer pair waits."""
        if array.payload in image.arrays:
            self.counters["duplicate_detection"] += 1
            return
        image.arrays = [*image.arrays[-self.limits.max_count :], array.payload]
        self._note_lateness(array.arrival - image.arrival)
        self.last_pair = now
        pair = Pair(image, array, now)
        waiting = self._ready[0].image if self._ready else None
        if waiting is None or waiting is image:
            self._ready.append(pair)
            if len(self._ready) > self.limits.max_count:
                self._supersede(self._ready.pop(0))
        elif waiting.stamp < image.stamp:
            superseded, self._ready = self._ready, [pair]
            for old in superseded:
                self._supersede(old)
        else:
            self._supersede(pair)

    def _note_lateness(self, seconds: float) -> None:
        self._latest_delays.append(seconds)
        self.lateness = max(self.lateness, seconds)

    def _supersede(self, pair: Pair) -> None:
        self.counters["superseded"] += 1
        if not pair.image.settled:
            pair.image.settled = True
            self.counters["superseded_image"] += 1

    def _drop_image(self, item: Item, counter: str) -> None:
        del self._images[item.key]
        self._image_bytes -= item.nbytes
        self._dropped[item.key] = item.arrival
        self._dropped.move_to_end(item.key)
        while len(self._dropped) > REMEMBERED_KEYS:
            self._dropped.popitem(last=False)
        if not item.settled:
            self.counters[counter] += 1

    def _why_unmatched(self, array: Item) -> str:
        """The counter of an array that waited in vain."""
        if self._arrival_of_dropped(array) is not None:
            return "late_detection"
        slop = self.limits.slop_seconds * 1e9
        keys = list(self._images) + list(self._dropped)
        if any(abs(stamp - array.stamp) <= slop and frame != array.frame_id for stamp, frame in keys):
            return "frame_id_mismatch"
        return "unmatched_detection"

    def _arrival_of_dropped(self, array: Item) -> Optional[float]:
        """When (s) the array's image came, if that was dropped meanwhile."""
        if array.key in self._dropped or self.limits.slop_seconds == 0:
            return self._dropped.get(array.key)
        near = [
            (abs(stamp - array.stamp), arrival)
            for (stamp, frame_id), arrival in self._dropped.items()
            if frame_id == array.frame_id
        ]
        distance, arrival = min(near, default=(math.inf, None))
        return arrival if distance <= self.limits.slop_seconds * 1e9 else None

    def _notice_time_jump(self, stamp: int) -> None:
        """Drop the old time line when an image's stamp lies far before the newest one's."""
        newest, jump = self._newest_image, int(self.limits.time_jump_seconds * 1e9)
        if newest is None or stamp >= newest - jump:
            self._newest_image = stamp if newest is None else max(newest, stamp)
            return
        self._newest_image = stamp
        self.counters["time_jumps"] += 1
        old = stamp + jump
        self.counters["time_jump_detection"] += sum(pair.image.stamp > old for pair in self._ready)
        self._ready = [pair for pair in self._ready if pair.image.stamp <= old]
        self.counters["time_jump_detection"] += sum(array.stamp > old for array in self._waiting)
        self._waiting = [array for array in self._waiting if array.stamp <= old]
        for item in [item for item in self._images.values() if item.stamp > old]:
            self._drop_image(item, "time_jump_image")
        self._dropped.clear()
