"""Tables and plots of an evaluation's report say what the results say."""

import dataclasses
from xml.etree import ElementTree

import pytest
from evaluation_scene import objects
from instance_results import instance

from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.result_tables import BASELINE
from shared_pose_ros.report.error_statistics import BOX, OFF_AXIS, VISIBILITY
from shared_pose_ros.report.sections import (
    by_factor,
    by_object,
    factors,
    headline,
    recall_curves,
    summary,
)

RESULTS = (
    instance("1", 0.9, 4.0, visib=0.99, off_axis_deg=3.0, e_vsd=(0.05,) * 10, chance_e_vsd=(0.35, 0.8)),
    instance("1", 0.3, 20.0, visib=0.3, off_axis_deg=12.0, e_vsd=(0.45,) * 10, chance_e_vsd=(0.6, 0.8)),
    instance("2", 0.5, 12.0, gt_id=1, visib=0.3, off_axis_deg=3.0, e_vsd=(0.15,) * 10, chance_e_vsd=(0.9, 0.9)),
)


def evaluation(corrected=True, results=RESULTS, **values):
    made = Evaluation("net", "paper", "AR_VSD", "protocol paper; a & b", corrected, results, {"without_box": 3, "x": 0})
    return dataclasses.replace(made, **values)


def parsed(markup):
    return ElementTree.fromstring("<div>" + "".join(markup) + "</div>")


def cells(markup):
    """Rows of every table, heads included, unbreakable spaces as spaces."""
    return [
        [[(cell.text or "").replace("\u00a0", " ") for cell in row] for row in table.findall("tr")]
        for table in parsed(markup).iter("table")
    ]


def pointed(markup):
    """What stands under the pointer at every mark of the plots."""
    return [title.text for title in parsed(markup).iter("title")]


def test_the_headline_has_score_baseline_and_weakest_object():
    assert headline(evaluation()) == (
        "net: AR_VSD 55.0 %, where random rotations reach 20.0 %; median rotation error 12.0° over 3 instances of 2 "
        "objects. 1 of 3 are off by 15° or more; the weakest object is 2 with 50.0 %."
    )


def test_the_summary_ends_with_the_baseline_and_has_all_conditions():
    group = {"corrected": evaluation(), "not corrected": evaluation(False, protocol_line="protocol paper; c")}
    (table,) = cells(summary(group, objects()))
    assert table[0][:3] == ["", "instances", "AR_VSD %"] and table[0][-3:] == ["< 5° %", "< 10° %", "< 15° %"]
    assert table[1] == ["corrected", "3", "55.0", "65.0", "12.0", "6.0", "33.3", "33.3", "66.7"]
    assert [row[0] for row in table[1:]] == ["corrected", "not corrected", BASELINE]
    assert table[-1][1:5] == ["3", "20.0", "–", "100.0"]
    # (θ − sin θ)/π at 15°, twice that for the two instances of the object with a half turn.
    assert float(table[-1][-1]) == pytest.approx(100 * (2 * 2 + 1) / 3 * 0.000949, abs=0.1)
    said = [p.text for p in parsed(summary(group, None)).iter("p")]
    assert said == [
        "corrected: protocol paper; a & b. Left out: without_box 3.",
        "not corrected: protocol paper; c. Left out: without_box 3.",
    ]
    assert cells(summary(group, None))[0][-1][-3:] == ["–"] * 3


def test_objects_have_a_row_and_a_bar_each():
    markup = by_object({"net": evaluation()})
    (table,) = cells(markup)
    assert [row[0] for row in table] == ["object", "1", "2", "mean"]
    assert table[1] == ["1", "2", "60.0", "20.0", "70.0", "12.0", "100.0", "6.0", "50.0", "50.0", "50.0"]
    assert "net, 1: 60.0" in pointed(markup) and f"{BASELINE}, 2: 20.0" in pointed(markup)
    assert "net, 1: 12.0" in pointed(markup) and "n = 2" in list(parsed(markup).itertext())
    both = by_object({"a": evaluation(), "b": evaluation(False, RESULTS[:1])})
    assert [h.text for h in parsed(both).iter("h4")] == ["a", "b"] and len(cells(both)) == 2


def test_factors_have_a_row_a_bin():
    (by_visibility,) = cells(by_factor({"net": evaluation()}, VISIBILITY))
    assert [row[:3] for row in by_visibility] == [
        ["visible share", "instances", "score %"], ["20–40 %", "2", "40.0"], ["≥ 95 %", "1", "90.0"],
    ]  # fmt: skip
    (by_angle,) = cells(by_factor({"net": evaluation()}, OFF_AXIS))
    assert [row[:3] for row in by_angle[1:]] == [["0–5°", "2", "70.0"], ["10–15°", "1", "30.0"]]


def test_bars_of_a_bin_that_one_system_lacks_are_left_out():
    markup = by_factor({"a": evaluation(), "b": evaluation(False, RESULTS[:1])}, VISIBILITY)
    assert "a, 20–40 %: 40.0" in pointed(markup) and not any("b, 20–40 %" in text for text in pointed(markup))
    assert "b, ≥ 95 %: 90.0" in pointed(markup)


def test_systems_that_saw_different_instances_are_told_apart():
    one, other = evaluation(results=RESULTS[:2]), evaluation(results=RESULTS[2:], system="other")
    markup = by_object({"net": one, "other": other})
    assert "net, 1: 60.0" in pointed(markup) and "other, 2: 50.0" in pointed(markup)
    assert f"{BASELINE}, 1: 20.0" in pointed(markup) and f"{BASELINE}, 2: 20.0" in pointed(markup)
    said = "Not all evaluations cover the same instances; the baseline is that of net."
    assert said in "".join(parsed(summary({"net": one, "other": other}, None)).itertext())
    assert said not in "".join(parsed(summary({"net": one, "other": one}, None)).itertext())


def test_box_noise_is_shown_only_where_there_is_some():
    assert factors({"net": evaluation()}) == [VISIBILITY, OFF_AXIS]
    jittered = tuple(dataclasses.replace(result, box_iou=0.8) for result in RESULTS)
    assert factors({"net": evaluation(), "noisy": evaluation(results=jittered)}) == [VISIBILITY, OFF_AXIS, BOX]


def test_misses_are_wrong_everywhere_and_have_no_box():
    missed = instance(
        "2", 0.0, 180.0, gt_id=2, detected=False, box_iou=0.0, e_vsd=(1.0,) * 10, chance_score=0.0, confidence=0.0
    )
    noisy = tuple(dataclasses.replace(result, box_iou=0.8) for result in RESULTS)
    results = evaluation(results=(*noisy, missed))
    assert "2 of 4 are off by 15° or more, of them 1 missed by the detector; the weakest" in headline(results)
    (table,) = cells(by_factor({"net": results}, BOX))
    assert [row[:2] for row in table[1:]] == [["80–90 %", "3"]]
    vsd, rotation = cells(recall_curves({"net": results}, objects()))
    # Object 2: one of two below 0.2; random rotations at 0.4: a quarter of object 1's draws, none of object 2's.
    assert vsd[1][2] == "50.0" and vsd[2][4] == "12.5" and rotation[1][3] == "50.0"
    assert not factors({"net": evaluation(results=(*RESULTS, missed))})[2:]


def test_recall_curves_have_the_baseline_and_their_tables():
    markup = recall_curves({"net": evaluation()}, objects())
    vsd, rotation = cells(markup)
    assert vsd[0][:4] == ["VSD < θ, %", "0.1", "0.2", "0.3"]
    assert vsd[1][:6] == ["net", "25.0", "75.0", "75.0", "75.0", "100.0"]
    assert vsd[2][:5] == [BASELINE, "0.0", "0.0", "0.0", "12.5"] and vsd[2][-1] == "100.0"
    assert rotation[0] == ["rotation error below, %", "5°", "10°", "15°", "20°", "30°", "45°"]
    assert rotation[1] == ["net", "33.3", "33.3", "66.7", "66.7", "100.0", "100.0"]
    assert [row[0] for row in rotation[1:]] == ["net", BASELINE, "best hypothesis"]
    assert rotation[3][1:4] == ["33.3", "66.7", "100.0"]
    assert "τ = 25 % of the diameter" in "".join(parsed(markup).itertext())
    one = tuple(dataclasses.replace(result, e_vsd=result.e_vsd[:1]) for result in RESULTS)
    assert "τ = 20 mm" in "".join(recall_curves({"net": evaluation(results=one, protocol="bop18")}, None))
    assert "tolerance 5 of the protocol" in "".join(recall_curves({"net": evaluation(protocol="mine")}, None))


def test_a_baseline_that_is_not_known_is_left_out():
    unknown = tuple(dataclasses.replace(result, chance_e_vsd=()) for result in RESULTS)
    vsd, rotation = cells(recall_curves({"net": evaluation(results=unknown)}, None))
    assert [row[0] for row in vsd[1:]] == ["net"] and [row[0] for row in rotation[1:]] == ["net", "best hypothesis"]
