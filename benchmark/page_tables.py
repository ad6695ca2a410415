"""Writes the tables of docs/ and README.md and the plots in docs/images/ from benchmark/results/*.json.

python benchmark/page_tables.py        from the root of the source tree, after a measurement

A table stands wherever a page has ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between them is written anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from page_accuracy import accuracy_tables
from page_diagrams import diagrams
from page_headlines import headlines
from page_node import position_tables
from page_plots import draw
from page_text import digits, reader, relative_links, rotations, table

from shared_pose_ros.ros import parameter_pages

QUIET = 10.0
"""Percent of the processors: with more in use before anything was started, the page says that figures are too high."""


def machine(result: Mapping[str, Any]) -> str:
    """One sentence on where and when; a warning if the machine was busy."""
    about = result["metadata"]
    found = (
        f"{about['hardware']['processor']}, {about['hardware']['cores']} cores, torch {about['torch']}, commit "
        f"{about['commit'][:9]}, bundle `{about['bundle']}`; `{about['command']}`."
    )
    busy = about["BenchmarkMetadata.IDLE_CPU_UTIL"]
    if busy > QUIET:
        found += (
            f"\n\n**Provisional: other work kept {busy:.0f} % of the processors busy, so these figures are too high "
            "and to be measured again.**"
        )
    return found


def overhead_table(result: Mapping[str, Any]) -> str:
    """Overhead: from outside, then by the node's own stages."""
    case = result["overhead"]
    prefix, rows = "BasicPerformanceMetrics.", []
    for bundle, name in (("stub", "without network"), ("network", "with network")):
        row = case[bundle]
        asked, missed = row[f"{prefix}NUM_FRAMES_SENT"], row[f"{prefix}NUM_MISSED_FRAMES"]
        outside = [row["from_detections"][f"p{p}_ms"] for p in (50, 90, 99)]
        stages = [row["stages"][f"{stage}_p50_ms"] for stage in ("wait", "decode", "estimate", "publish", "total")]
        rows.append([name, f"{asked - missed} of {asked}", *outside, *stages, row["stages"]["total_p99_ms"]])
    head = ["", "responses", "median", "90 %", "99 %", "wait", "decode", "estimate", "publish", "total", "total, 99 %"]
    return table(head, rows)


def detections_table(result: Mapping[str, Any]) -> str:
    """Latency by objects, and the straight lines through it."""
    case = result["detections"]
    rows = []
    for count, row in case["network"].items():
        stub, alone = case["stub"][count], row["network_alone_p50_ms"]
        rows.append([count, stub["p50_ms"], stub["p99_ms"], row["p50_ms"], row["p99_ms"], alone, row["p50_ms"] - alone])
    for key, name in (("ms_per_object", "**per object**"), ("ms_per_frame", "**per frame**")):
        fits = [case[f"{which}_fit"][key] for which in ("stub", "network", "network_alone")]
        rows.append([name, fits[0], None, fits[1], None, fits[2], fits[1] - fits[2]])
    head = ["objects", "without network", "99 %", "with network", "99 %", "network alone", "difference"]
    return table(head, rows)


def startup_table(result: Mapping[str, Any]) -> str:
    """Start-up and memory."""
    case = result["startup"]
    full, joined = case["full_buffer_1280x1024"], case["join_s"]
    rows = [
        ["start of the process to active, median of three", f"{digits(case['start_to_active_median_s'])} s", "8 s"],
        ["of it, configure", f"{digits(sorted(case['configure_s'])[1])} s", ""],
        [
            f"a program that joins has the node's classes, median of {joined['times']}",
            f"{digits(joined['median'])} s",
            "",
        ],
        ["the slowest of them", f"{digits(joined['highest'])} s", ""],
        ["resident memory, image buffer full", f"{digits(full['node_resident_mib'])} MiB", "954 MiB (1 GB)"],
        ["its highest value", f"{digits(full['node_resident_highest_mib'])} MiB", ""],
    ]
    return table(["", "measured", "target"], rows)


def rate_table(result: Mapping[str, Any]) -> str:
    """The highest rates; without network in brackets what held it back."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for row in result["rate"]:
        limit = "" if row["limited_by"] == "node" else f" ({row['limited_by']})"
        rate = row["highest_rate_hz"]
        shown = f"{rate:g}{limit}" if rate is not None else "below 1"
        rows.setdefault((row["transport"], row["size"]), []).append((row["bundle"], row["detections"], shown))
    order = [(bundle, count) for bundle in ("network", "stub") for count in (1, 8)]
    lines = [
        [transport, size, *(next(s for b, c, s in cells if (b, c) == place) for place in order)]
        for (transport, size), cells in rows.items()
    ]
    return table(["transport", "size", "1 object", "8 objects", "no network, 1", "no network, 8"], lines)


def message_table(result: Mapping[str, Any]) -> str:
    """Stages of the message path, both ways."""
    rows = []
    for stage in ("take", "view", "tensor", "arrival_to_tensor", "crop", "arrival_to_crops"):
        ways = [result[way][stage] for way in ("message", "raw")]
        rows.append([stage.replace("_", " "), *(way[key] for way in ways for key in ("p50_ms", "p99_ms"))])
    return table(["", "message, median", "99 %", "raw, median", "99 %"], rows)


def soak_table(result: Mapping[str, Any]) -> str:
    """The soak's figures."""
    image, detections = result["topics"]["image"], result["topics"]["detections"]
    rows = [
        ["time", f"{result['seconds'] / 60:.1f} min"],
        ["problems", "; ".join(result["problems"]) or "none"],
        ["images sent, received", f"{image['sent']}, {image['received']}"],
        ["detection arrays sent, received", f"{detections['sent']}, {detections['received']}"],
        ["poses published", result["published"]["poses"]],
        ["diagnostics whose accounting was checked", result["diagnostics_checked"]],
        ["bad messages and other faults", sum(result["faults"].values())],
        ["deactivated and activated", result["operator"].get("deactivated and activated", 0)],
        [
            "memory, MiB per minute",
            f"{result['memory_mib_a_minute']:.2f} ± {result['memory_mib_a_minute_standard_error']:.2f}",
        ],
        ["highest resident memory", f"{digits(result['node_resident_highest_mib'])} MiB"],
    ]
    return table(["", ""], rows)


def inference_tables(result: Mapping[str, Any]) -> str:
    """Where and when, then a table per network: milliseconds per crop as median and 90th percentile."""
    about, versions = result["hardware"], result["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "openvino") if versions[name])
    lines = [
        f"{about['processor']}, {about['cores']} cores, load {about['load']} at the end, "
        f"{result['threads']} threads each; {peers}; "
        f"commit {result['commit'][:9]}; `{result['command']}`. A further object adds "
        f"{result['bytes_of_a_further_object'] / 1e3:.1f} kB to the paper's bundle.",
        "",
    ]
    for network in result["networks"]:
        batches = list(next(iter(network["systems"].values()))["ms"])
        lines += [
            f"{network['encoder']} encoder, crops of {network['crop_size']} pixels, {network['objects']} objects, "
            f"{rotations(network['turns'])}; file {network['file_bytes'] / 1e6:.1f} MB "
            f"({network['storage']}), peak memory {network['peak_bytes'] / 1e6:.0f} MB",
            "",
            f"| ms per crop: median (p90) | {' | '.join(f'{count} in a call' for count in batches)} | ° from eager |",
            "|---|" + "---|" * (len(batches) + 1),
        ]
        for name, row in network["systems"].items():
            cells = [f"{row['ms'][n]['median'] / int(n):.2f} ({row['ms'][n]['p90'] / int(n):.2f})" for n in batches]
            label = name if row["precision"] in name else f"{name}, {row['precision']}"
            degrees = "" if row["degrees_from_eager"] is None else f"{row['degrees_from_eager']:.1f}"
            lines.append(f"| {label} | {' | '.join(cells)} | {degrees} |")
        lines.append("")
    return "\n".join(lines)


def tables(root: Path) -> dict[str, Callable[[], str]]:
    """Every table that a page may show, by its name; results are read from ``root``, the source tree."""
    read = reader(root)
    node = read("node_cpu.json")
    return {
        "headlines": lambda: headlines(read),
        "node-machine": lambda: machine(node),
        "node-overhead": lambda: overhead_table(node),
        "node-detections": lambda: detections_table(node),
        "node-startup": lambda: startup_table(node),
        "node-rate": lambda: rate_table(node),
        "message-path": lambda: message_table(read("message_path.json")),
        "soak": lambda: soak_table(read("soak.json")),
        "inference": lambda: inference_tables(read("inference_cpu.json")),
        **position_tables(read),
        **accuracy_tables(read),
        **parameter_pages.GENERATED,
    }


def pages(root: Path) -> dict[Path, str]:
    """The texts of the pages under ``root`` that show tables, by their paths in it, with all tables written anew.

    Raises:
        ValueError: a page asks for an unknown table, or no page shows one of them.
    """
    made = parameter_pages.filled(root, tables(root), complete=True)
    return {path: relative_links(text, path) for path, text in made.items()}


def main(root: Path = Path()) -> int:
    """Rewrite pages, diagrams and plots under ``root``, the source tree."""
    for path, text in {**pages(root), **diagrams()}.items():
        (root / path).write_text(text, encoding="utf-8")
    try:
        draw(root)
    except ImportError as error:
        print(f"error: plots not drawn, {error}; pip install -r requirements/benchmark.txt", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
