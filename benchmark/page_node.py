"""The tables of positions and of temporal filtering."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from page_text import digits, table

SETS = {"tless": "T-LESS", "parts": "demo's parts"}
"""What a set of depth.json is called on the page."""
ONCE = ("CAD box", "poor depth")
"""Methods that are shown with the best boxes and rotations only."""
GATHERED = 1e-9
"""The smoothing that forgets everything and only gathers."""


def positions_table(result: Mapping[str, Any]) -> str:
    """Errors of positions and their covariances, a row a method; then what they cost."""
    head = [
        "", "boxes", "position from", "error, mm", "error, % of the distance", "along the ray, mm", "across, mm",
        "in 50 %", "in 90 %",
    ]  # fmt: skip
    rows = [cells for name, label in SETS.items() for cells in _position_rows(label, result["sets"][name]["rows"])]
    cost = result["sets"]["tless"]["cost_ms"].values()
    mesh, depth = ([digits(each[way]) for each in cost] for way in ("mesh", "mesh and depth"))
    said = (
        f"Positions of 8 / 16 objects cost {' / '.join(mesh)} ms of processor time from box and mesh, "
        f"{' / '.join(depth)} ms with depth (medians)."
    )
    return f"{table(head, rows)}\n\n{said}"


def _position_rows(label: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    for row in rows:
        estimated, mask = row["rotations"] == "estimated", row["boxes"] == "visible mask's"
        if (estimated and mask) or (row["method"] in ONCE and (estimated or not mask)):
            continue
        boxes = ("of the visible mask" if mask else f"a {row['boxes']}") + ", estimated orientations" * estimated
        pairs = [row[key] for key in ("error_mm", "error_percent", "radial_mm", "lateral_mm")]
        shares = [f"{100 * row[key]:.0f} %" for key in ("inside_50", "inside_90")]
        errors = [f"{digits(float(median))} / {digits(float(tail))}" for median, tail in pairs]
        yield [f"{label}, {row['instances']}", boxes, row["method"], *errors, *shares]


def smoothing_table(result: Mapping[str, Any]) -> str:
    """Steadiness, accuracy and lag by `smoothing`, without refinement."""
    head = [
        "`smoothing`", "still: median error °", "under 15° %", "flips %", "median change °", "moving: median error °",
        "under 15° %", "flips %", "jump: median error ° before → images after", "later °", "lag, images",
    ]  # fmt: skip
    return table(head, [_smoothing_row(row) for row in result["results"] if row["refine"] == 0])


def memory_table(result: Mapping[str, Any]) -> str:
    """The same with refinement, with and without `refine_memory`; scores, and what the stages cost."""
    head = [
        "`smoothing`", "`refine_memory`", "still: median error °", "under 15° %", "flips %", "median change °", "score",
        "moving: median error °", "under 15° %", "flips %", "jump: median error ° before → images after", "later °",
        "lag, images", "nearer to the old pose, images after, %", "time",
    ]  # fmt: skip
    rows = [row for row in result["results"] if row["refine"]]
    return table(head, [_memory_row(row) for row in rows])


def _memory_row(row: Mapping[str, Any]) -> list[Any]:
    cells, still = _smoothing_row(row), row["still"]
    memory = "on" if row["refine_memory"] else "off"
    old = ", ".join(f"{100 * share:.0f}" for share in row["jump"]["nearer_to_old_pose"])
    score, time = f"{still['mean_confidence']:.2f}", f"{100 * row['frame_time_ratio']:.0f} %"
    return [cells[0], memory, *cells[1:5], score, *cells[5:], old, time]


def _smoothing_row(row: Mapping[str, Any]) -> list[Any]:
    still, moving, jump = row["still"], row["moving"], row["jump"]
    value = row["smoothing"]
    name = {0.0: "0 (off)", GATHERED: "(0, gathered)"}.get(value, f"{value:g}")
    before, *after = (f"{error:.1f}" for error in jump["median_error_by_frame"][:4])
    percent = [f"{100 * case[key]:.1f}" for case in (still, moving) for key in ("under_15", "flips")]
    return [
        name, f"{still['median_error']:.1f}", *percent[:2], f"{still['median_change']:.1f}",
        f"{moving['median_error']:.1f}", *percent[2:], f"{before} → {', '.join(after)}",
        f"{jump['steady_error']:.1f}", jump["lag_frames"],
    ]  # fmt: skip


def position_tables(read: Callable[[str], Any]) -> dict[str, Callable[[], str]]:
    """The tables by their names; ``read`` gives a result by its file's name."""
    return {
        "positions": lambda: positions_table(read("depth.json")),
        "temporal-filtering": lambda: smoothing_table(read("smoothing.json")),
        "refine-memory": lambda: memory_table(read("smoothing.json")),
    }
