"""What a soak run must show: the books balance, memory does not grow, the log has no error. Pure functions, no ROS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from node_metrics import Fit, line_fit

from shared_pose_ros.ros.diagnostics.counters import COUNTERS

MEMORY_SLOPE = 1.0
"""Most MiB a minute that the resident memory may grow after warming up."""
MEMORY_STEP = 8.0
"""Growth of so many MiB in all is no leak: buffers find their size once, which a run of two minutes sees as a slope."""
MEMORY_LIMIT = 1024.0
"""Most resident MiB at any time."""
WARM_UP = 1 / 3
"""The part of a run in which memory is not looked at: buffers fill, allocators find their size."""
LEAST_HEARD = 0.5
"""Of what was sent to an active node at least this part must have arrived, or the run was none."""
NEVER = ("estimator_error", "publish_error", "drawing_error", "undecodable_image", "non_finite_pose")
"""Counters of the node's own errors, which no input may cause here."""


def unbalanced(values: Mapping[str, str]) -> list[str]:
    """The identities of docs/reference/counters.md that a node's diagnostics (key: value) break, one sentence each."""
    found = []
    for stream, out in (("detections", "published/poses"), ("images", "used/images")):
        kind = stream if stream == "detections" else "image"
        lost = sum(int(values.get(f"counter/{name}", 0)) for name, info in COUNTERS.items() if info.stream == kind)
        received, done = int(values[f"received/{stream}"]), int(values[out])
        pending = int(values[f"pending/{stream}"])
        if received != done + lost + pending:
            found.append(f"{stream}: {received} received, but {done} {out} + {lost} counted + {pending} pending")
    return found


def memory_fit(samples: Sequence[tuple[float, float]]) -> Fit:
    """Line through (seconds, MiB) after the warm-up, in MiB a minute; ValueError for fewer than three samples."""
    begin, end = samples[0][0], samples[-1][0]
    kept = [(when, value) for when, value in samples if when >= begin + WARM_UP * (end - begin)]
    return line_fit([(when - begin) / 60 for when, _ in kept], [value for _, value in kept])


def memory_problems(samples: Sequence[tuple[float, float]]) -> list[str]:
    """Growth above `MEMORY_SLOPE` and `MEMORY_STEP` that scatter does not explain, and an excess; a sentence each."""
    fit, highest = memory_fit(samples), max(value for _, value in samples)
    minutes = (1 - WARM_UP) * (samples[-1][0] - samples[0][0]) / 60
    found = []
    if fit.slope - 2 * fit.slope_error > MEMORY_SLOPE and fit.slope * minutes > MEMORY_STEP:
        found.append(f"memory grows by {fit.slope:.2f} ± {fit.slope_error:.2f} MiB a minute, limit {MEMORY_SLOPE:g}")
    if highest > MEMORY_LIMIT:
        found.append(f"resident memory reached {highest:.0f} MiB, limit {MEMORY_LIMIT:g}")
    return found


def log_problems(text: str) -> list[str]:
    """Lines of the node's log that say error, fatal or traceback."""
    pattern = re.compile(r"\[(ERROR|FATAL)\]|Traceback|Segmentation|core dumped")
    return [f"log: {line.strip()}" for line in text.splitlines() if pattern.search(line)]


def counter_problems(counters: Mapping[str, int]) -> list[str]:
    """Counters of `NEVER` that counted."""
    return [f"{name} counted {counters[name]}" for name in NEVER if counters.get(name)]


def transport(sent: int, inactive: int, received: int, name: str) -> tuple[dict[str, int], list[str]]:
    """What became of one topic's messages between sender and node, and what is wrong with it.

    Best effort may lose messages. How many of those sent around a transition reached the node nobody knows, so what the
    transport lost lies between two numbers.

    Args:
        sent: all messages sent.
        inactive: of them, sent while the node may not have listened.
        received: by the node's diagnostics.
        name: of the topic.
    """
    figures = {
        "sent": sent,
        "sent_around_inactive": inactive,
        "received": received,
        "lost_in_transport_at_least": max(sent - inactive - received, 0),
        "lost_in_transport_at_most": sent - received,
    }
    problems = []
    if received > sent:
        problems.append(f"{name}: {received} received of {sent} sent")
    if received < LEAST_HEARD * (sent - inactive):
        problems.append(f"{name}: only {received} of {sent - inactive} messages arrived")
    return figures, problems
