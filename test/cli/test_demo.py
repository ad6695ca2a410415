"""The demo's verdict, table and summary, and what a user reads who made a mistake."""

import json
import re
import subprocess
import sys

import pytest
from checkout import ROOT
from instance_results import instance
from recorded_bag import write_two_frames

from shared_pose_ros.cli import demo
from shared_pose_ros.cli.main import main
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.replay.bag_frames import read_frames
from shared_pose_ros.replay.demo_results import Recording, latency_ms, lost_inputs, problems, summary, text_table
from shared_pose_ros.ros.diagnostics.counters import COUNTERS

NOTHING_LOST = dict.fromkeys(COUNTERS, 0)


@pytest.fixture
def evaluation():
    results = (instance("bolt", 0.9, 4.0), instance("ring", 0.5, 8.0), instance("ring", 0.7, 20.0, chance_score=0.4))
    return Evaluation("net", "paper", "AR_VSD", "protocol paper; δ 15 mm", True, results, {})


def recording(**changes):
    fields = {
        "frames_in": 2,
        "poses": {1: {"a": None, "b": None}, 2: {"a": None}},
        "requests": {1: ("a", "b"), 2: ("a",)},
        "latencies": (0.010, 0.030),
        "counters": NOTHING_LOST,
        "bundle": "net",
        "weights_sha256": "abc123",
        "exit_code": 0,
    }
    return Recording(**{**fields, **changes})


def test_a_complete_run_has_no_problems():
    assert problems(recording()) == []
    assert problems(recording(counters={}, exit_code=None)) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"poses": {1: {"a": None, "b": None}}}, "1 of 2 frames got no poses"),
        ({"poses": {1: {"a": None}, 2: {"a": None}}}, "1 detections got no poses in their frame's response, .* 'b'"),
        ({"counters": {**NOTHING_LOST, "superseded": 3}}, "the node counted superseded 3 .*faster device"),
        ({"counters": {**NOTHING_LOST, "unmatched_image": 1}}, "the node counted unmatched_image 1"),
        ({"exit_code": -9}, "exit code -9"),
    ],
)
def test_every_loss_is_one_sentence(changes, sentence):
    (found,) = problems(recording(**changes))
    assert re.search(sentence, found)


def test_notes_on_a_frame_are_no_losses_but_unknown_counters_are():
    assert lost_inputs({"no_camera_info": 5, "drawing_error": 1, "empty_box": 2, "new_counter": 1, "low_score": 0}) == {
        "empty_box": 2,
        "new_counter": 1,
    }


def test_latencies_are_percentiles_in_milliseconds():
    assert latency_ms(recording()) == {"p50": 20.0, "p99": 29.8}
    assert latency_ms(recording(latencies=())) == {}


def test_summary_has_what_others_read(evaluation):
    content = json.loads(json.dumps(summary(recording(), evaluation)))
    assert content["mean_ar_vsd"] == pytest.approx((0.9 + 0.6) / 2)
    assert content["chance_ar_vsd"] == pytest.approx((0.2 + 0.3) / 2)
    assert content["objects"]["ring"] == {"ar_vsd": pytest.approx(0.6), "rotation_error_deg_median": 14.0}
    assert (content["frames_in"], content["poses_out"]) == (2, 2)
    assert content["counters"] == NOTHING_LOST
    assert content["latency_ms"] == {"p50": 20.0, "p99": 29.8}
    assert content["protocol"] == "protocol paper; δ 15 mm"
    assert (content["bundle"], content["weights_sha256"]) == ("net", "abc123")


def test_the_table_names_objects_mean_baseline_latency_and_every_counter(evaluation):
    text = text_table(recording(), evaluation)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["bolt"] == ["1", "90.0", "4.0", "20.0"]
    assert rows["ring"] == ["2", "60.0", "14.0", "30.0"]
    assert rows["mean"] == ["3", "75.0", "8.0", "25.0"]
    assert rows["baseline"] == ["3", "25.0", "100.0"]
    assert "p50 20.0 ms, p99 29.8 ms" in text and "Evaluation conditions: protocol paper; δ 15 mm" in text
    assert all(f"{name} 0" in text for name in COUNTERS)


def test_a_missing_bundle_is_a_sentence(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--bundle", str(tmp_path / "no.pose.pt")]) == 2
    error = capsys.readouterr().err
    assert "no bundle at" in error and "no.pose.pt" in error and len(error.strip().splitlines()) == 1


def test_a_rate_of_zero_is_a_sentence(tmp_path, capsys, tiny_bundle):
    assert main(["demo", "--out", str(tmp_path), "--bundle", str(tiny_bundle), "--rate", "0"]) == 2
    assert "--rate 0 is outside" in capsys.readouterr().err


def test_without_ros_the_remedy_is_named(tmp_path, capsys, monkeypatch, tiny_bundle):
    monkeypatch.setitem(sys.modules, "shared_pose_ros.replay.demo_live", None)  # importing it fails
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
    assert main(["demo", "--out", str(tmp_path), "--bundle", str(tiny_bundle)]) == 2
    error = capsys.readouterr().err
    assert "make setup" in error and "docs/how-to/install.md" in error and len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_help_shows_examples_without_ros():
    result = subprocess.run(
        [sys.executable, "-m", "shared_pose_ros.cli.main", "demo", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and "shared_pose demo --out out/demo" in result.stdout


@pytest.mark.slow
def test_offline_is_the_node_s_inside(tmp_path, tiny_bundle):
    """Two frames of the demo's topics; the tiny bundle knows the parts "1" and "2" by alias."""
    recorded = write_two_frames(tmp_path / "bag")
    found = demo._run_offline(read_frames(recorded), tiny_bundle, recorded)
    assert found.frames_in == 2 and problems(found) == [] and set(found.counters) == set(COUNTERS)
    for names in found.requests.values():
        assert list(names) == ["heap 4 part 0", "heap 4 part 1"]
    assert all(pose.rotations.shape == (4, 3, 3) for answer in found.poses.values() for pose in answer.values())
