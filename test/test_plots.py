"""Curves go through their points, bars are as high as their shares."""

import math
from xml.etree import ElementTree

import pytest

from shared_pose_ros.plots import (
    COLOURS,
    FAINT,
    Axes,
    bin_shares,
    curve_axes,
    curves,
    histogram,
    log_ticks,
    scatter,
    short,
    ticks,
)


def drawn(svg, axes):
    """Points of every polyline of an ``<svg>`` as values."""
    lines = [line.get("points").split() for line in ElementTree.fromstring(svg).iter("polyline")]
    return [[axes.value(*map(float, pair.split(","))) for pair in line] for line in lines]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_go_through_the_recorded_values(logarithmic):
    series = {
        "falls": [(10_000.0 * k, 90.0 / k) for k in range(1, 9)],
        "rises": [(10_000.0 * k, 0.5 * k) for k in range(1, 9)],
    }
    axes = curve_axes(series, None, logarithmic)
    found = drawn(curves("t", series, "samples", logarithmic=logarithmic), axes)
    assert len(found) == 2
    for points, expected in zip(found, series.values()):
        for (x, y), (true_x, true_y) in zip(points, expected, strict=True):
            assert x == pytest.approx(true_x, abs=20)
            assert y == pytest.approx(true_y, rel=0.01) if logarithmic else y == pytest.approx(true_y, abs=0.01)


def test_a_logarithmic_plot_leaves_out_what_is_off():
    series = {"off": [(1.0, 0.0), (2.0, 0.0)], "late": [(1.0, 0.0), (2.0, 3.0), (3.0, math.nan), (4.0, 5.0)]}
    svg = ElementTree.fromstring(curves("t", series, "x", logarithmic=True))
    (line,) = svg.iter("polyline")
    assert len(line.get("points").split()) == 2
    assert "late" in svg.itertext() and "off" not in list(svg.itertext())
    assert [dot.findtext("title") for dot in svg.iter("circle")] == ["late: 3 at 2", "late: 5 at 4"]


def test_curves_for_comparison_are_grey_and_dashed():
    series = {"chance": [(0.0, 0.0), (1.0, 1.0)], "a": [(0.0, 0.0), (1.0, 2.0)]}
    svg = ElementTree.fromstring(curves("t", series, "x", faint=("chance",)))
    chance, strong = svg.iter("polyline")
    assert chance.get("stroke") == FAINT and chance.get("stroke-dasharray")
    assert strong.get("stroke") == COLOURS[0] and not strong.get("stroke-dasharray")
    assert [mark.get("fill") for mark in svg.iter("rect")] == [FAINT, COLOURS[0]]


def test_ink_is_the_colour_of_the_page():
    svg = ElementTree.fromstring(curves("t", {"a": [(0.0, 0.0), (1.0, 2.0)]}, "x"))
    assert {text.get("fill") for text in svg.iter("text")} == {"currentColor"}
    assert {line.get("stroke") for line in svg.iter("line")} == {"currentColor"}


def test_plots_of_nothing_and_of_one_value_are_drawn():
    for series in ({}, {"a": []}, {"a": [(0.0, 0.0)]}, {"a": [(5.0, 7.0)]}):
        for logarithmic in (False, True):
            ElementTree.fromstring(curves("t & <u>", series, "x", logarithmic=logarithmic))


def test_scattered_points_lie_at_their_values_and_at_the_edge_beyond():
    points = [(1.0, 2.0), (50.0, 3.0), (0.01, 400.0)]
    svg = ElementTree.fromstring(scatter("t", {"a": points}, "x", (0.5, 180.0), "equal"))
    axes = Axes((0.5, 180.0), (0.5, 180.0), True, logarithmic_x=True)
    found = [axes.value(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.iter("circle")]
    for pair, expected in zip(found, [(1.0, 2.0), (50.0, 3.0), (0.5, 180.0)], strict=True):
        assert pair == pytest.approx(expected, rel=0.01)
    (line,) = svg.iter("polyline")
    ends = [axes.value(*map(float, pair.split(","))) for pair in line.get("points").split()]
    assert ends[0] == pytest.approx((0.5, 0.5), rel=1e-3) and ends[1] == pytest.approx((180.0, 180.0), rel=1e-3)
    labels = [text.text for text in svg.iter("text")]
    assert {"0.5", "1", "2", "5", "10", "20", "50", "100", "a", "equal"} <= set(labels) and "200" not in labels


def test_bars_are_as_high_as_their_shares():
    values = [0.0, 5.0, 15.0, 15.0, 29.9, 180.0]
    edges = (0, 15, 30, 180)
    assert bin_shares(values, edges) == [2 / 6, 3 / 6, 1 / 6] and bin_shares([], edges) == [0, 0, 0]
    svg = ElementTree.fromstring(histogram("t", {"a": values, "b": [1.0]}, edges, "degrees"))
    bars = [rect for rect in svg.iter("rect") if rect.find("title") is not None]
    heights = [float(bar.get("height")) for bar in bars]
    assert len(bars) == 6
    assert [height / heights[3] for height in heights] == pytest.approx([2 / 6, 3 / 6, 1 / 6, 1, 0, 0], abs=1e-3)
    ends = [float(bar.get("y")) + float(bar.get("height")) for bar in bars]
    assert ends == pytest.approx([Axes((0, 1), (0, 1)).bottom] * 6, abs=0.02)
    spans = sorted((float(bar.get("x")), float(bar.get("x")) + float(bar.get("width"))) for bar in bars)
    assert all(end <= start + 0.02 for (_, end), (start, _) in zip(spans, spans[1:]))


def test_ticks_are_round():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100] and ticks(0, 1.2e6, 6) == [0, 2e5, 4e5, 6e5, 8e5, 1e6, 1.2e6]
    assert log_ticks(0.5, 180.0) == pytest.approx([0.5, 1, 2, 5, 10, 20, 50, 100]) and log_ticks(3.0, 4.0) == []
    assert [short(value) for value in (0, 20_000, 1.5e6, 0.002, 90)] == ["0", "20k", "1.5M", "0.002", "90"]
