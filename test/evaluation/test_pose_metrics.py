"""A metric is declared once: the toy metric of docs/extending.md reaches results, JSON, tables, report and pairs."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluation_scene import StandInEstimator, objects, turn, write_dataset

from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_results import evaluation_estimates
from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_metrics import METRICS, PoseMetric, table_metrics
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import DetectionNoise, Protocol, get_protocol
from shared_pose_ros.evaluation.result_tables import markdown_table, object_rows, write_json
from shared_pose_ros.evaluation.results_scoring import score_results
from shared_pose_ros.report.page import write_report
from shared_pose_ros.report.system_tables import System, accuracy_table, write_tables

BASELINE = RandomRotationBaseline(draws=5)
# How far the longest axis of the estimate is from that of the truth, as a length at the object's rim.
TILT = PoseMetric(
    name="tilt",
    title="tilt",
    unit="m",
    error=lambda seen: seen.model.diameter / 2 * (seen.rotation[:, :, 0] - seen.rotation_truth[:, 0]).norm(dim=1),
    worst=lambda model, width: model.diameter,
    summary="mean",
    limits=(0.002,),
    thresholds=(0.25, 0.6),
    scaled=lambda values, seen: values / seen.model.diameter,
)


@pytest.fixture
def tilt(monkeypatch):
    monkeypatch.setitem(METRICS, TILT.name, TILT)


@pytest.fixture(scope="module")
def scorer():
    return PoseScorer(objects())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, scorer):
    root = tmp_path_factory.mktemp("data") / "two_boxes"
    write_dataset(root, scorer)
    return load_bop(root)


def evaluated(dataset, scorer, protocol="paper", **changes):
    """The first hypothesis is off by 60° about z, the second exact."""
    estimator = StandInEstimator(dataset, error=turn([0, 0, 1], 60))
    protocol = get_protocol(protocol).changed(**changes)
    return evaluate_bundle(estimator, dataset, scorer, protocol, baseline=BASELINE)[0]


def test_the_built_in_metrics_are_those_of_the_committed_results():
    assert list(METRICS) == ["mssd", "mspd", "rotation_deg", "add", "adi"]
    assert [metric.column for metric in table_metrics()] == ["rotation_error_deg_median"]
    assert table_metrics()[0].limit_heads == ["< 5° %", "< 10° %", "< 15° %"] and METRICS["mssd"].shown(0.01) == 10.0


def test_results_hold_a_new_metric_beside_best_hypothesis_and_baseline(tilt, dataset, scorer):
    # The chord of 60° is the radius.
    for result in evaluated(dataset, scorer).instances:
        radius = objects()[objects().index(result.class_id)].diameter / 2
        assert result.metrics["tilt"] == pytest.approx(radius) and result.metrics["oracle_tilt"] < 1e-6
        drawn = BASELINE.rotations(result.scene_id, result.im_id, result.gt_id)
        truth = np.array(result.truth_rotation).reshape(3, 3)
        chords = radius * np.linalg.norm(drawn[:, :, 0] - truth[:, 0], axis=1)
        assert result.metrics["chance_tilt"] == pytest.approx(np.median(chords))


def test_a_missed_instance_counts_as_the_metric_says(tilt, dataset, scorer):
    evaluation = evaluated(dataset, scorer, boxes=DetectionNoise(miss=1 - 1e-9))
    for result in evaluation.instances:
        diameter = objects()[objects().index(result.class_id)].diameter
        assert {result.metrics[f"{source}tilt"] for source in ("", "oracle_", "chance_")} == {diameter}


def test_tables_and_json_have_its_columns(tilt, dataset, scorer, tmp_path):
    evaluation = evaluated(dataset, scorer)
    header, _, first, *_ = markdown_table(evaluation).splitlines()
    cells = dict(zip(header.strip("| ").split(" | "), first.strip("| ").split(" | ")))
    radius = 500 * objects()[0].diameter
    assert cells["tilt mm"] == f"{radius:.1f}" and cells["< 2 mm %"] == "0.0"
    assert cells["oracle tilt mm"] == "0.0" and float(cells["baseline tilt mm"]) > 0
    write_json([evaluation], tmp_path / "scores.json")
    (found,) = json.loads((tmp_path / "scores.json").read_text())["evaluations"]
    assert found["instances"][0]["tilt"] == pytest.approx(radius / 1000)
    assert found["objects"][0]["tilt_mean"] == pytest.approx(radius / 1000)
    assert {"chance_tilt_mean", "oracle_tilt_mean", "tilt_recall"} <= set(found["summary"])
    assert object_rows(evaluation)[0].recalls["tilt_recall"] == (0.0,)


def test_the_report_shows_it(tilt, dataset, scorer, tmp_path):
    page = write_report(tmp_path, "t", [evaluated(dataset, scorer)], objects=scorer.objects).read_text(encoding="utf-8")
    heads = [cell.text.replace("\u00a0", " ") for cell in ElementTree.fromstring(page).iter("th") if cell.text]
    assert {"tilt, mean mm", "tilt mm", "baseline mm", "best hypothesis mm", "< 2 mm %"} <= set(heads)
    assert "Tilt, mean, mm" in page


def test_the_systems_table_and_its_csv_have_a_row(tilt, dataset, scorer, tmp_path):
    systems = [System("one", (evaluated(dataset, scorer),), 100)]
    write_tables(systems, [accuracy_table(systems)], "m", "T", tmp_path)
    lines = [line for line in (tmp_path / "accuracy.csv").read_text().splitlines() if not line.startswith("#")]
    rows = {row[0]: row[1:] for row in csv.reader(lines)}
    mean = np.mean([500 * model.diameter for model in objects()])
    assert rows["tilt, mean mm"][:2] == [f"{mean:.1f}", "0.0"] and rows["under 2 mm %"][0] == "0.0"


def test_a_scored_file_has_it_and_a_protocol_may_average_its_recall(tilt, dataset, scorer):
    evaluation = evaluated(dataset, scorer)
    protocol = Protocol(name="mine", score="AR", recalls=("tilt",))
    scoring = score_results(evaluation_estimates(evaluation, dataset), dataset, scorer, protocol, BASELINE)
    # The radius is half the diameter: below the second threshold, not below the first.
    assert [pair.metrics["tilt"] for pair in scoring.pairs] == pytest.approx(
        [500 * objects()[objects().index(result.class_id)].diameter for result in evaluation.instances]
    )
    assert set(scoring.recalls.total) == {"AR_VSD", "AR_TILT", "AR"} and scoring.recalls.total["AR_TILT"] == 0.5
    assert scoring.recalls.total["AR"] == np.mean([scoring.recalls.total[name] for name in ("AR_VSD", "AR_TILT")])
    own = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, protocol, baseline=BASELINE)[0]
    assert {result.score for result in own.instances} == {1.0}


def test_a_metric_may_be_better_where_it_is_larger():
    metric = PoseMetric("fit", "fit", "", lambda seen: seen.rotation, lambda model, width: 0.0, "median", (0.5,), True)
    assert metric.best(np.array([0.2, 0.9])) == 0.9 and metric.within([0.2, 0.6, 0.9]) == (pytest.approx(2 / 3),)
    assert metric.limit_heads == ["> 0.5 %"] and metric.head == "fit" and metric.recall_column == "fit_recall"
