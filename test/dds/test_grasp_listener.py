"""The planner's example: its choice and its composition, and the program itself over a real DDS."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from harness import ROOT, peer, wait_for
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

PROGRAM = ROOT / "examples" / "grasp_listener.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("grasp_listener", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(class_id: str, score: float, known: bool = True, seed: int = 0) -> Detection3D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, score
    x, y, z, w = Rotation.random(random_state=np.random.default_rng(seed)).as_quat().tolist()
    result.pose.pose = Pose(position=Point(x=0.1, y=-0.2, z=0.7), orientation=Quaternion(x=x, y=y, z=z, w=w))
    result.pose.covariance[0] = 0.01 if known else -1.0
    return Detection3D(results=[result])


def matrix(pose: Pose) -> np.ndarray:
    q, p = pose.orientation, pose.position
    found = np.eye(4)
    found[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    found[:3, 3] = p.x, p.y, p.z
    return found


def grasp_matrix(position, orientation) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = Rotation.from_quat(orientation).as_matrix(), position
    return found


def test_the_most_confident_part_with_a_position_is_chosen(example) -> None:
    parts = [part("low", 0.4), part("good", 0.7), part("unknown", 0.9, known=False), Detection3D(), part("ok", 0.6)]
    array = Detection3DArray(detections=parts)
    assert example.choose(array, 0.5).hypothesis.class_id == "good"
    assert example.choose(array, 0.75) is None and example.choose(Detection3DArray(), 0.0) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_grasp_is_the_product_of_part_and_grasp(example, seed: int) -> None:
    pose = part("a", 1.0, seed=seed).results[0].pose.pose
    position = [0.01, -0.02, 0.05]
    orientation = Rotation.random(random_state=np.random.default_rng(9 + seed)).as_quat().tolist()
    found = matrix(example.compose(pose, position, orientation))
    np.testing.assert_allclose(found, matrix(pose) @ grasp_matrix(position, orientation), atol=1e-12)


def test_the_program_answers_over_dds(example, tmp_path) -> None:
    log = tmp_path / "log.txt"
    command = [sys.executable, str(PROGRAM), "--ros-args", "-p", "min_confidence:=0.6"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        with peer() as made:
            grasps: list[PoseStamped] = []
            made.create_subscription(PoseStamped, "grasp", grasps.append, 1)
            publisher = made.create_publisher(Detection3DArray, "shared_pose_node/poses", 1)
            good, header = part("bolt", 0.8), Header(frame_id="camera")
            array = Detection3DArray(header=header, detections=[part("hidden", 0.9, known=False), good])

            def answered() -> bool:
                publisher.publish(array)
                return bool(grasps)

            wait_for(answered, "grasp")
            defaults = example.PARAMETERS
            expected = matrix(good.results[0].pose.pose) @ grasp_matrix(
                defaults["grasp_position"], defaults["grasp_orientation"]
            )
            np.testing.assert_allclose(matrix(grasps[0].pose), expected, atol=1e-12)
            assert grasps[0].header == header
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
    text = log.read_text()
    assert code == 0 and "bolt, confidence 0.80" in text and "Traceback" not in text, text
