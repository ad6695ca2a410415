"""The running node with use_depth over a real DDS: positions from depth images, and every one of them accounted for."""

from __future__ import annotations

import array
from collections import Counter
from collections.abc import Callable
from typing import Optional

import harness
import numpy as np
import pytest
import torch
from bundle_facts import make_metadata
from harness import FRAME_ID, SIZE, Peer, camera_info, detection, image, wait_for
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from shared_pose_ros.geometry.positions import MESH_DEVIATION
from shared_pose_ros.geometry.rotations import rotation_from_quaternion
from shared_pose_ros.ros.diagnostics.counters import COUNTERS

SURFACE = 0.4
CASES: dict[str, tuple[Callable[[], Optional[Image]], Optional[str]]] = {
    "millimetres": (lambda: depth("<u2"), None),
    "metres, big endian": (lambda: depth(">f4"), None),
    "half the size": (lambda: depth("<u2", size=(SIZE[0] // 2, SIZE[1] // 2)), None),
    "another frame": (lambda: depth("<u2", frame_id="elsewhere"), "no_depth"),
    "none": (lambda: None, "no_depth"),
    "wrong encoding": (lambda: depth("<u2", encoding="mono8x"), "unusable_depth"),
    "truncated": (lambda: depth("<u2", data=array.array("B", [1, 2, 3])), "unusable_depth"),
    "another view": (lambda: depth("<u2", size=(100, 100)), "unusable_depth"),
    "nothing measured": (lambda: depth("<u2", value=0.0), "depth_rejected"),
    "far behind": (lambda: depth("<u2", value=9.0), "depth_rejected"),
}
"""The depth image of a frame, and the counter that says why its position is from the box."""


def depth(kind: str, value: float = SURFACE, size=SIZE, frame_id: str = FRAME_ID, **changes) -> Image:
    stored = np.full(size, value * (1000 if "u2" in kind else 1), dtype=kind)
    message = Image(height=size[0], width=size[1], step=stored.strides[0], is_bigendian=kind.startswith(">"))
    message.encoding = "16UC1" if "u2" in kind else "32FC1"
    message.data = array.array("B", stored.tobytes())
    message.header.frame_id = frame_id
    for name, content in changes.items():
        setattr(message, name, content)
    return message


@pytest.fixture(scope="module")
def node(tiny_bundle, tmp_path_factory):
    """Depth images wait long enough that all of them can be sent before the first frame."""
    log = tmp_path_factory.mktemp("node") / "log.txt"
    process = harness.NodeProcess(log, bundle=tiny_bundle, max_batch=1, use_depth="true", image_buffer_seconds=60.0)
    yield process
    assert process.end() == 0, process.log
    assert "[ERROR]" not in process.log and "Traceback" not in process.log, process.log


class Trial:
    """One frame of one object for each case, after all depth images have arrived: poses, and the node's values."""

    def __init__(self, peer: Peer, class_id: str, meshless: str) -> None:
        outlet = peer.create_publisher(Image, "depth", 10)
        wait_for(lambda: outlet.get_subscription_count() == 1, "subscription to depth")
        peer.camera_info.publish(peer.stamp(camera_info()))
        self.boxes = Detection2DArray(detections=[detection(class_id)])
        wait_for(lambda: self._pose(peer, peer.stamp(image()).header).covariance[0] > 0, "a position")
        headers, self.before = {}, peer.settle()
        pictures = {case: make() for case, (make, _) in CASES.items()}
        for case, picture in pictures.items():
            headers[case] = peer.stamp(image()).header
            if picture is not None:
                picture.header.stamp = headers[case].stamp
                outlet.publish(picture)
        sent = sum(picture is not None for picture in pictures.values())
        wait_for(lambda: self._grown(peer.values(), "received/depth") == sent, "all depth images received")
        self.poses = {case: self._pose(peer, header) for case, header in headers.items()}
        self.values = peer.settle()
        self.boxes = Detection2DArray(detections=[detection(meshless)])
        header, picture = peer.stamp(image()).header, depth("<u2")
        picture.header.stamp = header.stamp
        outlet.publish(picture)
        wait_for(lambda: self._grown(peer.values(), "received/depth") == sent + 1, "the last depth image received")
        self._pose(peer, header)
        self.without_mesh = peer.settle()
        peer.destroy_publisher(outlet)

    def grown(self, key: str) -> int:
        return self._grown(self.values, key)

    def _grown(self, values: dict[str, str], key: str) -> int:
        return int(values[key]) - int(self.before[key])

    def _pose(self, peer: Peer, header):
        self.boxes.header = header
        peer.image.publish(image(header=header))
        peer.detections.publish(self.boxes)
        wait_for(lambda: peer.answer(header) is not None, "poses")
        return peer.answer(header).detections[0].results[0].pose


@pytest.fixture(scope="module")
def trial(node, peer: Peer, class_ids: list[str]) -> Trial:
    return Trial(peer, class_ids[0], class_ids[2])


@pytest.mark.parametrize("case", CASES)
def test_a_frame_is_answered_with_depth_or_from_its_box(trial: Trial, case: str) -> None:
    pose = trial.poses[case]
    part = make_metadata().objects[0]
    place = np.array([pose.pose.position.x, pose.pose.position.y, pose.pose.position.z])
    values, vectors = np.linalg.eigh(np.array(pose.covariance).reshape(6, 6)[:3, :3])
    if CASES[case][1] is None:
        # The surface faces the camera; its part's centre is at most half a diagonal behind.
        assert SURFACE < place[2] < SURFACE + np.linalg.norm(part.extents) / 2
        assert values.min() > 0 and values.max() < 0.01**2
    else:
        radial = np.argmax(values)
        q = pose.pose.orientation
        turn = rotation_from_quaternion(torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64)).numpy()
        centre = place + turn @ part.centre
        assert values[radial] ** 0.5 >= 0.999 * MESH_DEVIATION * np.linalg.norm(centre)
        np.testing.assert_allclose(abs(vectors[:, radial]), abs(centre) / np.linalg.norm(centre), atol=1e-3)


def test_what_was_missing_is_counted_by_its_reason(trial: Trial) -> None:
    expected = Counter(counter for _, counter in CASES.values() if counter)
    assert {name: trial.grown(f"counter/{name}") for name in expected} == expected
    assert trial.grown("published/poses") == trial.grown("received/detections") == len(CASES)


def test_what_depth_does_not_show_and_what_has_no_mesh_is_not_aligned(trial: Trial) -> None:
    rejected = [counter for _, counter in CASES.values() if counter == "depth_rejected"]
    assert trial.grown("counter/alignment_rejected") == len(rejected) == 2 and trial.grown("counter/no_mesh") == 0
    assert int(trial.without_mesh["counter/no_mesh"]) - int(trial.values["counter/no_mesh"]) == 1


def test_every_depth_image_is_accounted_for(trial: Trial) -> None:
    values = trial.values
    lost = sum(int(values[f"counter/{name}"]) for name, info in COUNTERS.items() if info.stream == "depth")
    assert int(values["received/depth"]) == int(values["used/depth"]) + lost + int(values["pending/depth"])
    # All but that of another frame and the one that was not sent.
    assert trial.grown("used/depth") == len(CASES) - 2 and values["pending/depth"] == "1"
    assert float(values["age/depth_s"]) >= 0
