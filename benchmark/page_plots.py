"""Draws docs/images/latency.svg and docs/images/accuracy.svg from benchmark/results/*.json.

What is drawn is gathered without matplotlib, and each file carries the SHA-256 of it: whether a plot is of the
committed figures can be checked where matplotlib is not installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page_accuracy import BASELINE, SYSTEMS, THIRTY, corrected
from page_text import reader, rotations

from shared_pose_ros.evaluation.protocols import condition_fields
from shared_pose_ros.report.system_tables import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = Path("docs/images")
PANELS = (("compact", 4), ("paper", 1))
"""Encoder and rotations per crop of the panels of the plot of latency."""
INK, FAINT, BLUE, ORANGE, GREEN, RED = "#222222", "#8c8c8c", "#0072b2", "#e69f00", "#009e73", "#d55e00"
STYLES = {
    "this package int8": (BLUE, "-", "o", 2.6),
    "this package bf16": (BLUE, "-.", "o", 1.8),
    "this package fp32": (BLUE, "--", "o", 1.8),
    "PyTorch, eager": (GREEN, "-", "s", 1.3),
    "ONNX Runtime": ("#cc79a7", "-", "^", 1.3),
    "OpenVINO": (ORANGE, "-", "D", 1.3),
    "OpenVINO fp32": (ORANGE, "--", "D", 1.3),
    "one by one": (INK, ":", "v", 1.3),
    "codebook": (FAINT, "-", "x", 1.3),
}
"""Colours of Okabe and Ito, told apart with any colour vision; dashed is fp32 of the same runtime, markers help too."""


def latency_series(result: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds per call by system and number of crops, a panel each of ``PANELS``."""
    panels = []
    for encoder, turns in PANELS:
        network = next(n for n in result["networks"] if (n["encoder"], n["turns"]) == (encoder, turns))
        title = f"{encoder} width, {network['crop_size']}-pixel crops, {rotations(turns)}"
        times = {
            name: {int(count): spent["median"] for count, spent in row["ms"].items()}
            for name, row in network["systems"].items()
        }
        precisions = {name: row["precision"] for name, row in network["systems"].items()}
        panels.append({"title": title, "times": times, "precisions": precisions})
    about = result["hardware"]
    return {"panels": panels, "machine": f"{about['processor']}, {about['cores']} cores, {result['date']}"}


def accuracy_bars(result: Mapping[str, Any], thirty: Mapping[str, Any]) -> dict[str, Any]:
    """Mean scores by system, in per cent, of a campaign and of the bundle in models/, the best first.

    The bundle's is its mean over the campaign's objects. Where it was scored under another protocol or on other
    instances, it is left out and a note says so.
    """
    first = result["systems"][0]["evaluations"][0]
    rows = []
    for system in result["systems"]:
        summaries = [seed["summary"] for seed in system["evaluations"]]
        published = PUBLISHED[system["published"]].score if system["published"] else None
        rows.append(_bar(system["name"], summaries, published))
    found = corrected(thirty["sets"][0])
    own = {row["class_id"]: row for row in found["objects"]}
    same = [own.get(row["class_id"], {"instances": 0}) for row in first["objects"]]
    counts = [row["instances"] for row in same] == [row["instances"] for row in first["objects"]]
    notes = ["published: Bengtson et al., SITIS 2022, other images, 20 to 60 million samples"]
    if counts and condition_fields(found["protocol_line"]) == condition_fields(first["protocol_line"]):
        keys = ("score", "oracle_score")
        mean = {key: sum(row[key] for row in same) / len(same) for key in keys}
        rows.append(_bar("the bundle in models/", [mean], None))
        notes.insert(
            0, f"the bundle in models/: {thirty['samples'] / 1e6:.1f} million samples, {rotations(thirty['turns'])}"
        )
    else:
        notes.insert(0, "the bundle in models/ was scored under other conditions and is left out")
    data = re.search(r"data ([^;]+);", first["protocol_line"])
    return {
        "title": f"{result['title']}: accuracy on {first['summary']['instances']} instances, {data[1] if data else ''}",
        "rows": sorted(rows, key=lambda row: row["score"]),
        "chance": 100 * first["summary"]["chance_score"],
        "notes": notes,
    }


def _bar(name: str, summaries: Sequence[Mapping[str, float]], published: float | None) -> dict[str, Any]:
    score, best = (100 * sum(row[key] for row in summaries) / len(summaries) for key in ("score", "oracle_score"))
    return {"name": name, "score": score, "best": best, "published": published and 100 * published}


def latency_figure(data: Mapping[str, Any]) -> Figure:
    """A panel beside the other, double logarithmic, one legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 5.4), layout="constrained", facecolor="white")
    lines, labels = {}, {}
    for axes, panel in zip(figure.subplots(1, len(data["panels"])), data["panels"]):
        for name, times in panel["times"].items():
            colour, dash, marker, width = STYLES[name]
            (lines[name],) = axes.plot(
                list(times), list(times.values()), color=colour, linestyle=dash, marker=marker, linewidth=width,
                markersize=4.5,
            )  # fmt: skip
            labels[name] = name if name.endswith(("fp32", "bf16", "int8")) else f"{name}, {panel['precisions'][name]}"
        axes.set(xscale="log", yscale="log", xlabel="objects in the frame", title=panel["title"])
        counts = sorted({count for times in panel["times"].values() for count in times})
        axes.set_xticks(counts, ["7, 8" if count == 7 else "" if count == 8 else str(count) for count in counts])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        axes.set_ylabel("milliseconds per frame, median")
        _plain(axes)
        axes.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
    names = [name for name in STYLES if name in lines]
    shown = [lines[name] for name in names], [labels[name] for name in names]
    figure.legend(*shown, loc="outside lower center", ncols=4, frameon=False, handlelength=3.4)
    figure.suptitle(f"From frame to rotations ({data['machine']})")
    return figure


def accuracy_figure(data: Mapping[str, Any]) -> Figure:
    """A bar per system, the best on top."""
    from matplotlib.figure import Figure

    rows = data["rows"]
    figure = Figure(figsize=(8.4, 1.9 + 0.42 * len(rows)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    places = range(len(rows))
    colours = [RED if row["name"] == "the bundle in models/" else BLUE for row in rows]
    bars = axes.barh(places, [row["score"] for row in rows], 0.62, color=colours)
    best = axes.plot([row["best"] for row in rows], places, "|", color=INK, markersize=15, markeredgewidth=2)
    known = [(row["published"], place) for place, row in zip(places, rows) if row["published"]]
    published = axes.plot(*zip(*known), "o", color=INK, markerfacecolor="white", markersize=7)
    chance = axes.axvline(data["chance"], color=INK, linestyle="--", linewidth=1.2)
    for place, row in zip(places, rows):
        axes.text(1, place, f"{row['score']:.1f}", color="white", va="center", fontweight="bold")
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.set(xlim=(0, 100), xlabel="mean AR_VSD, per cent\n" + "\n".join(data["notes"]), title=data["title"])
    _plain(axes)
    axes.grid(True, axis="x", color="#e4e4e4", linewidth=0.6)
    names = ["the most confident hypothesis", "the best hypothesis, were it always picked"]
    names += ["published, other images", f"{BASELINE}, {data['chance']:.1f} %"]
    figure.legend([bars[0], *best, *published, chance], names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(10)


def digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of what is drawn, to nine decimals: the sum of the same floats differs by Python's version."""
    rounded = json.loads(json.dumps(data), parse_float=lambda text: round(float(text), 9))
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()


def plots(root: Path) -> dict[Path, Mapping[str, Any]]:
    """What is drawn, by the plots' paths under `root`, the source tree."""
    read = reader(root)
    return {
        IMAGES / "latency.svg": latency_series(read("inference_cpu.json")),
        IMAGES / "accuracy.svg": accuracy_bars(read(SYSTEMS), read(THIRTY)),
    }


def draw(root: Path) -> None:
    """Write the plots; raises ImportError without matplotlib."""
    import matplotlib

    # Text stays text: readable for a search and a screen reader. A fixed salt and no date: same figures, same file.
    # DejaVu Sans sets the room that text gets; it is wider than what else may be taken.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "1", "font.size": 9.5}
    settings["font.sans-serif"] = ["DejaVu Sans", "Verdana", "Helvetica", "Arial", "sans-serif"]
    figures = {"latency.svg": latency_figure, "accuracy.svg": accuracy_figure}
    with matplotlib.rc_context(settings):
        for path, data in plots(root).items():
            about = {"Date": None, "Description": f"sha256 of the figures: {digest(data)}"}
            figures[path.name](data).savefig(root / path, format="svg", metadata=about)
