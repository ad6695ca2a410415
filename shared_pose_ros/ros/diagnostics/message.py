"""What the node says about its counters and latencies, once a second.

Both are kept in statistics.py; what each counter means is in counters.py. Times are seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from shared_pose_ros.ros.diagnostics.counters import COUNTERS


class CounterLog:
    """Says in the log what was counted: each counter when it first grows, then at most once per `period` seconds."""

    def __init__(self, period: float = 5.0) -> None:
        """`period`: least time in seconds between two lines on one counter."""
        self.period = period
        self._said: Counter[str] = Counter()
        self._when: dict[str, float] = {}

    def lines(self, counters: Mapping[str, int], reasons: Mapping[str, str], now: float) -> list[tuple[bool, str]]:
        """The (is a warning, text) lines to log now (s): growth, total, meaning, latest reason and remedy."""
        due = []
        for name, info in COUNTERS.items():
            total = counters.get(name, 0)
            growth = total - self._said[name]
            if growth <= 0 or now - self._when.get(name, -np.inf) < self.period:
                continue
            self._said[name], self._when[name] = total, now
            text = f"{name} +{growth} (total {total}): {reasons.get(name) or info.meaning}"
            due.append((not info.normal, f"{text}; {info.remedy}" if info.remedy else text))
        return due


def status_message(
    name: str,
    hardware_id: str,
    problem: str,
    hints: Sequence[str],
    counters: Mapping[str, int],
    before: Mapping[str, int],
    values: Mapping[str, object],
    reasons: Mapping[str, str] | None = None,
) -> DiagnosticStatus:
    """One DiagnosticStatus with `values` first, then each counter of `COUNTERS` as `counter/<name>`, also when zero.

    Its level is ERROR with `problem` as message if there is one; WARN if there are `hints` or a counter that is not
    normal grew since `before`, with those, their latest `reasons` and what to do about them as message; else OK.
    """
    grown = [key for key, info in COUNTERS.items() if not info.normal and counters.get(key, 0) > before.get(key, 0)]
    for key in grown:
        told = [(reasons or {}).get(key, ""), COUNTERS[key].remedy or COUNTERS[key].meaning]
        hints = [*hints, f"{key}: {'; '.join(text for text in told if text)}"]
    status = DiagnosticStatus(level=DiagnosticStatus.OK, name=name, message="OK", hardware_id=hardware_id)
    if problem:
        status.level, status.message = DiagnosticStatus.ERROR, problem
    elif hints:
        status.level, status.message = DiagnosticStatus.WARN, "; ".join(hints)
    listed = {**values, **{f"counter/{key}": counters.get(key, 0) for key in COUNTERS}}
    status.values = [KeyValue(key=key, value=_text(value)) for key, value in listed.items()]
    return status


def diagnostic_array(status: DiagnosticStatus, stamp: object | None = None) -> DiagnosticArray:
    """The status alone in an array, with a builtin_interfaces/Time stamp."""
    array = DiagnosticArray(status=[status])
    if stamp is not None:
        array.header.stamp = stamp
    return array


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
