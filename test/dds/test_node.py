"""The running node over a real DDS: answers, bad input, full rate."""

from __future__ import annotations

import array
import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from harness import (
    FRAME_ID,
    PIXELS,
    SIZE,
    Peer,
    books_balance,
    camera_info,
    detection,
    detections,
    image,
    wait_for,
    wait_quietly,
)
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, Detection2DArray
from visualization_msgs.msg import Marker, MarkerArray

from shared_pose_ros.pipeline.parameters import PARAMETERS
from shared_pose_ros.ros.diagnostics.counters import COUNTERS


def test_poses_echo_header_id_and_class(node, peer: Peer, class_ids: list[str]) -> None:
    header = peer.send(image(), detections(class_ids))
    wait_for(lambda: peer.answer(header) is not None, "poses")
    answer = peer.answer(header)
    assert answer.header.frame_id == FRAME_ID
    assert [entry.id for entry in answer.detections] == [f"track {number}" for number in range(len(class_ids))]
    assert [entry.results[0].hypothesis.class_id for entry in answer.detections] == class_ids
    for entry in answer.detections:
        assert entry.header == header
        scores = [result.hypothesis.score for result in entry.results]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1.0, abs=1e-4)
        for result in entry.results:
            turn = result.pose.pose.orientation
            assert turn.w >= 0
            assert np.linalg.norm([turn.x, turn.y, turn.z, turn.w]) == pytest.approx(1.0, abs=1e-5)
            covariance = result.pose.covariance.reshape(6, 6)
            assert covariance[0, 0] == -1.0
            # Orientations have a covariance without a camera too.
            assert np.linalg.eigvalsh(covariance[3:, 3:]).min() > 0
        assert min(entry.bbox.size.x, entry.bbox.size.y, entry.bbox.size.z) > 0


def test_vision_info_is_latched(node, peer: Peer, class_ids: list[str]) -> None:
    wait_for(lambda: bool(peer.infos), "vision info")
    assert set(json.loads(peer.infos[-1].database_location)) == set(class_ids)


def test_with_a_camera_positions_come_and_without_they_are_unknown(node, peer: Peer, class_ids: list[str]) -> None:
    before = peer.settle()

    def position_known(info: CameraInfo, frame_id: str) -> bool:
        peer.camera_info.publish(peer.stamp(info, frame_id))
        header = peer.send(image(), detections(class_ids[:1]))
        wait_for(lambda: peer.answer(header) is not None, "poses")
        pose = peer.answer(header).detections[0].results[0].pose
        assert (pose.pose.position.z > 0) == (pose.covariance[0] > 0)
        assert pose.pose.position.z > 0 or (pose.pose.position.z, pose.covariance[0]) == (0, -1)
        return pose.pose.position.z > 0

    # camera_info is not paired: it may come just after the image that was sent after it.
    wait_for(lambda: position_known(camera_info(), FRAME_ID), "position with a camera")
    wait_for(lambda: not position_known(camera_info(k=[0.0] * 9), FRAME_ID), "unknown position with K all zero")
    assert peer.settle()["camera"] == "camera_info is all zero (not calibrated)"
    wait_for(lambda: position_known(camera_info(), FRAME_ID), "position with a camera again")
    wait_for(lambda: not position_known(camera_info(), "elsewhere"), "unknown position with another camera's K")
    values = peer.settle()
    assert values["camera"].startswith("camera_info of 'elsewhere'")
    for counter in ("counter/invalid_camera_info", "counter/camera_info_mismatch"):
        assert int(values[counter]) > int(before[counter])


NAN = float("nan")
BAD_OBJECTS: dict[str, tuple[str, Callable]] = {
    "unknown class": ("unknown_class", lambda known: detection("no such part")),
    "box outside": ("outside_image", lambda known: detection(known, (900.0, 240.0, 80.0, 60.0))),
    "zero box": ("empty_box", lambda known: detection(known, (320.0, 240.0, 0.0, 60.0))),
    "negative box": ("empty_box", lambda known: detection(known, (320.0, 240.0, 80.0, -60.0))),
    "NaN box": ("non_finite_box", lambda known: detection(known, (NAN, 240.0, 80.0, 60.0))),
    "huge box": ("oversized_box", lambda known: detection(known, (320.0, 240.0, 1e30, 60.0))),
    "NaN score": ("low_score", lambda known: detection(known, score=NAN)),
    "no results": ("no_hypothesis", lambda known: Detection2D()),
}
BAD_IMAGES = {
    "wrong encoding": ("bad_encoding", {"encoding": "holo9"}),
    "truncated data": ("truncated_image", {"data": PIXELS[: len(PIXELS) // 2]}),
    "no data": ("truncated_image", {"data": array.array("B")}),
    "no pixels": ("empty_image", {"width": 0}),
}


class Trial:
    """All bad inputs sent once, each followed by a good frame: their headers, and what each counter grew by."""

    def __init__(self, peer: Peer, known: str) -> None:
        before = peer.settle()
        self.headers = {}
        for case, (_, make) in BAD_OBJECTS.items():
            frame = Detection2DArray(detections=[make(known), detection(known, identity="good")])
            self.headers[case] = self._send(peer, known, image(), frame)
        for case, (_, changes) in BAD_IMAGES.items():
            self.headers[case] = self._send(peer, known, image(**changes), detections([known, known]))
        after = peer.settle()
        self.growth = {key: int(after[key]) - int(before[key]) for key in after if key.startswith("counter/")}

    @staticmethod
    def _send(peer: Peer, known: str, picture: Image, frame: Detection2DArray) -> Header:
        """Header of the bad frame, after the good one behind it was answered (so the bad one was not superseded)."""
        header = peer.send(picture, frame)
        wait_quietly(lambda: peer.answer(header) is not None, 0.3)
        good = peer.send(image(), detections([known]))
        wait_for(lambda: peer.answer(good) is not None, "poses after a bad frame")
        return header


@pytest.fixture(scope="module")
def trial(node, peer: Peer, class_ids: list[str]) -> Trial:
    return Trial(peer, class_ids[0])


def expected_growth(counter: str) -> int:
    return sum(name == counter for name, _ in [*BAD_OBJECTS.values(), *BAD_IMAGES.values()])


@pytest.mark.parametrize("case", BAD_OBJECTS)
def test_a_bad_detection_is_counted_and_the_rest_of_its_frame_answered(peer: Peer, trial: Trial, case: str) -> None:
    answer = peer.answer(trial.headers[case])
    assert [entry.id for entry in answer.detections] == ["good"]
    counter = BAD_OBJECTS[case][0]
    assert trial.growth[f"counter/{counter}"] == expected_growth(counter)


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_counted_and_the_next_frame_answered(peer: Peer, trial: Trial, case: str) -> None:
    assert peer.answer(trial.headers[case]) is None
    counter = BAD_IMAGES[case][0]
    assert trial.growth[f"counter/{counter}"] == expected_growth(counter)
    assert trial.growth["counter/lost_with_frame"] == 2 * len(BAD_IMAGES)


def test_an_empty_frame_is_answered_with_an_empty_array(node, peer: Peer) -> None:
    header = peer.send(image(), Detection2DArray())
    wait_for(lambda: peer.answer(header) is not None, "empty poses")
    assert peer.answer(header).detections == []


def test_pictures_are_drawn_for_subscribers(node, peer: Peer, class_ids: list[str]) -> None:
    """Markers, debug image and transforms of one frame, with a camera; without one only the debug image."""
    markers, pictures, trees = [], [], []
    subscriptions = [
        peer.create_subscription(MarkerArray, "shared_pose_node/markers", markers.append, 1),
        peer.create_subscription(Image, "shared_pose_node/debug_image", pictures.append, 1),
        peer.create_subscription(TFMessage, "/tf", trees.append, 100),
    ]

    def solid() -> bool:
        peer.camera_info.publish(peer.stamp(camera_info()))
        peer.send(image(), detections(class_ids))
        return wait_quietly(lambda: bool(trees) and any(len(array.markers) > 3 for array in markers), 0.3)

    wait_for(solid, "markers and transforms with a camera")
    wait_for(lambda: bool(pictures), "debug image")
    frame, array = trees[0].transforms, next(array for array in markers if len(array.markers) > 3)
    assert [entry.child_frame_id for entry in frame] == [
        f"shared_pose_node/{class_id}_track_{number}" for number, class_id in enumerate(class_ids)
    ]
    answer = peer.answer(frame[0].header)
    for entry, detection_ in zip(frame, answer.detections):
        pose = detection_.results[0].pose.pose
        assert entry.header == answer.header and entry.transform.rotation == pose.orientation
        assert entry.transform.translation.z == pose.position.z > 0
    solids = [marker for marker in array.markers if marker.ns == "mesh" and marker.action == Marker.ADD]
    # The tiny bundle's last object has no mesh.
    assert [marker.type for marker in solids] == [Marker.TRIANGLE_LIST, Marker.TRIANGLE_LIST, Marker.CUBE]
    assert [len(marker.points) for marker in solids] == [36, 36, 0]

    def blind() -> bool:
        peer.camera_info.publish(peer.stamp(camera_info(k=[0.0] * 9)))
        peer.send(image(), Detection2DArray())
        return peer.settle()["camera"] != "K known"

    wait_for(blind, "frame without a camera")
    del markers[:], trees[:], pictures[:]

    def drawn() -> bool:
        peer.send(image(), detections(class_ids))
        return wait_quietly(lambda: bool(markers and pictures), 0.3)

    wait_for(drawn, "markers and debug image without a camera")
    assert not any(marker.action == Marker.ADD for array in markers for marker in array.markers)
    assert not trees
    for subscription in subscriptions:
        peer.destroy_subscription(subscription)
    assert (pictures[0].height, pictures[0].width, pictures[0].encoding) == (*SIZE, "rgb8")
    assert pictures[0].data != PIXELS and peer.settle()["counter/drawing_error"] == "0"


def test_detections_without_their_image_are_named(node, peer: Peer, class_ids: list[str]) -> None:
    before = peer.count("unmatched_detection"), peer.count("frame_id_mismatch")
    peer.detections.publish(peer.stamp(detections(class_ids[:1])))
    peer.image.publish(peer.stamp(image(), "another_frame"))
    peer.detections.publish(peer.stamp(detections(class_ids[:1]), new=False))
    wait_for(
        lambda: (peer.count("unmatched_detection"), peer.count("frame_id_mismatch")) == (before[0] + 1, before[1] + 1),
        "both counters",
    )
    assert books_balance(peer.settle())


def test_parameters_are_judged(node, peer: Peer) -> None:
    refused = peer.set_parameter("score_threshold", 1.5)
    assert not refused.successful
    refused = peer.set_parameter("bundle", "another.pose.pt")
    assert not refused.successful and "clean up first" in refused.reason
    for name, value in (("symmetric_representative", "reference"), ("reference_orientation", "camera")):
        assert peer.set_parameter(name, value).successful
        assert peer.set_parameter(name, PARAMETERS[name].default).successful
    refused = peer.set_parameter("symmetric_representative", "nearest")
    assert not refused.successful and "choose one of any, reference" in refused.reason
    assert peer.set_parameter("score_threshold", 0.25).successful
    assert peer.set_parameter("score_threshold", 0.0).successful


def test_thirty_frames_a_second_are_published_or_counted(node, peer: Peer, class_ids: list[str]) -> None:
    """8 detections at 640x480, 30 Hz, 210 frames: every array received is published or under one counter."""
    frames, period = 210, 1 / 30
    before = peer.settle()
    frame = detections([class_ids[number % len(class_ids)] for number in range(8)])
    picture, start = image(), time.monotonic()
    for number in range(frames):
        peer.send(picture, frame)
        time.sleep(max(0.0, start + (number + 1) * period - time.monotonic()))
    values = peer.settle()
    assert books_balance(values), values

    def grown(key: str) -> int:
        return int(values[key]) - int(before[key])

    lost = sum(grown(f"counter/{name}") for name, info in COUNTERS.items() if info.stream == "detections")
    assert grown("received/detections") >= 200
    assert grown("published/poses") + lost == grown("received/detections")
    assert grown("published/objects") == 8 * grown("published/poses")
    assert grown("published/poses") >= 50, "most frames were superseded: is the machine overloaded?"
    assert float(values["latency/total_p50_s"]) > 0
