"""Confusion, calibration and the list of instances, as markup."""

import dataclasses

import pytest
from evaluation_scene import objects, turn
from instance_results import instance
from test_sections import cells, evaluation, parsed, pointed

from shared_pose_ros.report.failures import calibration, confusion, expected_errors, instance_table
from shared_pose_ros.report.residual_rotations import residuals

TRUTH = turn([1, 2, 3], 77)


def turned(class_id, axis, degrees, **values):
    rotation = TRUTH @ turn(axis, degrees)
    return instance(
        class_id, 0.5, degrees, rotation=tuple(rotation.ravel()), truth_rotation=tuple(TRUTH.ravel()), **values
    )


@pytest.fixture
def flipped():
    """Object 2 upside down in 6 of 8, object 1 correct."""
    results = [turned("2", [1, 0, 0], 180.0)] * 6 + [turned("2", [1, 0, 0], 3.0), turned("2", [1, 2, 3], 40.0)]
    return evaluation(results=(*results, turned("1", [0, 1, 0], 4.0)))


def test_the_reader_sees_what_is_upside_down(flipped):
    markup = confusion(flipped, residuals(flipped.instances, objects()))
    (table,) = cells(markup)
    assert table == [
        ["object", "instances", "correct", "residual rotations of the others", "their median error °"],
        ["1", "1", "1", "–", "–"],
        ["2", "8", "1", "180° about x 6, near miss 1", "180"],
    ]
    assert "2: 180° about x 6 of 8" in pointed(markup)
    assert confusion(flipped, [None] * 9) == []


def test_rare_rotations_share_a_colour_but_keep_their_names():
    axes = ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0])
    results = [turned("2", axis, 180.0) for number, axis in enumerate(axes) for _ in range(9 - number)]
    markup = confusion(evaluation(results=tuple(results)), residuals(results, objects()))
    total = sum(9 - number for number in range(7))
    assert f"2: 180° about x 9 of {total}" in pointed(markup)
    assert f"2: other rotation 7 of {total}" in pointed(markup)  # 4 + 3, the sixth and the seventh
    assert "180° about x−y 3" in cells(markup)[0][1][3]
    legend = [text.text for text in parsed(markup).iter("text")]
    assert "180° about x+z" in legend and "180° about y+z" not in legend


def test_calibration_names_what_correct_means_and_counts_every_bin():
    results = [
        instance("1", 0.5, degrees, confidence=c) for c, degrees in ((0.82, 1), (0.88, 90), (0.36, 2), (0.32, 3))
    ]
    markup = calibration({"net": evaluation(results=tuple(results))})
    text = "".join(parsed(markup).itertext())
    # (2·|0.5 − 0.85| + 2·|1 − 0.34|)/4
    assert "Correct is a rotation error below 15°" in text and "net 50.5 %" in text
    bins, kept = cells(markup)
    assert bins[1:] == [["30–40", "2", "34.0", "100.0"], ["80–90", "2", "85.0", "50.0"]]
    assert kept[1] == ["32.0", "100.0", "75.0", "100.0"] and kept[-1] == ["88.0", "25.0", "0.0", "0.0"]
    assert "net, 80–90: 50.0" in pointed(markup) and "mean confidence, 80–90: 85.0" in pointed(markup)
    assert "n = 2" in list(parsed(markup).itertext())


def test_expected_errors_are_drawn_and_tabled_where_they_are_known():
    known = evaluation(results=tuple(instance("1", 0.5, 30.0 - n, expected_deg=float(n)) for n in range(1, 21)))
    markup = expected_errors({"refined": known, "not refined": evaluation()})
    groups, rules = cells(markup)
    assert groups[1] == ["1.0–10.0", "10", "5.5", "24.5", "5.5", "24.5", "0.0", "0.0", "0.0"]
    assert rules[-1] == ["30", "100.0", "0.0"] and len(groups) == 3
    assert len(list(parsed(markup).iter("circle"))) == 20
    text = "".join(parsed(markup).itertext())
    assert "Rank correlation -1.00; mean expected 10.5°, mean true 19.5°" in text
    assert expected_errors({"net": evaluation()}) == []


def test_every_instance_has_a_row_the_worst_first(flipped):
    worst = turned("2", [0, 1, 0], 170.0, scene_id=7, confidence=0.25)
    results = (*flipped.instances, dataclasses.replace(worst, score=0.1))
    ((heads, *rows),) = cells([instance_table(evaluation(results=results), residuals(results, objects()))])
    assert len(rows) == 10 and len(heads) == len(rows[0])
    found = dict(zip(heads, rows[0]))
    assert (found["object"], found["scene"], found["AR_VSD %"], found["rotation error °"]) == ("2", "7", "10", "170.0")
    assert found["residual rotation"] == "180° about y, axis (0.0, 1.0, 0.0)" and found["confidence %"] == "25"
    assert rows[-1][6] == "·"
    lost = [dataclasses.replace(worst, detected=False)]
    assert residuals(lost, objects()) == [None]
    assert cells([instance_table(evaluation(results=tuple(lost)), [None])])[0][1][6] == "missed"
    ((_, *unknown),) = cells([instance_table(evaluation(results=results), [None] * 10)])
    assert {row[6] for row in unknown} == {"–"}
