"""The example that watches a node without ros2's tools: its lines, and the program beside a node over a real DDS."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys

import cv2
from harness import ROOT, SIZE, detections, image, wait_for
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

PROGRAM = ROOT / "examples" / "watch.py"


def test_a_line_tells_the_best_hypothesis_and_only_positions_that_are_known() -> None:
    specification = importlib.util.spec_from_file_location("watch", PROGRAM)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    array = Detection3DArray()
    array.header.stamp.sec, array.header.stamp.nanosec = 7, 5
    assert example.pose_line(array) == "poses 7.000000005: no object"
    for class_id, variance in (("bolt", 0.01), ("nut", -1.0)):
        best, other = ObjectHypothesisWithPose(), ObjectHypothesisWithPose()
        best.hypothesis.class_id, best.hypothesis.score = class_id, 0.75
        best.pose.pose.position.z, best.pose.covariance[0] = 0.5, variance
        array.detections.append(Detection3D(results=[best, other]))
    assert example.pose_line(array) == "poses 7.000000005: bolt 0.75 at (0.000, 0.000, 0.500) m; nut 0.75"


def run(*options: str) -> str:
    return subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True, check=True).stdout


def test_it_sets_and_resets(node, peer) -> None:
    options = ["--set", "score_threshold", "0.3", "--set", "score_threshold", "7.0", "--set", "reference_orientation"]
    said = run(*options, "camera", "--reset", "--seconds", "0").splitlines()
    # They may come in at any time.
    said = [line for line in said if not line.startswith("diagnostics ")]
    begins = ["score_threshold: set", "score_threshold: refused, ", "reference_orientation: set", "reset: dropped "]
    assert len(said) == 4 and all(line.startswith(begin) for line, begin in zip(said, begins)), said
    assert "out of range" in said[1]
    assert peer.set_parameter("score_threshold", 0.0).successful


def test_it_shows_poses_and_diagnostics_and_keeps_the_picture(node, peer, class_ids, tmp_path) -> None:
    picture, log = tmp_path / "debug.png", tmp_path / "log.txt"
    with log.open("wb") as stream:
        command = [sys.executable, str(PROGRAM), "--picture", str(picture)]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    def seen() -> bool:
        peer.send(image(), detections(class_ids))
        text = log.read_text()
        # A picture may be half written.
        drawn = picture.exists() and cv2.imread(str(picture)) is not None
        return drawn and f": {class_ids[0]} " in text and "diagnostics " in text

    try:
        wait_for(seen, "lines and picture")
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
    assert code == 0 and "Traceback" not in log.read_text(), log.read_text()
    assert cv2.imread(str(picture)).shape == (*SIZE, 3)


def test_without_a_node_it_says_so() -> None:
    command = [sys.executable, str(PROGRAM), "--node", "nobody", "--reset"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no node /nobody in 10 s" in done.stderr
