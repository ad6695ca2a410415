"""What a replay writes and says: poses as a bag, CSV and JSON, the accounting of all messages, latencies of a live run.

Convention: metres, quaternions xyzw with w >= 0, stamps in nanoseconds; latencies are seconds in and milliseconds out.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_pose_ros.pipeline.frame import PublishedPoses

if TYPE_CHECKING:
    from shared_pose_ros.replay.offline import MessageAccounting

COLUMNS = (
    "stamp_ns", "frame_id", "array", "detection", "id", "class_id", "hypothesis", "score",
    "qx", "qy", "qz", "qw", "x", "y", "z", "position_known",
)  # fmt: skip


def pose_records(published: Sequence[PublishedPoses]) -> list[dict[str, Any]]:
    """The arrays in order of stamp and frame_id as JSON-able dictionaries, every number as it was published."""
    return [
        {
            "stamp_ns": poses.stamp,
            "frame_id": poses.frame_id,
            "detections": [
                {"id": name, "hypotheses": _hypotheses(poses, number)} for number, name in enumerate(poses.ids)
            ],
        }
        for poses in sorted(published, key=lambda poses: poses.key)
    ]


def _hypotheses(poses: PublishedPoses, number: int) -> list[dict[str, Any]]:
    rows = zip(*(array[number].tolist() for array in (poses.confidences, poses.quaternions, poses.positions)))
    return [
        {
            "class_id": poses.class_ids[number],
            "score": score,
            "orientation_xyzw": quaternion,
            "position": position if poses.located[number] else None,
        }
        for score, quaternion, position in rows
    ]


def write_poses(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write ``pose_records`` as poses.json and, one row per hypothesis, as poses.csv; returns the files."""
    table, document = folder / "poses.csv", folder / "poses.json"
    document.write_text(json.dumps(list(records), indent=1) + "\n", encoding="utf-8")
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for array, record in enumerate(records):
            for number, detection in enumerate(record["detections"]):
                for rank, pose in enumerate(detection["hypotheses"]):
                    position = pose["position"] or ["", "", ""]
                    writer.writerow(
                        [record["stamp_ns"], record["frame_id"], array, number, detection["id"], pose["class_id"],
                         rank, pose["score"], *pose["orientation_xyzw"], *position, int(pose["position"] is not None)]
                    )  # fmt: skip
    return [table, document]


def accounting_text(accounting: MessageAccounting, problems: Sequence[str]) -> list[str]:
    """The message accounting as sentences: what came, what became of it, and why."""
    said = [f"Bag: {problem}." for problem in problems]
    came, out = accounting.received, accounting.published
    said.append(
        f"Read: images {came['images']}, detection arrays {came['detections']}, camera_info {came['camera_info']}, "
        + (f"depth {came['depth']} ({accounting.used['depth']} used), " if came["depth"] else "")
        + f"truth {came['truth']}. Out: poses {out['poses']} of {out['objects']} objects."
    )
    for topic, number in accounting.damaged.items():
        said.append(f"Damaged messages on {topic}: {number}.")
    counted = [
        f"{name} {number}" + (f" ({accounting.reasons[name]})" if name in accounting.reasons else "")
        for name, number in accounting.counters.items()
        if number
    ]
    said.append("Counters: " + ("; ".join(counted) if counted else "all zero") + ".")
    return said


@dataclass(frozen=True)
class Timing:
    """One response of a live run, seconds of one clock.

    Attributes:
        image: when its image was published.
        detections: when its detections were.
        arrival: when its poses came.
    """

    image: float
    detections: float
    arrival: float


def live_figures(timings: Sequence[Timing], requests: int, images: int) -> dict[str, Any]:
    """Latency, drops and jitter of a live run.

    Latency runs from the image's publication to the poses' arrival, and from the later of image and detections. The
    jitter of an output is the difference between the spacing of two successive arrivals and that of their images.

    Args:
        timings: in order of arrival.
        requests: pairs of image and detections that were published.
        images: images that were published.
    """
    ordered = sorted(timings, key=lambda timing: timing.arrival)
    spacing = [b.arrival - a.arrival - (b.image - a.image) for a, b in zip(ordered, ordered[1:])]
    return {
        "images_published": images,
        "pairs_published": requests,
        "responses": len(ordered),
        "drops": requests - len(ordered),
        "latency_ms": spread([t.arrival - t.image for t in ordered]),
        "latency_of_pair_ms": spread([t.arrival - max(t.image, t.detections) for t in ordered]),
        "jitter_ms": {
            "deviation": _milliseconds(float(np.sqrt(np.mean(np.square(spacing))))),
            "max": _milliseconds(float(np.max(np.abs(spacing)))),
        }
        if spacing
        else None,
        "output_hz": round((len(ordered) - 1) / (ordered[-1].arrival - ordered[0].arrival), 3) if spacing else None,
    }


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """{"min", "mean", "p50", "p99", "max"} in milliseconds; None of nothing."""
    if not len(seconds):
        return None
    values = np.asarray(seconds, dtype=np.float64)
    figures = {
        "min": values.min(),
        "mean": values.mean(),
        "p50": np.percentile(values, 50),
        "p99": np.percentile(values, 99),
        "max": values.max(),
    }
    return {name: _milliseconds(float(value)) for name, value in figures.items()}


def live_text(figures: Mapping[str, Any], counters: Mapping[str, int] | None) -> list[str]:
    """The figures of a live run as sentences."""
    said = [
        f"Published: images {figures['images_published']}, with detections {figures['pairs_published']}. Responses: "
        f"{figures['responses']}, drops {figures['drops']}."
    ]
    for key, what in (("latency_ms", "image"), ("latency_of_pair_ms", "later of image and detections")):
        if figures[key] is not None:
            numbers = ", ".join(f"{name} {value:.1f}" for name, value in figures[key].items())
            said.append(f"Latency in ms, {what} published to poses received: {numbers}.")
    if figures["jitter_ms"] is not None:
        jitter = figures["jitter_ms"]
        said.append(
            f"Jitter of the outputs in ms: deviation {jitter['deviation']:.1f}, max {jitter['max']:.1f}; "
            f"{figures['output_hz']:.2f} outputs per second."
        )
    if counters is None:
        said.append("The node's counters are unknown: no diagnostics came.")
    else:
        grown = "; ".join(f"{name} {number}" for name, number in counters.items() if number)
        said.append(f"The node's counters, grown by: {grown or 'nothing'}.")
    return said


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each counter grew, zeros included."""
    return {name: number - Counter(before)[name] for name, number in after.items()}


def _milliseconds(seconds: float) -> float:
    return round(1e3 * seconds, 3)
