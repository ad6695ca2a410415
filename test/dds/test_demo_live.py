"""The demo's ends of the wire: what is read from the poses, and what is said when the node cannot run."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from shared_pose_ros.replay import demo_live
from shared_pose_ros.replay.bag_frames import by_id
from shared_pose_ros.ros.messages.poses import read_poses


def test_poses_are_read_in_the_order_published():
    message = Detection3DArray(detections=[Detection3D(id="a")])
    for score, (x, w) in ((0.7, (1.0, 0.0)), (0.3, (0.0, 1.0))):
        result = ObjectHypothesisWithPose()
        result.hypothesis.score = score
        result.pose.pose.position.z = score
        result.pose.pose.orientation.x, result.pose.pose.orientation.w = x, w
        message.detections[0].results.append(result)
    found = by_id(read_poses(message))
    assert list(found) == ["a"] and found["a"].confidence == 0.7
    np.testing.assert_allclose(found["a"].rotations, [np.diag([1.0, -1.0, -1.0]), np.eye(3)], atol=1e-12)
    np.testing.assert_allclose(found["a"].translations, [[0, 0, 0.7], [0, 0, 0.3]])


def test_a_node_that_cannot_configure_is_reported_and_ended(tmp_path):
    broken = tmp_path / "broken.pose.pt"
    broken.write_bytes(b"not a bundle")
    frame = SimpleNamespace(messages={}, boxes={}, stamp=1)
    with pytest.raises(demo_live.DemoError, match="configure failed: .*damaged or not a bundle.*log: "):
        demo_live.run_live([frame], broken, 10.0, tmp_path / "out" / "node.log", lambda _: None)
    assert "configure failed" in (tmp_path / "out" / "node.log").read_text()


def test_a_process_that_ends_is_reported_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_live.sys, "executable", "/bin/false")
    with demo_live.NodeProcess(tmp_path / "node.log", {}, {}) as node:
        assert node._process.wait(10) == 1
        with pytest.raises(demo_live.DemoError, match="ended with exit code 1"):
            node.check()


def test_a_frame_goes_out_when_the_one_before_it_has_its_poses(monkeypatch):
    monkeypatch.setattr(demo_live, "LOST_SECONDS", 0.05)
    cell = SimpleNamespace(responses=[])
    frames = [SimpleNamespace(messages={topic: SimpleNamespace(data=f"{i}".encode()) for topic in demo_live.TYPES})
              for i in range(3)]  # fmt: skip
    records, each = demo_live._records(frames, 20.0, cell), len(demo_live.TYPES)
    assert {(when, data) for _, when, data in (next(records) for _ in range(each))} == {(0, b"0")}
    answer = threading.Timer(0.02, lambda: cell.responses.append("poses"))
    answer.start()
    assert next(records)[1:] == (50_000_000, b"1") and cell.responses == ["poses"]
    # The second frame is lost: the third one goes out all the same.
    assert [data for _, _, data in records] == [b"1"] * (each - 1) + [b"2"] * each
