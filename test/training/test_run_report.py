"""report.html: the facts, offline, well-formed; tables that follow from the samples."""

import dataclasses
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from training_run import TINY, make_trainer

from shared_pose_ros.plots import Axes, curve_axes
from shared_pose_ros.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from shared_pose_ros.training.config import load_preset
from shared_pose_ros.training.run_report import (
    REPORT_NAME,
    RunFacts,
    confidence_table,
    object_table,
    write_training_report,
)
from shared_pose_ros.training.training_log import read_log
from shared_pose_ros.training.validation import SampleErrors

ERRORS = np.array([[4.0, 9.0], [50.0, 10.0], [14.0, 70.0], [170.0, 160.0]])
SAMPLES = SampleErrors(
    ERRORS,
    np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.52, 0.48]]),
    np.zeros((4, 2, 3, 3)),
    np.array([0, 0, 2, 2]),
)
FACTS = RunFacts(
    class_ids=("a<b", "none", "c"),
    preset="compact",
    config=dataclasses.replace(load_preset("compact"), seed=7, samples=5000),
    samples=4000,
    earlier_samples=1000,
    samples_per_second=123.4,
    backgrounds="192 procedural pictures",
    hardware="a processor",
    commit="abc123",
    protocol="how",
)


def cells(table):
    return [[cell.text for cell in row] for row in ElementTree.fromstring(table).findall("tr")]


def page_of(path):
    """The parsed page; it must fetch nothing."""
    text = path.read_text(encoding="utf-8")
    markup = re.sub(r"data:image/png;base64,[^\"]*", "data:", text)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link", markup)
    page = ElementTree.fromstring(text)
    assert all(image.get("src").startswith("data:image/png;base64,") for image in page.iter("img"))
    return page


@pytest.fixture(scope="module")
def report(tiny_run):
    return page_of(tiny_run / REPORT_NAME)


def test_the_report_of_a_training_has_its_facts(report, tiny_run):
    text = " ".join(report.itertext())
    state = load_checkpoint(tiny_run / CHECKPOINT_NAME)
    for fact in (
        "angle, spike",
        "tiny",
        "48 of 48",
        "2 photographs of",
        state["commit"],
        "samples per second",
        "threads",
    ):
        assert fact in text, fact
    assert "stopped early" not in text and "synthetic crops" in text
    # Preset "tiny" is no file, so the settings are compared with the defaults, whose crops are as large.
    settings = {row[0].text: row[2].text for row in report.iter("tr") if len(row) == 3}
    assert settings["hypotheses"] == "2" and settings["loss.size"] == "16" and settings["synthesis.specular"] == "0, 0"
    assert "crop_size" not in settings and "defaults" in text
    assert len(list(report.iter("img"))) == 8 and len(list(report.iter("svg"))) == 5


def test_the_curves_go_through_the_log(report, tiny_run):
    records = read_log(tiny_run / "log.jsonl")
    plots = {plot.get("aria-label"): plot for plot in report.iter("svg")}
    (name,) = [name for name in plots if "median" in name]
    keys = ("validation/median_deg", "validation/oracle_median_deg")
    series = {key: [(record["samples"], record[key]) for record in records] for key in keys}
    axes = curve_axes(series, None, False)
    lines = [line.get("points").split() for line in plots[name].iter("polyline")]
    assert len(lines) == 2 and isinstance(axes, Axes)
    for line, key in zip(lines, keys):
        values = [axes.value(*map(float, pair.split(","))) for pair in line]
        assert [round(x) for x, _ in values] == [16, 32, 48]
        assert [y for _, y in values] == pytest.approx([record[key] for record in records], abs=0.01)


def test_a_time_budget_writes_a_report_too(tmp_path, photographs):
    trainer = make_trainer(tmp_path, photographs, samples=10**6)
    trainer.train(time_budget=0.2)
    page = page_of(tmp_path / REPORT_NAME)
    text = " ".join(page.itertext())
    assert "stopped early" in page.findtext("body/h1") and f"{trainer.samples:,} of 1,000,000" in text
    # Even a short run has a point to show.
    assert len(read_log(tmp_path / "log.jsonl")) >= 1


def test_facts_and_changed_settings(tmp_path):
    page = page_of(write_training_report(tmp_path / "r.html", FACTS, [], SAMPLES, {}))
    words = " ".join(page.itertext())
    for fact in ("a<b, none, c", "4,000 of 5,000, after 1,000 of earlier", "123 samples per second", "abc123", "how."):
        assert fact in words, fact
    settings = {row[0].text: (row[1].text, row[2].text) for row in page.iter("tr") if len(row) == 3}
    assert settings["seed"] == ("0", "7") and settings["samples"] == (str(load_preset("compact").samples), "5000")
    assert set(settings) == {"setting", "seed", "samples"}
    unchanged = dataclasses.replace(FACTS, config=load_preset("compact"), samples_per_second=None)
    write_training_report(tmp_path / "r.html", unchanged, [], SAMPLES, {})
    assert "No setting differs from the preset." in (tmp_path / "r.html").read_text()


def test_errors_by_object():
    heads, first, second, third, everything = cells(object_table(FACTS.class_ids, SAMPLES))
    by_head = dict(zip(heads, first))
    assert by_head["object"] == "a<b" and by_head["samples"] == "2" and by_head["median error °"] == "27.0"
    assert by_head["best hypothesis °"] == "7.0" and by_head["< 5° %"] == by_head["< 15° %"] == "50"
    assert by_head["best < 15° %"] == "100" and by_head["confidence %"] == "85"
    assert second == ["none", "0", *["-"] * 7] and third[2] == "92.0"
    assert everything[:3] == ["all", "4", "32.0"] and dict(zip(heads, everything))["< 15° %"] == "50"


def test_confidence_against_correctness():
    rows = cells(confidence_table(SAMPLES))
    assert rows[1:] == [
        ["50-60 %", "2", "54", "50", "92.0"],
        ["80-90 %", "1", "80", "0", "50.0"],
        ["90-100 %", "1", "90", "100", "4.0"],
        ["all", "4", "69", "50", "32.0"],
    ]
    certain = dataclasses.replace(SAMPLES, confidences=np.array([[1.0, 0.0]] * 4))
    assert cells(confidence_table(certain))[1][:3] == ["90-100 %", "4", "100"]


def test_the_record_in_the_checkpoint_stays_small(tiny_run):
    validation = load_checkpoint(tiny_run / CHECKPOINT_NAME)["metrics"]["validation"]
    assert set(validation) == {"protocol", "median", "oracle_median", "recall_15", "usage", "by_object"}
    assert json.loads(json.dumps(validation))["by_object"] and TINY.validation_samples == 8
