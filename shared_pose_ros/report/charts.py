"""Bars for an evaluation's report: groups of them, and rows of shares; SVG like the curves of ``plots``."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence

from shared_pose_ros.plots import HEIGHT, LEGEND_ROW, WIDTH, Axes, colours_of, frame, legend, svg, text

_ROW = 22.0
_CHARACTER = 6.2  # width of a letter, pixels
_SLOPE = 0.64  # sine of the angle at which crowded names are slanted


def grouped_bars(
    title: str,
    groups: Mapping[str, str],
    series: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_top: float,
    faint: Collection[str] = (),
) -> str:
    """Bars of every series, side by side in each group, as an ``<svg>`` element.

    Args:
        title: above the plot.
        groups: labels under the axis, and what stands smaller under them; labels that do not fit side by side are
            slanted, without the smaller text.
        series: a value per group, by the name of the series; None draws no bar.
        x_label: below the plot.
        y_top: upper end of the axis, which begins at 0; higher bars are cut there.
        faint: series for comparison, drawn grey.
    """
    axes = Axes((0.0, float(max(len(groups), 1))), (0.0, y_top))
    longest = _CHARACTER * max((len(name) for name in groups), default=0)
    crowded = longest + 6 > (axes.right - axes.left) / max(len(groups), 1)
    parts, colours = frame(axes, title, "" if crowded else x_label, x_ticks=False), colours_of(series, faint)
    width = 0.8 / max(len(series), 1)
    for place, (group, small) in enumerate(groups.items()):
        parts += _group_label(axes.point(place + 0.5, 0.0)[0], axes.bottom, group, small, crowded)
        for number, (name, values) in enumerate(series.items()):
            value = values[place]
            if value is None:
                continue
            left, top = axes.point(place + 0.1 + number * width, min(value, y_top))
            right, bottom = axes.point(place + 0.1 + (number + 0.92) * width, 0.0)
            label = f"{name}, {group}: {value:.1f}"
            parts.append(_bar(left, top, right - left, bottom - top, colours[name], label))
    # Slanted names reach further down.
    below = max(0.0, _SLOPE * longest + 14 - (HEIGHT - axes.bottom)) if crowded else 0.0
    return svg([*parts, *legend(colours)], title, HEIGHT + below)


def share_rows(title: str, rows: Mapping[str, Mapping[str, int]], colours: Mapping[str, str]) -> str:
    """A bar of full width per row, divided by the counts of its kinds, as an ``<svg>`` element.

    Args:
        title: above the rows.
        rows: counts by kind, by the name of the row.
        colours: of the kinds, in the order in which they are drawn.
    """
    left = 14.0 + _CHARACTER * max((len(name) for name in rows), default=0)
    top, whole = 26.0, WIDTH - 12.0 - left
    parts = [text(8.0, 14, title, "font-weight='600'")]
    for place, (name, counts) in enumerate(rows.items()):
        row, total, column = top + place * _ROW, sum(counts.values()), left
        parts.append(text(left - 6, row + 13, name, "text-anchor='end'"))
        for kind, colour in colours.items():
            if not counts.get(kind):
                continue
            width = whole * counts[kind] / total
            parts.append(_bar(column, row, width, _ROW - 5, colour, f"{name}: {kind} {counts[kind]} of {total}"))
            if width > 8 + 7 * len(str(counts[kind])):
                parts.append(text(column + width / 2, row + 13, str(counts[kind]), "text-anchor='middle' fill='#fff'"))
            column += width
    keys = legend(colours, top + len(rows) * _ROW + 8)
    lines = 1 + sum(_CHARACTER * len(kind) + 26 for kind in colours) // (WIDTH - 140)
    return svg([*parts, *keys], title, top + len(rows) * _ROW + 12 + lines * LEGEND_ROW)


def _group_label(column: float, bottom: float, name: str, small: str, crowded: bool) -> list[str]:
    if crowded:
        x, y = column + 4, bottom + 11
        return [text(x, y, name, f"text-anchor='end' transform='rotate(-40 {x:.1f} {y:.1f})'")]
    below = text(column, bottom + 23, small, "text-anchor='middle' font-size='9'")
    return [text(column, bottom + 13, name, "text-anchor='middle'"), below]


def _bar(x: float, y: float, width: float, height: float, colour: str, label: str) -> str:
    box = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.0):.2f}" height="{max(height, 0.0):.2f}"'
    return f'<rect {box} fill="{colour}"><title>{html.escape(label)}</title></rect>'
