"""What the demo saw, as a verdict, a table and a summary: pure functions of a recording and its evaluation.

Latencies are seconds here and milliseconds in the summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_pose_ros.evaluation.instance_scoring import Candidates, Evaluation
from shared_pose_ros.evaluation.result_tables import ObjectRow, object_rows, summary_row
from shared_pose_ros.ros.diagnostics.counters import COUNTERS


@dataclass(frozen=True)
class Recording:
    """What came back for a played bag.

    Attributes:
        frames_in: images published.
        poses: by stamp (ns) and detection id.
        requests: detection ids by stamp, of all images published.
        latencies: from the later of image and detections to the poses, one a frame, seconds.
        counters: the node's, from its last diagnostics.
        bundle: name of the bundle that ran.
        weights_sha256: hash of its weights.
        exit_code: of the node, None if it ran in no process of its own.
    """

    frames_in: int
    poses: Mapping[int, Mapping[str, Candidates]]
    requests: Mapping[int, Sequence[str]]
    latencies: Sequence[float] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    bundle: str = ""
    weights_sha256: str = ""
    exit_code: int | None = None


def lost_inputs(counters: Mapping[str, int]) -> dict[str, int]:
    """Non-zero counters of images, detection arrays and objects without an output; notes on a frame are no losses."""
    return {
        name: number
        for name, number in counters.items()
        if number and (name not in COUNTERS or COUNTERS[name].stream != "note")
    }


def problems(recording: Recording) -> list[str]:
    """What went wrong, one sentence each; empty if every frame and object got its poses and nothing was lost."""
    found = []
    unanswered = [stamp for stamp in recording.requests if stamp not in recording.poses]
    if unanswered:
        found.append(f"{len(unanswered)} of {recording.frames_in} frames got no poses")
    absent = [
        name
        for stamp, names in recording.requests.items()
        if stamp in recording.poses
        for name in names
        if name not in recording.poses[stamp]
    ]
    if absent:
        found.append(f"{len(absent)} detections got no poses in their frame's response, the first is '{absent[0]}'")
    for name, number in lost_inputs(recording.counters).items():
        info = COUNTERS.get(name)
        said = f" ({info.meaning}{'; ' + info.remedy if info.remedy else ''})" if info else ""
        found.append(f"the node counted {name} {number}{said}")
    if recording.exit_code not in (None, 0):
        found.append(f"the node ended with exit code {recording.exit_code} on SIGINT instead of 0")
    return found


def latency_ms(recording: Recording) -> dict[str, float]:
    """{"p50": ms, "p99": ms}, empty without latencies."""
    if not recording.latencies:
        return {}
    return {f"p{p}": round(1e3 * float(np.percentile(recording.latencies, p)), 2) for p in (50, 99)}


def summary(recording: Recording, evaluation: Evaluation) -> dict[str, Any]:
    """The content of summary.json: scores in 0…1, angles in degrees, latencies in milliseconds."""
    mean = summary_row(evaluation)
    return {
        "mean_ar_vsd": mean.score,
        "chance_ar_vsd": mean.chance_score,
        "objects": {
            row.class_id: {"ar_vsd": row.score, "rotation_error_deg_median": row.rotation_error_deg_median}
            for row in object_rows(evaluation)
        },
        "frames_in": recording.frames_in,
        "poses_out": len(recording.poses),
        "counters": dict(recording.counters),
        "latency_ms": latency_ms(recording),
        "protocol": evaluation.protocol_line,
        "bundle": recording.bundle,
        "weights_sha256": recording.weights_sha256,
    }


def text_table(recording: Recording, evaluation: Evaluation) -> str:
    """What the demo prints: one row per object, mean, random-rotation baseline, conditions, latencies, counters."""
    mean = summary_row(evaluation)
    lines = [_cells("object", "instances", f"{evaluation.score_name} %", "rotation error, median °", "baseline %")]
    lines += [_row(row) for row in object_rows(evaluation)]
    lines.append(_row(mean))
    angle = f"{mean.chance_rotation_error_deg_median:.1f}"
    lines.append(_cells("baseline", str(mean.instances), f"{100 * mean.chance_score:.1f}", angle, ""))
    lines += ["", f"Evaluation conditions: {evaluation.protocol_line}.", ""]
    lines += notes(recording)
    return "\n".join(lines)


def notes(recording: Recording) -> list[str]:
    """Bundle, frames, latencies and counters as sentences."""
    said = [f"Bundle {recording.bundle}, weights SHA-256 {recording.weights_sha256}."]
    said.append(f"Frames in: {recording.frames_in}; poses out: {len(recording.poses)}.")
    if recording.latencies:
        times = latency_ms(recording)
        said.append(f"Latency, image and detections published to poses received: p50 {times['p50']:.1f} ms, "
                    f"p99 {times['p99']:.1f} ms.")  # fmt: skip
    if recording.counters:
        said.append("Counters: " + ", ".join(f"{name} {number}" for name, number in recording.counters.items()) + ".")
    return said


def _row(row: ObjectRow) -> str:
    numbers = (100 * row.score, row.rotation_error_deg_median, 100 * row.chance_score)
    return _cells(row.class_id, str(row.instances), *(f"{number:.1f}" for number in numbers))


def _cells(name: str, *values: str) -> str:
    widths = (9, 9, 24, 8)
    return f"{name:<16}" + "  ".join(f"{value:>{width}}" for value, width in zip(values, widths))
