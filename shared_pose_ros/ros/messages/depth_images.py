"""Depth image messages to metres (REP 118), and the buffer in which they wait for the pair of their stamp.

Convention: the result is float32, (H, W), metres along the optical axis, 0 where nothing was measured. Messages are
read by their fields only. Stamps are integer nanoseconds, `now` is seconds of a clock that never goes back.

Every depth image that enters the buffer leaves exactly once: received = used + its counters + pending.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from shared_pose_ros.ros.messages.images import ImageError, pixel_view
from shared_pose_ros.ros.pairing import Item, Key, PairingLimits

UNUSABLE = "unusable_depth"
# Type, byte order left open, and metres a unit.
_ENCODINGS = {"16uc1": ("u2", 1e-3), "mono16": ("u2", 1e-3), "32fc1": ("f4", 1.0)}


def depth_from_image(message: Any) -> np.ndarray:
    """Depth (H, W) float32 in metres of a sensor_msgs/Image; 0 for 0, negative, NaN and infinite pixels.

    16UC1 (and mono16, as some drivers call it) holds millimetres, 32FC1 metres, in either byte order, rows padded or
    not.

    Raises:
        ImageError: no pixels, data shorter than the size says, or another encoding (all unusable_depth).
    """
    size = f"{message.width}x{message.height}"
    if message.width == 0 or message.height == 0:
        raise ImageError(UNUSABLE, f"depth image of {size} pixels: nothing to look at")
    if message.encoding.lower() not in _ENCODINGS:
        raise ImageError(
            UNUSABLE, f"depth encoding '{message.encoding}' ({size}) cannot be read; publish 16UC1 (mm) or 32FC1 (m)"
        )
    kind, unit = _ENCODINGS[message.encoding.lower()]
    try:
        pixels = pixel_view(message, 1, f"{'>' if message.is_bigendian else '<'}{kind}")
    except ImageError as error:
        raise ImageError(UNUSABLE, f"depth image: {error}") from error
    # In double: 0.001 is no float, and a signalling NaN of a sensor must not warn.
    with np.errstate(invalid="ignore", over="ignore"):
        depth = (pixels * np.float64(unit)).astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0.0))


class DepthBuffer:
    """Keeps depth images by stamp and frame_id until a pair asks for them. Not thread-safe: the caller holds one lock.

    Nothing waits for a depth image. One stays after its use until it is too old, for a second detector's pair.
    """

    def __init__(self, limits: Callable[[], PairingLimits]) -> None:
        """An empty buffer; `limits()` gives the bounds, those of the images, which hold for depth once more."""
        self.counters: Counter[str] = Counter()
        self.received, self.used = 0, 0
        self._limits = limits
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._bytes = 0
        self._newest: Optional[int] = None

    @property
    def pending(self) -> int:
        """How many are neither used nor counted yet."""
        return sum(not item.settled for item in self._items.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return self._bytes

    def add(self, stamp: int, frame_id: str, payload: Any, nbytes: int, now: float) -> None:
        """Store a depth image (stamp in ns, payload of nbytes)."""
        self.received += 1
        self._notice_time_jump(stamp)
        item = Item(stamp, frame_id, payload, now, nbytes)
        if item.key in self._items:
            self.counters["duplicate_depth"] += 1
            return
        self._items[item.key] = item
        self._bytes += nbytes
        self.expire(now)

    def find(self, stamp: int, frame_id: str) -> Any:
        """The payload of the frame with the nearest stamp within the slop, now used; None if there is none."""
        slop = self._limits().slop_seconds * 1e9
        near = [
            (abs(item.stamp - stamp), item)
            for item in self._items.values()
            if item.frame_id == frame_id and abs(item.stamp - stamp) <= slop
        ]
        if not near:
            return None
        item = min(near, key=lambda entry: entry[0])[1]
        self.used += not item.settled
        item.settled = True
        return item.payload

    def expire(self, now: float) -> None:
        """Drop what is too old or too much, each under its counter."""
        limits = self._limits()
        for item in list(self._items.values()):
            if item.arrival < now - limits.max_age_seconds:
                self._drop(item, "unmatched_depth")
            elif len(self._items) > limits.max_count or self._bytes > limits.max_bytes:
                self._drop(item, "depth_buffer_full")
            else:
                break

    def clear(self, reason: str) -> None:
        """Drop everything, what was not used under `<reason>_depth`."""
        self.counters[f"{reason}_depth"] += self.pending
        self._items.clear()
        self._bytes, self._newest = 0, None

    def _drop(self, item: Item, counter: str) -> None:
        del self._items[item.key]
        self._bytes -= item.nbytes
        self.counters[counter] += not item.settled

    def _notice_time_jump(self, stamp: int) -> None:
        """Drop the old time line, as the images' buffer does."""
        jump = int(self._limits().time_jump_seconds * 1e9)
        if self._newest is None or stamp >= self._newest - jump:
            self._newest = stamp if self._newest is None else max(self._newest, stamp)
            return
        self._newest = stamp
        for item in [item for item in self._items.values() if item.stamp > stamp + jump]:
            self._drop(item, "time_jump_depth")
