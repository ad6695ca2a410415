"""The table of headlines: what it comes to, beside target or peer, with the command of each figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from page_accuracy import BASELINE, SYSTEMS, THIRTY, corrected
from page_text import digits, rotations, table

from shared_pose_ros.evaluation.result_tables import percent
from shared_pose_ros.report.system_tables import PUBLISHED

OURS = "this package"
FIGURES = "/docs/benchmarks"
SYSTEMS_COMMAND = "make benchmark-tless-systems TLESS=DIR BACKGROUNDS=PHOTOGRAPHS"
Row = tuple[str, str, str]
"""A figure's name, its value, and its target or peer."""


def headlines(read: Callable[[str], Any]) -> str:
    """The table; `read` gives a result by its file's name."""
    running = node(read("node_cpu.json"), read("message_path.json"))
    groups = [
        (bundle(read(THIRTY)), "make benchmark-tless TLESS=DIR", f"[T-LESS]({FIGURES}/tless.md)"),
        ([systems(read(SYSTEMS))], SYSTEMS_COMMAND, "[systems](/docs/experiments/tless-systems.md)"),
        (inference(read("inference_cpu.json")), "make benchmark-inference", f"[inference]({FIGURES}/inference.md)"),
        (running, "make benchmark-node", f"[node]({FIGURES}/node.md)"),
        ([soak(read("soak.json"))], "make benchmark-soak", f"[soak]({FIGURES}/node.md#soak)"),
    ]
    rows = [[*row, f"`{command}`", section] for made, command, section in groups for row in made]
    return table(["", "measured", "target or peer", "command", "section"], rows)


def bundle(thirty: Mapping[str, Any]) -> list[Row]:
    """Mean AR_VSD of the bundle in models/ beside the random-rotation baseline."""
    rows = []
    for one in thirty["sets"]:
        own = corrected(one)["summary"]
        name = f"orientation, T-LESS bundle on {one['data']}, {own['instances']} instances: mean AR_VSD"
        rows.append((name, f"{percent(own['score'])} %", f"{BASELINE} {percent(own['chance_score'])} %"))
    published = f"; published, other images: {percent(PUBLISHED['shared +FT'].score)} %"
    return [(*rows[0][:2], rows[0][2] + published), *rows[1:]]


def systems(result: Mapping[str, Any]) -> Row:
    """The paper's system, +FT, beside the others of the campaign: the mean over seeds."""
    scores = {
        row["name"]: sum(seed["summary"]["score"] for seed in row["evaluations"]) / len(row["evaluations"])
        for row in result["systems"]
    }
    own = scores.pop("shared +FT")
    peers = "; ".join(f"{name} {percent(score)} %" for name, score in scores.items())
    return f"{result['title']}, short trainings of equal length: shared +FT", f"{percent(own)} %", peers


def inference(result: Mapping[str, Any]) -> list[Row]:
    """Frame to rotations, beside the fastest other runtime; the codebook is another method, not another runtime."""
    rows = []
    for encoder, turns, count in (("compact", 4, 1), ("compact", 4, 8), ("paper", 1, 7), ("paper", 1, 64)):
        network = next(n for n in result["networks"] if (n["encoder"], n["turns"]) == (encoder, turns))
        times = {n: row["ms"][str(count)]["median"] for n, row in network["systems"].items() if n != "codebook"}
        # In all precisions: no peer runs in int8.
        own = {name.removeprefix(f"{OURS} "): time for name, time in times.items() if name.startswith(OURS)}
        shown = ", ".join(f"{precision} {time:.1f}" for precision, time in sorted(own.items(), key=lambda o: o[1]))
        peer = min((name for name in times if not name.startswith(OURS)), key=times.__getitem__)
        name = f"frame to rotations, {encoder} width: {count} crop{'s' * (count > 1)}, {rotations(turns)}"
        rows.append((name, f"{shown} ms", f"{peer}, {network['systems'][peer]['precision']}: {times[peer]:.1f} ms"))
    return rows


def node(result: Mapping[str, Any], path: Mapping[str, Any]) -> list[Row]:
    """Latency, start-up and memory of the running node."""
    stub, eight = result["overhead"]["stub"]["from_detections"], result["detections"]["network"]["8"]["p50_ms"]
    startup = result["startup"]
    memory = startup["full_buffer_1280x1024"]["node_resident_mib"]
    overhead = f"{digits(stub['p50_ms'])} ms, 99 %: {digits(stub['p99_ms'])} ms"
    tensor = digits(path["message"]["arrival_to_tensor"]["p50_ms"])
    return [
        ("node, 8 objects at 1280×1024, 30 Hz, all but the network", overhead, "10 ms, 99 %: 25 ms"),
        ("node, 8 objects at 1280×1024, from detections sent to poses received", f"{digits(eight)} ms", "–"),
        ("node, 1280×1024, from the image's arrival to the tensor", f"{tensor} ms", "3 ms"),
        ("node, start of the process to active", f"{digits(startup['start_to_active_median_s'])} s", "8 s"),
        ("node, resident memory, image buffer full", f"{digits(memory)} MiB", "954 MiB"),
    ]


def soak(result: Mapping[str, Any]) -> Row:
    """Problems of the long run."""
    name = f"node, {result['seconds'] / 60:.0f} minutes of random faults: problems"
    return name, "; ".join(result["problems"]) or "none", "none"
