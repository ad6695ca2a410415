"""Bars are as high, and shares as wide, as their values."""

from xml.etree import ElementTree

import pytest

from shared_pose_ros.plots import COLOURS, FAINT, Axes
from shared_pose_ros.report.charts import grouped_bars, share_rows


def bars_of(svg):
    """Bars by the text under the pointer: (x, y, width, height, colour)."""
    return {
        rect.findtext("title"): (*(float(rect.get(name)) for name in ("x", "y", "width", "height")), rect.get("fill"))
        for rect in svg.iter("rect")
        if rect.find("title") is not None
    }


def test_grouped_bars_stand_on_the_axis_and_reach_their_values():
    groups = {"a<b": "n = 3", "c": "n = 1"}
    values = {"net": [40.0, 120.0], "chance": [10.0, None]}
    svg = ElementTree.fromstring(grouped_bars("t", groups, values, "object", 100.0, ("chance",)))
    bars, axes = bars_of(svg), Axes((0.0, 2.0), (0.0, 100.0))
    assert set(bars) == {"net, a<b: 40.0", "net, c: 120.0", "chance, a<b: 10.0"}
    for name, top in (("net, a<b: 40.0", 40.0), ("net, c: 120.0", 100.0), ("chance, a<b: 10.0", 10.0)):
        x, y, width, height, colour = bars[name]
        assert y == pytest.approx(axes.point(0, top)[1], abs=0.01)
        assert y + height == pytest.approx(axes.bottom, abs=0.02)
        assert colour == (FAINT if "chance" in name else COLOURS[0])
        group = 0 if "a<b" in name else 1
        assert axes.point(group, 0)[0] < x < x + width < axes.point(group + 1, 0)[0]
    assert bars["net, a<b: 40.0"][0] + bars["net, a<b: 40.0"][2] < bars["chance, a<b: 10.0"][0]
    assert {"a<b", "n = 3", "object", "net", "chance"} <= set(svg.itertext())
    ElementTree.fromstring(grouped_bars("t", {}, {}, "x", 1.0))


def test_names_that_do_not_fit_are_slanted_within_the_picture():
    names = [f"hexagon_bolt_{number}" for number in range(12)]
    svg = ElementTree.fromstring(grouped_bars("t", dict.fromkeys(names, "n = 1"), {"a": [1.0] * 12}, "object", 2.0))
    slanted = [text for text in svg.iter("text") if text.get("transform")]
    assert [text.text for text in slanted] == names and "n = 1" not in list(svg.itertext())
    lowest = max(float(text.get("y")) for text in slanted) + 0.64 * 5.5 * len(names[-1])
    assert lowest < float(svg.get("height"))
    few = ElementTree.fromstring(grouped_bars("t", dict.fromkeys(names[:3], "n = 1"), {"a": [1.0] * 3}, "object", 2.0))
    assert not any(text.get("transform") for text in few.iter("text"))


def test_shares_divide_the_row_by_their_counts():
    colours = {"correct": "#111111", "flip": "#222222", "unused": "#333333"}
    svg = ElementTree.fromstring(share_rows("t", {"27": {"flip": 6, "correct": 2}, "1": {"correct": 5}}, colours))
    bars = bars_of(svg)
    assert set(bars) == {"27: correct 2 of 8", "27: flip 6 of 8", "1: correct 5 of 5"}
    correct, flip, whole = bars["27: correct 2 of 8"], bars["27: flip 6 of 8"], bars["1: correct 5 of 5"]
    assert flip[2] == pytest.approx(3 * correct[2], abs=0.03) and correct[2] + flip[2] == pytest.approx(
        whole[2], abs=0.03
    )
    assert flip[0] == pytest.approx(correct[0] + correct[2], abs=0.02) and whole[1] > correct[1] == flip[1]
    assert (correct[4], flip[4]) == ("#111111", "#222222")
    inside = float(svg.get("height"))
    assert all(float(text.get("y")) < inside for text in svg.iter("text"))


def test_a_long_legend_takes_more_rows_within_the_picture():
    colours = {f"90° about {number}": "#111111" for number in range(9)}
    svg = ElementTree.fromstring(share_rows("t", {"a": dict.fromkeys(colours, 1)}, colours))
    names = [text for text in svg.iter("text") if text.text in colours]
    assert len(names) == 9 and len({text.get("y") for text in names}) >= 3
    width, height = (float(svg.get(name)) for name in ("width", "height"))
    assert all(float(text.get("y")) < height and float(text.get("x")) + 5.5 * len(text.text) < width for text in names)
