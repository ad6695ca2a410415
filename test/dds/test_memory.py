"""The memory of the running node over a real DDS: smoothing, the pose nearest to the last one, ~/reset."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Peer, books_balance, detection, detections, image, wait_for
from vision_msgs.msg import Detection2DArray, Detection3D


@pytest.fixture
def plain(peer: Peer, class_ids: list[str]):
    """The peer, of a node without tracks; the parameters are put back after the test."""
    peer.reset()
    yield peer
    for name, value in (("smoothing", 0.0), ("symmetric_representative", "any")):
        assert peer.set_parameter(name, value).successful


def answer(peer: Peer, class_id: str, x: float) -> Detection3D:
    """The answer for the one part with id 7 whose box is at column x of an image of noise."""
    array_message = Detection2DArray(detections=[detection(class_id, (x, 240.0, 80.0, 60.0), "7")])
    header = peer.send(image(), array_message)
    wait_for(lambda: peer.answer(header) is not None, "poses")
    return peer.answer(header).detections[0]


def numbers(found: Detection3D) -> np.ndarray:
    """Quaternion and score of every hypothesis."""
    rows = [(result.pose.pose.orientation, result.hypothesis.score) for result in found.results]
    return np.array([[q.x, q.y, q.z, q.w, score] for q, score in rows])


def test_smoothing_joins_the_frames_of_an_id_until_reset(node, plain: Peer, class_ids: list[str]) -> None:
    """Frame by frame, smoothed, and smoothed after a reset: the first and the last are the network's answers."""
    first, second = (numbers(answer(plain, class_ids[0], x)) for x in (200.0, 400.0))
    assert plain.settle()["tracks"] == "0"
    assert plain.set_parameter("smoothing", 0.6).successful
    np.testing.assert_array_equal(numbers(answer(plain, class_ids[0], 200.0)), first)
    smoothed = numbers(answer(plain, class_ids[0], 400.0))
    assert not np.allclose(smoothed, second, atol=1e-3)
    assert (np.diff(smoothed[:, 4]) <= 0).all() and smoothed[:, 4].sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(smoothed[:, :4], axis=1), 1.0, atol=1e-6)
    assert plain.settle()["tracks"] == "1"
    assert plain.reset() == "dropped 0 images, 0 detection arrays, 0 depth images, 1 tracks"
    assert plain.settle()["tracks"] == "0"
    np.testing.assert_array_equal(numbers(answer(plain, class_ids[0], 400.0)), second)
    assert not plain.set_parameter("smoothing", 1.0).successful


def test_reset_drops_what_waits_and_the_books_balance(node, plain: Peer, class_ids: list[str]) -> None:
    before = plain.settle()
    plain.image.publish(plain.stamp(image()))
    plain.detections.publish(plain.stamp(detections(class_ids)))
    wait_for(
        lambda: (
            int(plain.values()["received/detections"]) > int(before["received/detections"])
            and int(plain.values()["received/images"]) > int(before["received/images"])
        ),
        "arrival of both",
    )
    said = plain.reset()
    after = plain.settle()
    grown = {
        name: int(after[name]) - int(before[name])
        for name in ("counter/reset_image", "counter/reset_detection", "counter/unmatched_image")
    }
    assert after["pending/images"] == after["pending/detections"] == "0" and books_balance(after)
    # A busy machine may have let the two grow too old first.
    images, arrays = grown["counter/reset_image"], grown["counter/reset_detection"]
    assert said == f"dropped {images} images, {arrays} detection arrays, 0 depth images, 0 tracks"
    assert grown["counter/reset_image"] + grown["counter/unmatched_image"] == 1
    answer(plain, class_ids[0], 300.0)
    assert books_balance(plain.settle())


def test_the_last_pose_may_be_the_reference(node, plain: Peer, class_ids: list[str]) -> None:
    assert plain.set_parameter("symmetric_representative", "last").successful
    for x in (200.0, 210.0):
        answer(plain, class_ids[0], x)
    assert plain.settle()["tracks"] == "1" and books_balance(plain.values())
