"""Counters and latencies of the node, for diagnostics and the log. No ROS. Times are seconds.

What each counter means is in counters.py.
"""

from __future__ import annotations

import threading
from collections import Counter, deque

import numpy as np

STAGES = ("wait", "decode", "estimate", "publish", "total")
"""What latencies are kept of: the pair waiting for the worker, pixels and boxes out of messages, crop and network,
building and publishing the poses, and the whole from the complete pair to the published poses."""
WINDOW = 512
"""Latencies are taken over this many latest frames."""


class Statistics:
    """Counters, latest reasons and latency windows; may be used from several threads."""

    def __init__(self) -> None:
        """Everything at zero."""
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._latencies: dict[str, deque[float]] = {stage: deque(maxlen=WINDOW) for stage in STAGES}
        self._batches: deque[int] = deque(maxlen=WINDOW)

    def count(self, name: str, number: int = 1, reason: str = "") -> None:
        """Add to a counter of `COUNTERS` or to a tally of received and published; `reason` is kept for the log."""
        with self._lock:
            self._counters[name] += number
            if reason:
                self._reasons[name] = reason

    def latency(self, stage: str, seconds: float) -> None:
        """Add one latency of a stage of `STAGES` (KeyError for others)."""
        with self._lock:
            self._latencies[stage].append(seconds)

    def batch(self, size: int) -> None:
        """Note that the network was run on so many objects."""
        with self._lock:
            self._batches.append(size)

    def batches(self) -> tuple[int | None, float | None, int | None]:
        """(latest, mean, greatest) batch size over the latest `WINDOW` runs; None before the first."""
        with self._lock:
            sizes = list(self._batches)
        return (sizes[-1], sum(sizes) / len(sizes), max(sizes)) if sizes else (None, None, None)

    def snapshot(self) -> tuple[Counter[str], dict[str, str]]:
        """Copies of (counters, latest reason by counter)."""
        with self._lock:
            return self._counters.copy(), dict(self._reasons)

    def percentiles(self) -> dict[str, float]:
        """{'wait_p50_s': seconds, 'wait_p99_s': ..., ...} over the latest frames; stages without any are left out."""
        with self._lock:
            windows = {stage: np.array(window) for stage, window in self._latencies.items() if window}
        return {
            f"{stage}_p{percent}_s": float(np.percentile(window, percent))
            for stage, window in windows.items()
            for percent in (50, 99)
        }
