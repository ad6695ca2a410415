"""`shared_pose replay` as a user meets it, without ROS: what is written, what is said, how it ends."""

import csv
import json

import numpy as np
import pytest
import recorded_bag as made
from evaluation_scene import objects

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import open_recording
from shared_pose_ros.cli.main import main
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay import frame_overlays, scoring
from shared_pose_ros.ros.messages.detections import image_key


def call(recorded, out, bundle, *more):
    given = ["--bundle", str(bundle), "--device", "cpu", "--set", "max_batch=4", "--report", str(out)]
    return main(["replay", str(recorded), *given, *map(str, more)])


def summary(out):
    return json.loads((out / "replay.json").read_text())


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.slow
def test_whole_and_cut_bags_end_well(tmp_path, tiny_bundle, capsys, storage, share):
    recorded = made.ordinary(tmp_path / "bag", frames=10, storage=storage, transport="jpeg")
    made.cut(recorded, share)
    out = tmp_path / "out"
    assert call(recorded, out, tiny_bundle) == 0
    found, said = summary(out), capsys.readouterr().out
    assert found["mode"] == "offline" and found["topics"]["camera_info"] == made.INFO
    assert found["parameters"]["image_transport"] == "compressed" and found["parameters"]["max_batch"] == 4
    count = found["published"]["poses"]
    assert count == 10 if share == 1.0 else 3 <= count <= 7
    assert bool(found["problems"]) == (share < 1.0) == ("Bag: bag." in said)
    rows = list(csv.DictReader((out / "poses.csv").open(newline="")))
    assert len(rows) == 4 * found["published"]["objects"]
    written = [m.message() for m in open_recording(out / "poses").messages(["/shared_pose_node/poses"])]
    assert [image_key(message)[0] for message in written] == [made.stamp(number) for number in range(count)]
    assert [len(message.detections) for message in written] == [1 + number % 6 for number in range(count)]
    assert all(detection.header == message.header for message in written for detection in message.detections)
    assert written[0].header.frame_id == made.FRAME and "<img" in (out / "report.html").read_text()
    assert str(out / "report.html") in said


def test_a_bag_without_pairs_is_reported_not_fatal(tmp_path, tiny_bundle, capsys):
    messages = [(made.IMAGE, made.picture(n), made.stamp(n)) for n in range(3)]
    messages += [(made.DETECTIONS, made.boxes_message(2, n), made.stamp(n)) for n in (7, 8)]
    assert call(made.write(tmp_path / "bag", messages), tmp_path / "out", tiny_bundle) == 0
    found = summary(tmp_path / "out")
    assert found["counters"]["unmatched_image"] == 3 and found["counters"]["unmatched_detection"] == 2
    assert found["published"]["poses"] == 0 and found["topics"]["camera_info"] is None
    assert "unmatched_image 3" in capsys.readouterr().out


@pytest.mark.slow
def test_truth_of_a_bop_folder(dataset, tmp_path, tiny_bundle, monkeypatch, capsys):
    """Images and visible boxes of a dataset as a bag; its object 1 is the bundle's part_1 by its alias."""
    messages = []
    for number, frame in enumerate(dataset.frames):
        boxes = [bag_io.Detection(i.class_id, f"t{i.gt_id}", box=frame.visible_box(i.gt_id)) for i in frame.instances]
        when = made.stamp(number)
        size = frame.image().shape[:2]
        messages += [
            (made.INFO, bag_io.camera_info_message(frame.camera, size, when, "c"), when),
            (made.IMAGE, bag_io.image_message(frame.image(), when, "c"), when),
            (made.DETECTIONS, bag_io.detections_2d_message(boxes, when, "c"), when),
        ]
    recorded = made.write(tmp_path / "bag", messages)
    monkeypatch.setattr(scoring.ObjectSet, "load", lambda _, **__: objects())
    options = ("--bop", dataset.root, "--models", tmp_path)
    assert call(recorded, tmp_path / "out", tiny_bundle, *options) == 0
    (evaluation,) = json.loads((tmp_path / "out" / "scores.json").read_text())["evaluations"]
    assert [(r["im_id"], r["gt_id"]) for r in evaluation["instances"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(result["box_iou"] > 0.999 for result in evaluation["instances"])
    assert summary(tmp_path / "out")["protocol"] == evaluation["protocol_line"]
    assert "matched with the truth by class and overlap" in capsys.readouterr().out
    assert "AR_VSD" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "frames.csv").write_text(f"stamp_ns,scene_id,im_id\n{made.stamp(1)},1,1\n")
    options += ("--bop-frames", tmp_path / "frames.csv")
    assert call(recorded, tmp_path / "one", tiny_bundle, *options) == 0
    (evaluation,) = json.loads((tmp_path / "one" / "scores.json").read_text())["evaluations"]
    assert {r["im_id"] for r in evaluation["instances"]} == {1} and evaluation["skipped"]["without_truth"] == 2


def test_truth_without_cad_is_said(tmp_path, tiny_bundle, capsys):
    known = [bag_io.Detection("part_0", "track 0", rotation=made.np.eye(3), translation=made.np.array([0, 0, 1.0]))]
    messages = [
        (made.IMAGE, made.picture(0), made.stamp(0)),
        (made.DETECTIONS, made.boxes_message(1, 0), made.stamp(0)),
        (made.TRUTH, bag_io.detections_3d_message(known, made.stamp(0), made.FRAME), made.stamp(0)),
    ]
    recorded = made.write(tmp_path / "bag", messages)
    assert call(recorded, tmp_path / "out", tiny_bundle) == 0
    assert "not scored: give the CAD with --models" in capsys.readouterr().out
    assert summary(tmp_path / "out")["received"]["truth"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--image", "/nothing"], "--image /nothing is not in the bag"),
        (["--set", "max_batch"], "is not NAME=VALUE"),
        (["--set", "colour=red"], "no parameter 'colour'"),
        (["--set", "max_batch=0"], "max_batch: 0 is outside 1 to 256"),
        (["--live", "--rate", "0"], "--rate 0 is outside"),
        (["--live", "--loop", "0"], "--loop 0 plays nothing"),
        (["--bop", "somewhere"], "--bop needs the CAD"),
        (["--live", "--remap", "/cam/image"], "is not FROM:=TO"),
        (["--live", "--remap", "/x:=/y"], "a topic of the bag"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, tiny_bundle, capsys, options, sentence):
    recorded = made.ordinary(tmp_path / "bag", 1)
    assert call(recorded, tmp_path / "out", tiny_bundle, *options) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1


def test_no_bag_no_bundle_and_old_results_are_mistakes(tmp_path, tiny_bundle, capsys):
    assert call(tmp_path / "nowhere", tmp_path / "out", tiny_bundle) == 2
    assert "not a readable bag (no such bag)" in capsys.readouterr().err
    recorded = made.ordinary(tmp_path / "bag", 1)
    assert main(["replay", str(recorded), "--report", str(tmp_path / "out")]) == 2
    assert "no --bundle" in capsys.readouterr().err
    assert call(recorded, tmp_path / "out", tiny_bundle) == 0
    assert call(recorded, tmp_path / "out", tiny_bundle) == 2
    assert "poses exists already" in capsys.readouterr().err


def test_the_album_spreads_over_a_bag_of_any_length(monkeypatch):
    album, none = frame_overlays.Album(()), np.zeros((0, 4), np.float32)
    poses = PublishedPoses(7, "camera", [], [], np.zeros((0, 1, 4)), *(np.zeros((0, 1, 1)) for _ in range(5)))
    monkeypatch.setattr(frame_overlays, "draw_estimates", lambda *_: None)
    for _ in range(100):
        album.show(lambda: None, none, none, poses, None)
    shown = [int(picture.caption.split()[1].rstrip(",")) for picture in album.pictures]
    assert shown == list(range(0, 100, 16))
