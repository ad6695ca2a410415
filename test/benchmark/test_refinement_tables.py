"""The page on refinement shows the figures of the evaluations, and evaluates what older versions left without them."""

import json
import subprocess
from xml.etree import ElementTree

import pytest
import refinement_tables
from instance_results import instance

from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.result_tables import evaluations_to_json

COST = {"ms": {"one": 9.5, "default": 12.0, "six": 20.0, "three": 16.0, "two": 31.5},
        "machine": "a processor, 2 threads"}  # fmt: skip


def evaluated(refined: bool) -> dict:
    """As JSON: 20 instances, true errors twice the expected ones of 1…20°."""
    results = tuple(
        instance("1", 0.5, 2.0 * n, expected_deg=float(n) if refined else None) for n in range(1, 21)
    )  # fmt: skip
    made = Evaluation("net", "paper", "AR_VSD", "protocol paper", True, results, {})
    return json.loads(json.dumps(evaluations_to_json([made])))


@pytest.fixture
def page() -> str:
    return refinement_tables.page(found(), COST, evaluated(True)["evaluations"][0])


def found() -> dict:
    """Evaluations of all settings."""
    refined = {name: name in COST["ms"] for name in refinement_tables.SETTINGS}
    return {name: evaluated(has)["evaluations"][0] for name, has in refined.items()}


def test_settings_have_their_cost(page):
    rows = {line.split(" | ")[0]: line for line in reversed(page.splitlines()) if line.startswith("| ")}
    assert rows["| not refined"] == "| not refined | 50.0 | 21.0 | 10.0 | 20.0 | 35.0 | 60.0 | 0 |"
    assert rows["| all six, two steps"].endswith("| 31.5 |") and rows["| exact depth"].endswith("| 12 |")
    assert "two threads, on: a processor, 2 threads." in page.replace("\n", " ")
    drawn = refinement_tables.plot(found(), COST["ms"])
    assert all(f"21 at {spent}" in drawn for spent in ("0", "9.5", "12", "20", "16", "31.5"))
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def test_cost_is_measured_once(tmp_path, monkeypatch):
    asked = []

    def measured(settings):
        asked.append(settings)
        return {setting: float(10 * setting[0] + setting[1]) for setting in settings}

    monkeypatch.setattr(refinement_tables, "rendering_milliseconds", measured)
    for _ in range(2):
        assert refinement_tables._cost(tmp_path / "cost.json")["ms"]["two"] == 62.0
    assert len(asked) == 1


def test_rule_of_thumb_groups_and_settings_are_those_of_the_evaluations(page):
    # Of 1…4°, all are within 10° (2…8°), and they are 4 of 20.
    assert "below 5°, 100 % are within 10° of the truth. They are 20 % of all answers." in page.replace("\n", " ")
    lines = page.splitlines()
    assert "| 7 | 30.0 | 66.7 |" in lines
    assert "| 11.0–20.0 | 10 | 15.5 | 31.0 | 15.5 | 31.0 | 0.0 | 0.0 | 0.0 |" in lines
    rows = [line for line in lines if line.endswith("| 1.00 | 10.5 | 21.0 | 20.0 | 100.0 |")]
    assert len(rows) == 5 and rows[2].startswith("| three hypotheses, two steps: the default |")


def test_the_demos_parts_have_rules_and_rows_of_their_own(page):
    _, own = page.split("### On the demo's parts")
    assert "20 answers, rank correlation 1.00, mean expected 10.5°, mean true 21.0°." in own.replace("\n", " ")
    assert "| 7 | 30.0 | 66.7 |" in own.splitlines()
    assert "| 1 | 20 | 10.5 | 21.0 | 4 | 100.0 |" in own.splitlines()


def test_what_an_older_version_evaluated_is_evaluated_again(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command)
        (tmp_path / "default.json").write_text(json.dumps(evaluated(True)))

    monkeypatch.setattr(subprocess, "run", run)
    old = evaluated(True)
    del old["evaluations"][0]["reliability"]
    (tmp_path / "default.json").write_text(json.dumps(old))
    for _ in range(2):
        found = refinement_tables._evaluated("default", tmp_path, tmp_path)
        assert found["reliability"]["instances"] == 20
    assert len(commands) == 1 and "--corrected" in commands[0]
