"""Latency, drops and jitter in closed form; poses written with every bit."""

import csv
import json

import numpy as np
import pytest
import recorded_bag as made
from evaluation_scene import turn

from shared_pose_ros.bags import bag_io
from shared_pose_ros.replay.offline import Books
from shared_pose_ros.replay.results import (
    COLUMNS,
    Timing,
    books_text,
    grown,
    live_figures,
    live_text,
    pose_records,
    spread,
    write_poses,
)


def test_figures_of_a_live_run():
    # Images every 0.1 s; answers after 20, 40 and 30 ms; detections 5 ms after each image.
    timings = [Timing(t, t + 0.005, t + delay) for t, delay in ((1.0, 0.02), (1.1, 0.04), (1.2, 0.03))]
    figures = live_figures(timings[::-1], asked=5, images=6)
    assert (figures["images_published"], figures["pairs_published"]) == (6, 5)
    assert (figures["answers"], figures["drops"]) == (3, 2)
    assert figures["latency_ms"] == pytest.approx({"min": 20, "mean": 30, "p50": 30, "p99": 39.8, "max": 40})
    assert figures["latency_of_pair_ms"]["mean"] == pytest.approx(25)
    # Spacings are 120 and 90 ms instead of 100: off by 20 and -10.
    assert figures["jitter_ms"] == pytest.approx({"deviation": np.sqrt((400 + 100) / 2), "max": 20}, abs=1e-3)
    assert figures["output_hz"] == pytest.approx(2 / 0.21, abs=1e-3)
    text = " ".join(live_text(figures, {"superseded": 2, "late_detection": 0}))
    assert "Answers: 3, drops 2" in text and "max 40.0" in text and "deviation 15.8, max 20.0" in text
    assert "grown by: superseded 2." in text


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_answers_have_no_jitter(count):
    figures = json.loads(json.dumps(live_figures([Timing(1, 1, 2)][:count], asked=1, images=1)))
    assert figures["jitter_ms"] is None and figures["drops"] == 1 - count
    assert (figures["latency_ms"] is None) == (count == 0)
    assert "no diagnostics" in " ".join(live_text(figures, None))
    assert spread([]) is None


def test_counters_grow():
    assert grown({"a": 2}, {"a": 5, "b": 1, "c": 0}) == {"a": 3, "b": 1, "c": 0}


@pytest.fixture
def messages():
    third = 1.0 / 3.0
    entries = [
        bag_io.Detection(
            "part_0", 'odd, "id"', third, rotation=turn([1, 2, 3], 77), translation=np.array([0.1, -third, 1])
        ),
        bag_io.Detection("part_1", "", 0.5, rotation=np.eye(3), translation=np.zeros(3)),
    ]
    late = bag_io.detections_3d_message(entries, made.stamp(3), "cam")
    late.detections[1].results[0].pose.covariance[0] = -1.0
    return [late, bag_io.detections_3d_message([], made.stamp(1), "cam")]


def test_poses_are_sorted_and_keep_every_bit(messages, tmp_path):
    records = pose_records(messages)
    assert [record["stamp_ns"] for record in records] == [made.stamp(1), made.stamp(3)]
    table, document = write_poses(tmp_path, records)
    assert json.loads(document.read_text()) == records
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 2
    pose = messages[0].detections[0].results[0].pose.pose
    assert [float(rows[0][name]) for name in ("x", "y", "z")] == [pose.position.x, pose.position.y, pose.position.z]
    assert [float(rows[0][f"q{axis}"]) for axis in "xyzw"] == [getattr(pose.orientation, axis) for axis in "xyzw"]
    assert rows[0]["id"] == 'odd, "id"' and float(rows[0]["score"]) == 1.0 / 3.0
    assert (rows[1]["x"], rows[1]["position_known"], rows[1]["detection"]) == ("", "0", "1")
    assert records[1]["detections"][1]["hypotheses"][0]["position"] is None


def test_the_books_are_said_in_words():
    books = Books(
        received={"images": 9, "detections": 8, "depth": 4, "camera_info": 7, "truth": 0},
        used={"images": 6, "depth": 3},
        published={"poses": 5, "objects": 21},
        counters={"superseded": 0, "empty_box": 3},
        reasons={"empty_box": "detection 2"},
        damaged={"/boxes": 1},
        errors=[],
        stamps=[],
    )
    text = "\n".join(books_text(books, ["bag.mcap has no footer"]))
    for part in (
        "Bag: bag.mcap has no footer.",
        "images 9, detection arrays 8",
        "depth 4 (3 used)",
        "poses 5 of 21 objects",
        "Damaged messages on /boxes: 1",
        "Counters: empty_box 3 (detection 2).",
    ):
        assert part in text
