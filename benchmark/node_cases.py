"""The benchmark's cases: each starts nodes, plays frames, and returns plain values for the JSON.

Two bundles: `network` is the real one, `stub` is the same without its network (node_stub.py).
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_cell import Cell, Run, cell
from node_input import SIZES, camera_info_message, detections_message, make_input, picture
from node_metrics import highest_passing, line_fit, percentiles, performance, rounded

from shared_pose_ros.bundle import BundleMetadata
from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.ros.messages.detections import camera_matrix_from_info, read_detections

LARGE, SMALL = "1280x1024", "640x480"
COUNTS = (1, 2, 4, 8, 16, 32, 64)
LADDER = (1, 2, 3, 5, 7.5, 10, 12.5, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 150, 200)
"""Rates in Hz; a camera's, or between."""
MOST_LOST = 0.05
"""ros2_benchmark's acceptable frame loss."""
TRIAL_GRACE_SECONDS = 1.0
"""After a trial of a rate an answer that has not come so long after the last one is missing."""
JOINS = 5
"""Programs that join each of the nodes that are started."""
SENDER_PACE = 0.95
"""Below this part of the rate asked for it is the sender that cannot keep up; the trial says nothing of the node."""


@dataclass(frozen=True)
class Bench:
    """What every case needs: bundles by name with their metadata, a folder for logs, seconds, a voice."""

    bundles: Mapping[str, tuple[Path, BundleMetadata]]
    logs: Path
    seconds: float
    say: Callable[[str], None]

    def cell(self, bundle: str, name: str, transport: str = "raw", **parameters: Any) -> Any:
        """A `node_cell.cell` with one of the bundles."""
        self.say(f"{name}: starting the node with {bundle}, {transport}")
        path, metadata = self.bundles[bundle]
        return cell(path, metadata, self.logs / f"{name}_{bundle}_{transport}.log", transport, **parameters)


def overhead(bench: Bench) -> dict[str, Any]:
    """A camera of 1280x1024, 30 Hz, 8 detections. With the stub: all that is not the network."""
    found: dict[str, Any] = {"rate_hz": 30, "detections": 8, "size": LARGE}
    for bundle in ("stub", "network"):
        with bench.cell(bundle, "overhead") as made:
            frame = make_input(LARGE, "raw", 8, made.classes)
            made.play(frame, 30, 2.0)
            with made.watch() as watch:
                run = made.play(frame, 30, bench.seconds)
            found[bundle] = _row(run, watch.report()) | {"stages": made.stages(), "counters": _counters(made)}
    return found


def detections(bench: Bench) -> dict[str, Any]:
    """Latency of one frame at a time against the number of its objects, all in one batch."""
    found: dict[str, Any] = {"size": LARGE, "max_batch": max(COUNTS)}
    for bundle in ("stub", "network"):
        rows = {}
        with bench.cell(bundle, "detections", max_batch=max(COUNTS)) as made:
            for count in COUNTS:
                frame = make_input(LARGE, "raw", count, made.classes)
                seconds = statistics.median(made.ask(frame, 3).latencies)
                times = min(max(int(bench.seconds / len(COUNTS) / seconds), 10), 100)
                rows[str(count)] = {"frames": times, **percentiles(made.ask(frame, times).latencies)}
            classes = made.classes
        found[bundle] = rows
    bench.say("detections: the network alone")
    for count, seconds in _network_alone(bench, classes).items():
        found["network"][str(count)]["network_alone_p50_ms"] = rounded(1e3 * seconds)
    for name, value in (("stub", _median), ("network", _median), ("network_alone", _alone)):
        rows = found[name.removesuffix("_alone")]
        fit = line_fit(COUNTS, [value(rows[str(count)]) for count in COUNTS])
        found[f"{name}_fit"] = {
            "ms_per_object": rounded(fit.slope),
            "ms_per_object_standard_error": rounded(fit.slope_error),
            "ms_per_frame": rounded(fit.intercept),
        }
    return found


def startup(bench: Bench) -> dict[str, Any]:
    """From the start of the process to active, how soon others hear it, and the memory with the image buffer full."""
    seconds, configured, joined, found = [], [], [], {}
    for number in range(3):
        with bench.cell("network", f"startup_{number}") as made:
            seconds.append(made.startup_seconds)
            told = re.search(r"configured in ([0-9.]+) s", made.node.log.read_text(encoding="utf-8", errors="replace"))
            configured.append(float(told[1]) if told else float("nan"))
            joined += [made.join() for _ in range(JOINS)]
            if number == 0:
                frame = make_input(LARGE, "raw", 1, made.classes)
                with made.watch() as watch:
                    made.play(frame, 30, max(bench.seconds / 2, 4.0))
                found = {f"full_buffer_{LARGE}": watch.report()}
    return {
        "start_to_active_s": [rounded(value) for value in seconds],
        "start_to_active_median_s": rounded(statistics.median(seconds)),
        "configure_s": configured,
        "join_s": {"times": len(joined), "median": rounded(statistics.median(joined)), "highest": rounded(max(joined))},
        **found,
    }


def rate(bench: Bench) -> list[dict[str, Any]]:
    """The highest rate with less than 5 % of the frames unanswered, by bisection over `LADDER`."""
    rows = []
    for transport in ("raw", "compressed"):
        for bundle in ("network", "stub"):
            with bench.cell(bundle, "rate", transport) as made:
                for size in (SMALL, LARGE):
                    for count in (1, 8):
                        bench.say(f"rate: {bundle}, {transport}, {size}, {count}")
                        rows.append({"bundle": bundle, "transport": transport, "size": size, "detections": count}
                                    | _highest_rate(made, size, transport, count, bench.seconds / 9))  # fmt: skip
    return rows


def _highest_rate(made: Cell, size: str, transport: str, count: int, seconds: float) -> dict[str, Any]:
    """Bisection with trials of `seconds` (at least five frames each)."""
    frame = make_input(size, transport, count, made.classes)
    trials: dict[str, dict[str, Any]] = {}
    limits = {}

    def passes(hertz: float) -> bool:
        run = made.play(frame, hertz, max(seconds, 5 / hertz), TRIAL_GRACE_SECONDS)
        row = trials[f"{hertz:g}fps"] = performance(run.images, run.answers)
        paced = row["BasicPerformanceMetrics.MEAN_PLAYBACK_FRAME_RATE"] >= SENDER_PACE * hertz
        limits[hertz] = "" if paced and run.lost < MOST_LOST else "node" if paced else "sender"
        return not limits[hertz]

    highest = highest_passing(LADDER, passes)
    above = [limit for hertz, limit in sorted(limits.items()) if limit]
    return {"highest_rate_hz": highest, "limited_by": above[0] if above else "ladder", **trials}


def _network_alone(bench: Bench, classes: list[str]) -> dict[int, float]:
    """Median seconds of the estimator's batch on the same picture and boxes, in this process, no node running."""
    path, _ = bench.bundles["network"]
    estimator, size, found = PoseEstimator.load(path), SIZES[LARGE], {}
    image, matrix = picture(size), camera_matrix_from_info(camera_info_message(size))
    for count in COUNTS:
        objects = read_detections(detections_message(size, count, classes), estimator.object_index, size)
        durations: list[float] = []
        while len(durations) < 5 or (sum(durations) < bench.seconds / len(COUNTS) and len(durations) < 100):
            began = time.perf_counter()
            estimator.estimate(image, objects.boxes, objects.object_index, matrix)
            durations.append(time.perf_counter() - began)
        # The first ones warm up.
        found[count] = statistics.median(durations[2:])
    return found


def _row(run: Run, resources: dict[str, float]) -> dict[str, Any]:
    return {**performance(run.images, run.answers), "from_detections": percentiles(run.latencies), **resources}


def _counters(made: Cell) -> dict[str, int]:
    return {name: number for name, number in made.player.counters.items() if number}


def _median(row: Mapping[str, float]) -> float:
    return row["p50_ms"]


def _alone(row: Mapping[str, float]) -> float:
    return row["network_alone_p50_ms"]


CASES: Mapping[str, Callable[[Bench], Any]] = {
    "overhead": overhead, "detections": detections, "startup": startup, "rate": rate,
}  # fmt: skip
