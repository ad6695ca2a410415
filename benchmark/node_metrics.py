"""Figures out of time stamps: the fields of ros2_benchmark's result files, fits, and the search for the highest rate.

No ROS here. Times are seconds, what is reported milliseconds, as ros2_benchmark does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Fit:
    """A straight line fitted to points: ``value = intercept + slope * x``; `slope_error` is one standard error."""

    slope: float
    intercept: float
    slope_error: float


def performance(sent: Mapping[Any, float], received: Mapping[Any, float]) -> dict[str, float]:
    """BasicPerformanceMetrics of one run, as ros2_benchmark's BasicPerformanceCalculator defines them.

    Rates are messages over the time between the first and the last, jitter is the absolute second difference of the
    arrivals. Metrics that need more frames than there are stay out. Percentiles of the latency are our addition.

    Args:
        sent: when each frame went out, by key, in order of sending.
        received: when the answer came, by key, in order of arrival; only keys of `sent`.
    """
    out, back = np.array(list(sent.values())), np.array(list(received.values()))
    found = {"NUM_FRAMES_SENT": len(out), "NUM_MISSED_FRAMES": len(out) - len(back)}
    if len(out) > 1:
        found["MEAN_PLAYBACK_FRAME_RATE"] = len(out) / (out[-1] - out[0])
    if len(back) > 1:
        found["RECEIVED_DURATION"] = 1e3 * (back[-1] - back[0])
        found["MEAN_FRAME_RATE"] = len(back) / (back[-1] - back[0])
    if len(back):
        found["FIRST_SENT_RECEIVED_LATENCY"] = 1e3 * (back[0] - out[0])
        found["LAST_SENT_RECEIVED_LATENCY"] = 1e3 * (back[-1] - out[-1])
        latencies = 1e3 * np.array([received[key] - when for key, when in sent.items() if key in received])
        found["FIRST_INPUT_LATENCY"], found["LAST_INPUT_LATENCY"] = latencies[0], latencies[-1]
        found |= {f"{name}_LATENCY": call(latencies) for name, call in _SUMMARIES.items()}
        found |= {f"P{percent}_LATENCY": np.percentile(latencies, percent) for percent in PERCENTILES}
    if len(back) > 2:
        jitter = np.abs(np.diff(1e3 * back, 2))
        found |= {f"{name}_JITTER": call(jitter) for name, call in _SUMMARIES.items()}
        found["STD_DEV_JITTER"] = jitter.std()
    return {f"BasicPerformanceMetrics.{name}": rounded(value) for name, value in found.items()}


_SUMMARIES = {"MAX": np.max, "MIN": np.min, "MEAN": np.mean}


def rounded(value: float) -> float:
    """Four significant digits, integers as they are: more is noise."""
    if isinstance(value, (int, np.integer)) or not math.isfinite(value) or value == 0:
        return int(value) if isinstance(value, (int, np.integer)) else float(value)
    return float(f"{value:.4g}") if abs(value) < 1000 else round(float(value), 1)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """{"p50_ms": …, "p90_ms": …, "p99_ms": …} of durations in seconds; empty without any."""
    return {f"p{p}_ms": rounded(1e3 * np.percentile(seconds, p)) for p in PERCENTILES} if len(seconds) else {}


def line_fit(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Least squares through at least three points; ValueError for fewer, or for all at one x."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) < 3 or np.ptp(x) == 0:
        raise ValueError(f"{len(x)} points at {len(set(x.tolist()))} places: a line and its error need 3 at 2 places")
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    return Fit(slope, intercept, math.sqrt(variance / float(centred @ centred)))


def highest_passing(ladder: Sequence[float], passes: Callable[[float], bool]) -> Optional[float]:
    """The highest rung that passes, by bisection; None if the first fails. What passes above a failure is not found."""
    low, high = -1, len(ladder)
    while high - low > 1:
        middle = (low + high) // 2
        if passes(ladder[middle]):
            low = middle
        else:
            high = middle
    return ladder[low] if low >= 0 else None
