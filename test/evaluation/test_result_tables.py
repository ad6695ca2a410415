"""Tables: unweighted means, medians, recalls, order, and the evaluation conditions in every output."""

import dataclasses
import json

import pytest
from instance_results import instance

from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.result_tables import markdown_table, object_rows, summary_row, write_json


@pytest.fixture
def evaluation():
    results = (
        instance("10", 0.9, 4.0),
        instance("2", 0.2, 20.0, chance_score=0.4),
        instance("2", 0.4, 12.0, chance_score=0.0),
        instance("2", 0.6, 7.0),
    )
    return Evaluation(
        "my | model", "paper", "AR_VSD", "protocol paper; δ 15 mm", True, results, {"without_box": 3, "x": 0}
    )


def test_rows_are_means_medians_and_recalls_an_object(evaluation):
    two, ten = object_rows(evaluation)
    assert (two.class_id, ten.class_id) == ("2", "10")  # numeric order
    assert (two.instances, ten.instances) == (3, 1)
    assert two.score == pytest.approx(0.4) and two.rotation_error_deg_median == 12.0
    assert two.recalls["recall_deg"] == pytest.approx((0.0, 1 / 3, 2 / 3))
    assert two.chance_score == pytest.approx(0.2) and two.oracle_score == pytest.approx(0.5)
    assert ten.metrics["oracle_rotation_error_deg_median"] == 2.0


def test_the_mean_over_objects_is_unweighted_and_angles_are_pooled(evaluation):
    row = summary_row(evaluation)
    assert row.score == pytest.approx((0.4 + 0.9) / 2)
    assert row.oracle_score == pytest.approx((0.5 + 1.0) / 2)
    assert row.instances == 4 and row.rotation_error_deg_median == pytest.approx(9.5)
    assert row.recalls["recall_deg"] == pytest.approx((0.25, 0.5, 0.75))


def test_markdown_has_every_row_the_baseline_and_the_conditions(evaluation):
    lines = markdown_table(evaluation).splitlines()
    assert "baseline AR_VSD %" in lines[0] and "oracle AR_VSD %" in lines[0]
    assert lines[2] == "| 2 | 3 | 40.0 | 12.0 | 0.0 | 33.3 | 66.7 | 20.0 | 100.0 | 50.0 | 6.0 |"
    assert lines[4].startswith("| mean | 4 | 65.0 | 9.5 |")
    assert "Evaluation conditions: protocol paper; δ 15 mm." in lines[6]
    assert "Instances left out: without_box 3." in lines[7]


def test_the_reliability_of_expected_errors_follows_where_there_are_some(evaluation, tmp_path):
    results = tuple(instance("1", 0.5, 2.0 * n, expected_deg=float(n)) for n in range(1, 21))
    known = dataclasses.replace(evaluation, instances=(*results, instance("1", 0.5, 90.0)))
    text = markdown_table(known)
    assert "20 instances in groups of rising expectation, 1 without one left out. Rank correlation 1.00; " in text
    assert "mean expected 10.5°, mean true 21.0°." in text
    assert "| 1.0–10.0 | 10 | 5.5 | 11.0 | 5.5 | 11.0 | 20.0 | 40.0 | 70.0 |" in text.splitlines()
    assert "| 7 | 30.0 | 66.7 |" in text.splitlines()
    assert "xpected" not in markdown_table(evaluation)
    write_json([known, evaluation], tmp_path / "r.json")
    first, second = json.loads((tmp_path / "r.json").read_text())["evaluations"]
    assert second["reliability"] is None and second["instances"][0]["expected_deg"] is None
    assert first["instances"][4]["expected_deg"] == 5.0 and first["reliability"]["groups"][1]["true_median"] == 31.0
    assert first["reliability"]["rules"][2] == {"below": 7.0, "answers": 0.3, "useful": pytest.approx(2 / 3)}


def test_json_holds_conditions_summary_objects_and_instances(evaluation, tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json([evaluation, evaluation], path)
    first, second = json.loads(path.read_text())["evaluations"]
    assert first == second
    assert first["protocol_line"] == evaluation.protocol_line and first["skipped"] == {"without_box": 3, "x": 0}
    assert first["summary"]["score"] == pytest.approx(0.65)
    assert [row["class_id"] for row in first["objects"]] == ["2", "10"]
    assert first["instances"][1]["e_vsd"] == [0.1, 0.2] and first["instances"][1]["chance_score"] == 0.4
