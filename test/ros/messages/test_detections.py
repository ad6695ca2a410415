"""Detections and camera information between messages and arrays."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from shared_pose_ros.pipeline.frame import Detections
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.detections import (
    LARGEST_BOX,
    axis_aligned_box,
    camera_matrix_from_info,
    read_detections,
)
from shared_pose_ros.ros.messages.poses import vision_info_message

SIZE = (480, 640)
INDEX = {"bolt": 0, "7": 1}.get
METADATA = SimpleNamespace(
    name="two parts",
    schema_version=3,
    objects=(
        SimpleNamespace(class_id="bolt", aliases=("b",), name="a bolt", diameter=0.05, extents=(0.01, 0.02, 0.04),
                        centre=(0.0, 0.01, -0.02), symmetries={}),
        SimpleNamespace(class_id="7", aliases=(), name="seven", diameter=np.float32(0.1), extents=np.full(3, 0.05),
                        centre=np.zeros(3), symmetries={"discrete": []}),
    ),
)  # fmt: skip


def detection(box=(100.0, 80.0, 40.0, 30.0), results=(("bolt", 0.9),), identity="id", theta=0.0) -> Detection2D:
    message = Detection2D(id=identity)
    message.bbox.center.position.x, message.bbox.center.position.y, message.bbox.size_x, message.bbox.size_y = box
    message.bbox.center.theta = theta
    for class_id, score in results:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results.append(result)
    return message


def read(*detections: Detection2D, threshold: float = 0.0) -> Detections:
    return read_detections(Detection2DArray(detections=list(detections)), INDEX, SIZE, threshold)


def test_usable_detections_keep_order_ids_and_classes() -> None:
    objects = read(
        detection(identity="a"), detection(results=[("bolt", 0.2), ("7", 0.7)], box=(5, 6, 7, 8), identity="b")
    )
    np.testing.assert_array_equal(objects.boxes, np.float32([[100, 80, 40, 30], [5, 6, 7, 8]]))
    assert objects.boxes.dtype == np.float32 and objects.object_index.dtype == np.int64
    assert objects.object_index.tolist() == [0, 1]
    assert (objects.ids, objects.class_ids, objects.rejected) == (["a", "b"], ["bolt", "7"], [])


def test_no_detections_give_empty_arrays() -> None:
    objects = read()
    assert objects.boxes.shape == (0, 4) and objects.object_index.shape == (0,)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("bad", "counter"),
    [
        (detection(results=[]), "no_hypothesis"),
        (detection(results=[("bolt", 0.3)]), "low_score"),
        (detection(results=[("bolt", NAN)]), "low_score"),
        (detection(results=[("bolt", 0.6), ("spoon", 0.8)]), "unknown_class"),
        (detection(box=(NAN, 1, 2, 3)), "non_finite_box"),
        (detection(box=(1, 1, INF, 3)), "non_finite_box"),
        (detection(theta=NAN), "non_finite_box"),
        (detection(box=(50, 50, 0, 10)), "empty_box"),
        (detection(box=(50, 50, 10, -4)), "empty_box"),
        (detection(box=(-10.5, 50, 20, 10)), "outside_image"),
        (detection(box=(50, 484.5, 10, 10)), "outside_image"),
        (detection(box=(320, 240, LARGEST_BOX * 640 + 1, 10)), "oversized_box"),
        (detection(box=(320, 240, 1e300, 1e300)), "oversized_box"),
    ],
)
def test_each_bad_detection_is_named_and_the_others_are_kept(bad: Detection2D, counter: str) -> None:
    objects = read(detection(identity="first"), bad, detection(identity="last"), threshold=0.5)
    assert objects.ids == ["first", "last"] and len(objects.boxes) == 2
    [(name, reason)] = objects.rejected
    assert name == counter and counter in COUNTERS
    assert reason.startswith("detection 1 (id 'id'): ")


@pytest.mark.parametrize(
    ("class_id", "said"),
    [
        ("Hex bolt", "is not in the bundle; did you mean 'hex_bolt'?"),
        ("17", "is not in the bundle, which has hex_bolt, Lever"),
        ("lever", "is not in the bundle; did you mean 'Lever'?"),
        ("x" * 10**6, "is not in the bundle, which has hex_bolt, Lever"),
    ],
    ids=lambda text: text[:8],
)
def test_for_an_unknown_class_the_nearest_is_proposed(class_id: str, said: str) -> None:
    array = Detection2DArray(detections=[detection(results=[(class_id, 0.9)])])
    [(_, reason)] = read_detections(array, INDEX, SIZE, known=["hex_bolt", "Lever"]).rejected
    assert reason.endswith(said)


def test_boxes_that_touch_the_border_are_used() -> None:
    objects = read(detection(box=(-10.4, 50, 20, 10)), detection(box=(50, 484.4, 10, 10)))
    assert len(objects.ids) == 2


@given(st.floats(-10, 10), st.floats(0.5, 50), st.floats(0.5, 50))
def test_rotated_boxes_become_the_box_around_them(theta: float, width: float, height: float) -> None:
    corners = np.array([[x, y] for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
    turned = corners @ np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]).T
    expected = [30, 40, *(turned.max(axis=0) - turned.min(axis=0))]
    np.testing.assert_allclose(axis_aligned_box(detection((30, 40, width, height), theta=theta)), expected, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.floats() | st.floats(-700, 700)] * 4),
            st.lists(st.tuples(st.sampled_from(["bolt", "7", "spoon"]), st.floats()), max_size=3),
            st.floats() | st.just(0.0),
        ),
        max_size=6,
    )
)
def test_any_detection_is_used_or_named(cases: list) -> None:
    objects = read(*[detection(box, results, theta=theta) for box, results, theta in cases], threshold=0.2)
    assert len(objects.ids) + len(objects.rejected) == len(cases)
    assert np.isfinite(objects.boxes).all() and (objects.boxes[:, 2:] >= 0).all()
    assert all(name in COUNTERS for name, _ in objects.rejected)


def test_camera_matrix_of_raw_and_rectified_images() -> None:
    info = CameraInfo(k=[500.0, 0, 320, 0, 510, 240, 0, 0, 1], p=[400.0, 0, 300, 9, 0, 410, 200, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(camera_matrix_from_info(info), [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    np.testing.assert_array_equal(camera_matrix_from_info(info, True), [[400, 0, 300], [0, 410, 200], [0, 0, 1]])


def test_a_zero_camera_is_unknown_and_a_senseless_one_an_error() -> None:
    assert camera_matrix_from_info(CameraInfo()) is None
    for wrong in ([NAN, 0, 1, 0, 1, 1, 0, 0, 1], [-500.0, 0, 1, 0, 500, 1, 0, 0, 1], [0.0, 0, 0, 0, 0, 0, 0, 0, 1]):
        with pytest.raises(ValueError, match=r"."):
            camera_matrix_from_info(CameraInfo(k=[float(value) for value in wrong]))


HEADER = Header(frame_id="camera")


def test_vision_info_tells_what_class_ids_mean() -> None:
    message = vision_info_message(HEADER, METADATA)
    assert (message.method, message.database_version) == ("shared_pose_ros two parts", 3)
    objects = json.loads(message.database_location)
    assert objects["bolt"]["aliases"] == ["b"] and objects["7"]["diameter"] == pytest.approx(0.1)
