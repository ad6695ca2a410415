"""A metric is declared once: that of docs/extending.md reaches results, JSON, tables, report and pairs."""

import csv
import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluation_scene import StandInEstimator, turn
from extending import defined, shown

from shared_pose_ros.evaluation import metrics, pose_metrics
from shared_pose_ros.evaluation.bop_results import evaluation_estimates
from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_metrics import METRICS, PoseMetric, table_metrics
from shared_pose_ros.evaluation.protocols import DetectionNoise, Protocol, get_protocol
from shared_pose_ros.evaluation.result_tables import markdown_table, object_rows, write_json
from shared_pose_ros.evaluation.results_scoring import score_results
from shared_pose_ros.report.page import write_report
from shared_pose_ros.report.system_tables import System, accuracy_table, write_tables

BASELINE = RandomRotationBaseline(draws=5)
FUNCTION, ENTRY = shown("A new metric")


@pytest.fixture
def tilt(monkeypatch):
    """The documented metric."""
    names = {**vars(pose_metrics), **defined(FUNCTION, metrics)}
    metric = eval(ENTRY, names)
    monkeypatch.setitem(METRICS, metric.name, metric)
    return metric


def evaluated(dataset, scorer, protocol="paper", **changes):
    """The first hypothesis is off by 60° about x, so that z is too; the second is exact."""
    estimator = StandInEstimator(dataset, error=turn([1, 0, 0], 60))
    protocol = get_protocol(protocol).changed(**changes)
    return evaluate_bundle(estimator, dataset, scorer, protocol, baseline=BASELINE)[0]


def test_the_built_in_metrics_are_those_of_the_committed_results():
    assert list(METRICS) == ["mssd", "mspd", "rotation_deg", "add", "adi"]
    assert [metric.column for metric in table_metrics()] == ["rotation_error_deg_median"]
    assert table_metrics()[0].limit_heads == ["< 5° %", "< 10° %", "< 15° %"] and METRICS["mssd"].shown(0.01) == 10.0


def test_results_hold_a_new_metric_beside_best_hypothesis_and_baseline(tilt, dataset, scorer):
    for result in evaluated(dataset, scorer).instances:
        assert result.metrics["tilt_deg"] == pytest.approx(60.0) and result.metrics["oracle_tilt_deg"] < 0.05
        drawn = BASELINE.rotations(result.scene_id, result.im_id, result.gt_id)
        truth = np.array(result.truth_rotation).reshape(3, 3)
        angles = np.degrees(np.arccos(drawn[:, :, 2] @ truth[:, 2]))
        assert result.metrics["chance_tilt_deg"] == pytest.approx(np.median(angles))


def test_a_missed_instance_counts_as_the_metric_says(tilt, dataset, scorer):
    evaluation = evaluated(dataset, scorer, boxes=DetectionNoise(miss=1 - 1e-9))
    for result in evaluation.instances:
        assert {result.metrics[f"{source}tilt_deg"] for source in ("", "oracle_", "chance_")} == {180.0}


def test_tables_and_json_have_its_columns(tilt, dataset, scorer, tmp_path):
    evaluation = evaluated(dataset, scorer)
    header, _, first, *_ = markdown_table(evaluation).splitlines()
    cells = dict(zip(header.strip("| ").split(" | "), first.strip("| ").split(" | ")))
    assert (cells["tilt °"], cells["tilt < 5° %"], cells["tilt < 10° %"]) == ("60.0", "0.0", "0.0")
    assert cells["oracle tilt °"] == "0.0" and 10 < float(cells["baseline tilt °"]) < 170
    write_json([evaluation], tmp_path / "scores.json")
    (found,) = json.loads((tmp_path / "scores.json").read_text())["evaluations"]
    assert found["instances"][0]["tilt_deg"] == pytest.approx(60.0)
    assert found["objects"][0]["tilt_deg_median"] == pytest.approx(60.0)
    assert {"chance_tilt_deg_median", "oracle_tilt_deg_median", "tilt_deg_recall"} <= set(found["summary"])
    assert object_rows(evaluation)[0].recalls["tilt_deg_recall"] == (0.0, 0.0)


def test_the_report_shows_it(tilt, dataset, scorer, tmp_path):
    page = write_report(tmp_path, "t", [evaluated(dataset, scorer)], objects=scorer.objects).read_text(encoding="utf-8")
    heads = [cell.text.replace("\u00a0", " ") for cell in ElementTree.fromstring(page).iter("th") if cell.text]
    assert {"tilt, median °", "tilt °", "baseline °", "best hypothesis °", "tilt < 5° %"} <= set(heads)
    assert "Tilt, median, degrees" in page


def test_the_systems_table_and_its_csv_have_a_row(tilt, dataset, scorer, tmp_path):
    systems = [System("one", (evaluated(dataset, scorer),), 100)]
    write_tables(systems, [accuracy_table(systems)], "m", "T", tmp_path)
    lines = [line for line in (tmp_path / "accuracy.csv").read_text().splitlines() if not line.startswith("#")]
    rows = {row[0]: row[1:] for row in csv.reader(lines)}
    assert rows["tilt, median °"][:2] == ["60.0", "0.0"] and rows["tilt under 10° %"][0] == "0.0"


def test_a_scored_file_has_it_and_a_protocol_may_average_its_recall(tilt, dataset, scorer, monkeypatch):
    # 60° is below the second threshold, not below the first.
    scaled = lambda values, seen: values / 180.0  # noqa: E731
    monkeypatch.setitem(METRICS, tilt.name, dataclasses.replace(tilt, thresholds=(0.2, 0.4), scaled=scaled))
    evaluation = evaluated(dataset, scorer)
    protocol = Protocol(name="mine", score="AR", recalls=("tilt_deg",))
    scoring = score_results(evaluation_estimates(evaluation, dataset), dataset, scorer, protocol, BASELINE)
    assert [pair.metrics["tilt_deg"] for pair in scoring.pairs] == pytest.approx([60.0] * 4)
    total = scoring.recalls.total
    assert set(total) == {"AR_VSD", "AR_TILT_DEG", "AR"} and total["AR_TILT_DEG"] == 0.5
    assert total["AR"] == np.mean([total["AR_VSD"], total["AR_TILT_DEG"]])
    own = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, protocol, baseline=BASELINE)[0]
    assert {result.score for result in own.instances} == {1.0}


def test_lengths_are_shown_in_millimetres():
    metric = dataclasses.replace(METRICS["mssd"], summary="mean", limits=(0.002,))
    assert (metric.head, metric.limit_heads, metric.column) == ("MSSD mm", ["MSSD < 2 mm %"], "mssd_mean")
    assert metric.text(0.0123) == "12.3" and metric.summarised([0.001, 0.002, 0.006]) == pytest.approx(0.003)


def test_a_metric_may_be_better_where_it_is_larger():
    metric = PoseMetric("fit", "fit", "", lambda seen: seen.rotation, lambda model, width: 0.0, "median", (0.5,), True)
    assert metric.best(np.array([0.2, 0.9])) == 0.9 and metric.within([0.2, 0.6, 0.9]) == (pytest.approx(2 / 3),)
    assert metric.limit_heads == ["fit > 0.5 %"] and metric.head == "fit" and metric.recall_column == "fit_recall"
