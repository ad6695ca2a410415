"""Curves, histograms and scattered points as SVG for an HTML page: no library, no script, no address.

Convention: SVG pixels, x to the right, y down; a plot's area is ``Axes.left…right`` by ``Axes.top…bottom``. Ink is the
page's text colour, so that plots can be read on light and on dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 270
LEGEND_ROW = 14.0
COLOURS = ("#2f7fc4", "#e0700f", "#2c9a43", "#c9443f", "#8a66c4", "#93705f", "#808080")
FAINT = "#8a8a8a"
_MARKED = 60  # curves of at most so many points show each of them, with its value under the pointer


@dataclass(frozen=True)
class Axes:
    """From values to SVG pixels and back.

    Attributes:
        x: (low, high) of the values, both positive where ``logarithmic_x``.
        y: (low, high) of the values, both positive where ``logarithmic``.
        logarithmic: whether the y axis is.
        logarithmic_x: whether the x axis is.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool = False
    left: float = 56.0
    right: float = WIDTH - 12.0
    top: float = 34.0
    bottom: float = HEIGHT - 40.0
    logarithmic_x: bool = False

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of a value."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (*self.y, y))
        first, last, place = (math.log(v) if self.logarithmic_x else v for v in (*self.x, x))
        across = (place - first) / (last - first)
        up = (value - low) / (high - low)
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def value(self, column: float, row: float) -> tuple[float, float]:
        """Value at a pixel: the inverse of ``point``."""
        low, high = (math.log(v) if self.logarithmic else v for v in self.y)
        first, last = (math.log(v) if self.logarithmic_x else v for v in self.x)
        across = first + (column - self.left) / (self.right - self.left) * (last - first)
        up = low + (self.bottom - row) / (self.bottom - self.top) * (high - low)
        return math.exp(across) if self.logarithmic_x else across, math.exp(up) if self.logarithmic else up


def curves(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_top: float | None = None,
    logarithmic: bool = False,
    faint: Collection[str] = (),
) -> str:
    """Curves with a legend, as an ``<svg>`` element.

    Args:
        title: above the plot.
        series: points (x, y) of each curve by its name; a logarithmic axis leaves out values that are not positive,
            every axis those that are not finite.
        x_label: below the plot.
        y_top: upper end of a linear axis, which begins at 0; None takes the greatest value.
        logarithmic: whether the y axis is.
        faint: names of curves for comparison, drawn grey and dashed.
    """
    kept = {name: [p for p in points if _drawable(p, logarithmic)] for name, points in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    axes = curve_axes(kept, y_top, logarithmic)
    parts = [*frame(axes, title, x_label)]
    colours = colours_of(kept, faint)
    for name, points in kept.items():
        colour = colours[name]
        dash = ' stroke-dasharray="5 3"' if name in faint else ""
        pixels = [axes.point(x, y) for x, y in points]
        path = " ".join(f"{column:.2f},{row:.2f}" for column, row in pixels)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        if len(points) <= _MARKED:
            for (column, row), (x, y) in zip(pixels, points):
                label = html.escape(f"{name}: {y:.4g} at {x:,.7g}")
                dot = (
                    f'<circle cx="{column:.2f}" cy="{row:.2f}" r="2.2" fill="{colour}"><title>{label}</title></circle>'
                )
                parts.append(dot)
    return svg([*parts, *legend(colours)], title)


def curve_axes(series: Mapping[str, Sequence[tuple[float, float]]], y_top: float | None, logarithmic: bool) -> Axes:
    """Axes that hold every point of the series (drawable ones)."""
    points = [point for curve in series.values() for point in curve] or [(0.0, 1.0)]
    last = max(x for x, _ in points)
    values = [y for _, y in points]
    if logarithmic:
        low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
        return Axes((0.0, last or 1.0), (low, high if high > low else 10 * low), True)
    return Axes((0.0, last or 1.0), (min(0.0, *values), y_top or _round_up(max(values))))


def scatter(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, span: tuple[float, float], equal: str
) -> str:
    """Points of two quantities of one unit, both axes logarithmic, as an ``<svg>`` element.

    Args:
        title: above the plot.
        series: points (x, y) by name; what lies outside of ``span`` is drawn at its edge.
        x_label: below the plot.
        span: (low, high) of both axes, low > 0.
        equal: name of the dashed line x = y.
    """
    axes = Axes(span, span, logarithmic=True, logarithmic_x=True)
    parts, colours = frame(axes, title, x_label), colours_of([*series, equal], (equal,))
    (x1, y1), (x2, y2) = axes.point(span[0], span[0]), axes.point(span[1], span[1])
    ends = f'points="{x1:.2f},{y1:.2f} {x2:.2f},{y2:.2f}"'
    parts.append(f'<polyline {ends} fill="none" stroke="{colours[equal]}" stroke-width="1.6" stroke-dasharray="5 3"/>')
    for name, points in series.items():
        for point in points:
            column, row = axes.point(*(min(max(value, span[0]), span[1]) for value in point))
            parts.append(
                f'<circle cx="{column:.1f}" cy="{row:.1f}" r="2.2" fill="{colours[name]}" fill-opacity=".55"/>'
            )
    return svg([*parts, *legend(colours)], title)


def histogram(title: str, series: Mapping[str, Sequence[float]], edges: Sequence[float], x_label: str) -> str:
    """Bars side by side: the share of each series' values, in percent, between neighbouring edges.

    The last bin includes its upper edge. Returns an ``<svg>`` element.
    """
    shares = {name: bin_shares(values, edges) for name, values in series.items()}
    top = _round_up(max((100 * share for column in shares.values() for share in column), default=1.0))
    axes = Axes((edges[0], edges[-1]), (0.0, top))
    parts, colours = [*frame(axes, title, x_label)], colours_of(shares)
    for number, (name, column) in enumerate(shares.items()):
        colour = colours[name]
        for low, high, share in zip(edges, edges[1:], column):
            width = (high - low) * 0.86 / len(shares)
            x, y = axes.point(low + 0.07 * (high - low) + number * width, 100 * share)
            right, bottom = axes.point(low + 0.07 * (high - low) + (number + 1) * width, 0.0)
            label = html.escape(f"{name}: {100 * share:.1f} % at {low:g} to {high:g}")
            parts.append(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{right - x:.2f}" height="{bottom - y:.2f}" fill="{colour}">'
                f"<title>{label}</title></rect>"
            )
    return svg([*parts, *legend(colours)], title)


def bin_shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Share of the values in each bin [low, high), the last one [low, high]; zeros where there are no values."""
    pairs = list(zip(edges, edges[1:]))
    counts = [
        sum(low <= value < high or (high == edges[-1] and value == high) for value in values) for low, high in pairs
    ]
    return [count / max(len(values), 1) for count in counts]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high, about so many: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from low to high, both positive."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]


def short(value: float) -> str:
    """A tick's label: 20000 as 20k, 1500000 as 1.5M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:.4g}"


def _drawable(point: tuple[float, float], logarithmic: bool) -> bool:
    return math.isfinite(point[1]) and (point[1] > 0 or not logarithmic)


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(f * power for f in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if f * power >= value * 0.999)


def frame(axes: Axes, title: str, x_label: str, x_ticks: bool = True) -> list[str]:
    """Title, grid, ticks and label of the x axis, as SVG elements; ``x_ticks`` False leaves the x ticks to others."""
    parts = [text(axes.left, 14, title, "font-weight='600'")]
    (low, high), bottom = axes.y, axes.bottom
    if axes.logarithmic and axes.logarithmic_x:
        marks = log_ticks(low, high)
    elif axes.logarithmic:
        marks = [10.0**k for k in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    else:
        marks = ticks(low, high)
    for mark in marks:
        row = axes.point(axes.x[0], mark)[1]
        line = f'x1="{axes.left:.1f}" x2="{axes.right:.1f}" y1="{row:.1f}" y2="{row:.1f}"'
        parts.append(f'<line {line} stroke="currentColor" stroke-opacity=".18"/>')
        parts.append(text(axes.left - 6, row + 4, short(mark), "text-anchor='end'"))
    x_marks = log_ticks(*axes.x) if axes.logarithmic_x else ticks(*axes.x, about=6)
    for mark in x_marks if x_ticks else ():
        column = axes.point(mark, high)[0]
        line = f'x1="{column:.1f}" x2="{column:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"'
        parts.append(f'<line {line} stroke="currentColor" stroke-opacity=".6"/>')
        parts.append(text(column, bottom + 17, short(mark), "text-anchor='middle'"))
    label = text((axes.left + axes.right) / 2, HEIGHT - 6, x_label, "text-anchor='middle' fill-opacity='.75'")
    return [*parts, label]


def colours_of(names: Collection[str], faint: Collection[str] = ()) -> dict[str, str]:
    """A colour for each name, in order; grey for the faint ones."""
    strong = [name for name in names if name not in faint]
    chosen = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(strong)}
    return {name: chosen.get(name, FAINT) for name in names}


def legend(colours: Mapping[str, str], top: float = 21.0) -> list[str]:
    """A coloured mark and the name of each series, in rows from ``top`` down; one row has place under the title."""
    parts, column = [], 58.0
    for name, colour in colours.items():
        width = 26 + 6.2 * len(name)
        if column + width > WIDTH and column > 58.0:
            column, top = 58.0, top + LEGEND_ROW
        parts.append(f'<rect x="{column:.1f}" y="{top:g}" width="10" height="4" fill="{colour}"/>')
        parts.append(text(column + 14, top + 6, name))
        column += width
    return parts


def text(x: float, y: float, content: str, attributes: str = "") -> str:
    """A text element; ``attributes`` may set its own fill."""
    ink = "" if "fill=" in attributes else ' fill="currentColor"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{ink} {attributes}>{html.escape(content)}</text>'


def svg(parts: Sequence[str], title: str, height: float = HEIGHT) -> str:
    """The ``<svg>`` element around the parts; the title is its text for who cannot see it."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" role="img"'
    label = html.escape(title)
    return f'{head} aria-label="{label}" font-size="11" font-family="sans-serif">' + "".join(parts) + "</svg>"
