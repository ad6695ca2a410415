"""Which detections and which depth image belong to which image: a buffer that loses nothing without a name.

Pure Python, no ROS: stamps are integer nanoseconds of the message header, `now` is seconds of any clock that never goes
back (the node uses the steady clock, so ages hold under simulated time and bag replay too), payloads are opaque.

Every message that enters leaves exactly once: an image or a depth image as used or under one counter, a detection array
as part of a taken `Pair` or under one counter. At any moment, for each of the three streams,

    received = taken (used) + sum of its counters + pending.

Rules
- Exact match of stamp and frame_id; with a slop, the nearest buffered stamp within it (exact first).
- One pair waits at a time: the newest. A pair with a newer stamp supersedes it; arrays for the same image wait
  together, so that two detectors on one camera are both served.
- The limits of count and bytes hold for each stream, and beside the one image whose pairs wait; an image larger than
  max_bytes is dropped at once if no array waits for it.
- An image or depth image stays buffered after its use until it is too old or the buffer is full: a second, slower
  detector may still need it. Nothing waits for a depth image.
- When image stamps jump back by more than `time_jump_seconds` (a bag loop, a clock set back), all that waits from the
  old time line is dropped; what already carries the new time is kept.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shared_pose_ros.pipeline.frame import Key
from shared_pose_ros.pipeline.parameters import NodeParameters

RECENT_ARRAYS = 64
REMEMBERED_KEYS = 1024
"""How many keys of dropped images are remembered, to tell a late detection from one that never had an image."""


@dataclass(frozen=True)
class PairingLimits:
    """Bounds of the buffer: ages and slop in s, `max_bytes` of the payloads and `max_count` for each stream."""

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

    @classmethod
    def of(cls, parameters: NodeParameters) -> PairingLimits:
        """The bounds that the node's parameters ask for."""
        return cls(
            max_age_seconds=parameters.image_buffer_seconds,
            max_count=parameters.image_buffer_count,
            max_bytes=parameters.image_buffer_mib * 2**20,
            slop_seconds=parameters.pairing_slop_seconds,
            time_jump_seconds=parameters.time_jump_seconds,
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
    """Already counted, as used or under a counter."""
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


class StampedBuffer:
    """The waiting messages of one stream in order of arrival; what is dropped goes under `<reason>_<kind>`.

    Args:
        kind: "image", "detection" or "depth", the end of its counters' names.
        counters: where drops are counted.
        dropped: told of each drop.
    """

    def __init__(self, kind: str, counters: Counter[str], dropped: Callable[[Item], None] = lambda item: None) -> None:
        self.received, self.nbytes = 0, 0
        self._kind, self._counters, self._dropped = kind, counters, dropped
        self._items: dict[int, Item] = {}  # by id(), for their order and quick removal

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    @property
    def pending(self) -> int:
        """How many are neither used nor counted yet."""
        return sum(not item.settled for item in self._items.values())

    def add(self, item: Item) -> None:
        """Keep a message."""
        self._items[id(item)] = item
        self.nbytes += item.nbytes

    def remove(self, item: Item) -> None:
        """Forget a message that was matched."""
        del self._items[id(item)]
        self.nbytes -= item.nbytes

    def drop(self, item: Item, counter: str) -> None:
        """Forget a message, under a counter unless it was used."""
        self.remove(item)
        self._dropped(item)
        self._counters[counter] += not item.settled

    def find(self, stamp: int, frame_id: str, slop_seconds: float) -> Item | None:
        """The message of the frame with the nearest stamp (ns) within the slop; the earlier of two as near."""
        slop = slop_seconds * 1e9
        near = (
            (abs(item.stamp - stamp), item)
            for item in self._items.values()
            if item.frame_id == frame_id and abs(item.stamp - stamp) <= slop
        )
        return min(near, key=lambda entry: entry[0], default=(0, None))[1]

    def expire(
        self,
        now: float,
        limits: PairingLimits,
        protected: Item | None = None,
        too_old: Callable[[Item], str] | None = None,
    ) -> None:
        """Drop what is too old or too much.

        Args:
            now: seconds.
            limits: the bounds.
            protected: is kept beside them, so that it costs no other message.
            too_old: the counter of a message that waited in vain, if not `unmatched_<kind>`.
        """
        full = f"{self._kind}_buffer_full"
        for item in self:
            if item is protected:
                continue
            if item.arrival < now - limits.max_age_seconds:
                self.drop(item, too_old(item) if too_old else f"unmatched_{self._kind}")
            elif item.nbytes > limits.max_bytes:
                self.drop(item, full)
        max_bytes = limits.max_bytes + (protected.nbytes if protected else 0)
        max_count = limits.max_count + (protected is not None)
        for item in self:
            if len(self._items) <= max_count and self.nbytes <= max_bytes:
                break
            if item is not protected:
                self.drop(item, full)

    def drop_newer(self, stamp: int) -> None:
        """Drop the messages of an old time line, whose stamps (ns) lie above this one."""
        for item in self:
            if item.stamp > stamp:
                self.drop(item, f"time_jump_{self._kind}")

    def clear(self, reason: str) -> None:
        """Forget everything, what was not used under `<reason>_<kind>`."""
        self._counters[f"{reason}_{self._kind}"] += self.pending
        self._items.clear()
        self.nbytes = 0


class PairingBuffer:
    """Pairs images and detection arrays; see the module's rules. Not thread-safe: the caller holds one lock."""

    def __init__(self, limits: PairingLimits | None = None) -> None:
        """An empty buffer with the given bounds."""
        self.limits = limits or PairingLimits()
        self.counters: Counter[str] = Counter()
        self.taken = {"images": 0, "detections": 0, "depth": 0}
        self.lateness = 0.0
        """Greatest delay (s) of a detection array behind its image seen so far, matched or too late."""
        self._latest_delays: deque[float] = deque([0.0], maxlen=RECENT_ARRAYS)
        self.last_pair: float | None = None
        """When (s) the latest complete pair came about."""
        self._images = StampedBuffer("image", self.counters, self._remember_dropped)
        self._waiting = StampedBuffer("detection", self.counters)
        self._depth = StampedBuffer("depth", self.counters)
        self._ready: list[Pair] = []
        self._dropped: OrderedDict[Key, float] = OrderedDict()
        self._newest_image: int | None = None

    @property
    def received(self) -> dict[str, int]:
        """How many messages of each stream have come."""
        return {
            "images": self._images.received,
            "detections": self._waiting.received,
            "depth": self._depth.received,
        }

    @property
    def pending(self) -> dict[str, int]:
        """How many messages of each stream are neither taken nor counted yet."""
        return {
            "images": self._images.pending,
            "detections": len(self._waiting) + len(self._ready),
            "depth": self._depth.pending,
        }

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes of the buffered payloads."""
        return {"images": self._images.nbytes, "depth": self._depth.nbytes}

    @property
    def recent_lateness(self) -> float:
        """Greatest delay (s) among the latest `RECENT_ARRAYS` arrays whose image is known."""
        return max(0.0, max(self._latest_delays))

    def add_image(self, stamp: int, frame_id: str, payload: Any, nbytes: int, now: float) -> None:
        """Store an image (stamp in ns, payload of nbytes); pairs it with the arrays that wait for it."""
        self._images.received += 1
        self._notice_time_jump(stamp)
        item = Item(stamp, frame_id, payload, now, nbytes)
        if self._images.find(stamp, frame_id, 0.0) is not None:
            self.counters["duplicate_image"] += 1
            return
        self._images.add(item)
        for array in self._waiting:
            if self._distance(array, item) is not None:
                self._waiting.remove(array)
                self._match(item, array, now)
        self.expire(now)

    def add_detections(self, stamp: int, frame_id: str, payload: Any, now: float) -> None:
        """Store a detection array (stamp in ns) or pair it at once with its image."""
        self._waiting.received += 1
        array = Item(stamp, frame_id, payload, now)
        image = self._images.find(stamp, frame_id, self.limits.slop_seconds)
        if image is not None:
            self._match(image, array, now)
        elif any(other.key == array.key and other.payload == payload for other in self._waiting):
            self.counters["duplicate_detection"] += 1
        else:
            arrival = self._arrival_of_dropped(array)
            if arrival is not None:
                self._note_lateness(now - arrival)
            self._waiting.add(array)
        self.expire(now)

    def add_depth(self, stamp: int, frame_id: str, payload: Any, nbytes: int, now: float) -> None:
        """Store a depth image (stamp in ns, payload of nbytes)."""
        self._depth.received += 1
        if self._depth.find(stamp, frame_id, 0.0) is not None:
            self.counters["duplicate_depth"] += 1
            return
        self._depth.add(Item(stamp, frame_id, payload, now, nbytes))
        self._depth.expire(now, self.limits)

    def depth_of(self, image: Item) -> Any:
        """The payload of the depth image that belongs to an image, now used; None if there is none."""
        item = self._depth.find(image.stamp, image.frame_id, self.limits.slop_seconds)
        if item is None:
            return None
        self.taken["depth"] += not item.settled
        item.settled = True
        return item.payload

    def take(self, now: float) -> Pair | None:
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
        self._waiting.expire(now, self.limits, too_old=self._why_unmatched)
        # All waiting pairs are of one image.
        self._images.expire(now, self.limits, protected=self._ready[0].image if self._ready else None)
        self._depth.expire(now, self.limits)

    def clear(self, reason: str) -> None:
        """Drop everything, under `<reason>_image`, `<reason>_detection` and `<reason>_depth`."""
        self.counters[f"{reason}_detection"] += len(self._ready)
        for stream in (self._images, self._waiting, self._depth):
            stream.clear(reason)
        self._ready.clear()
        self._dropped.clear()
        self._newest_image = None

    def _distance(self, array: Item, image: Item) -> int | None:
        """|stamp difference| in ns if the two may be paired, else None."""
        difference = abs(array.stamp - image.stamp)
        if array.frame_id != image.frame_id or difference > self.limits.slop_seconds * 1e9:
            return None
        return difference

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

    def _remember_dropped(self, item: Item) -> None:
        self._dropped[item.key] = item.arrival
        self._dropped.move_to_end(item.key)
        while len(self._dropped) > REMEMBERED_KEYS:
            self._dropped.popitem(last=False)

    def _why_unmatched(self, array: Item) -> str:
        """The counter of an array that waited in vain."""
        if self._arrival_of_dropped(array) is not None:
            return "late_detection"
        slop = self.limits.slop_seconds * 1e9
        keys = [*(item.key for item in self._images), *self._dropped]
        if any(abs(stamp - array.stamp) <= slop and frame != array.frame_id for stamp, frame in keys):
            return "frame_id_mismatch"
        return "unmatched_detection"

    def _arrival_of_dropped(self, array: Item) -> float | None:
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
        for stream in (self._images, self._waiting, self._depth):
            stream.drop_newer(old)
        self._dropped.clear()
