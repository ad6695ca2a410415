"""The debug image, and the threads in which pictures are made."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
from std_msgs.msg import Header

from shared_pose_ros.drawing import AXIS_COLOURS, object_colour
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import Selection
from shared_pose_ros.ros.messages.images import rgb_from_image
from shared_pose_ros.ros.visualization.drawing_thread import DrawingThread, debug_image, image_message

HEADER = Header(frame_id="camera")
METADATA = SimpleNamespace(
    objects=(SimpleNamespace(extents=(0.02, 0.04, 0.06), centre=(0.0, 0.0, 0.03), symmetries={}),), metrics={}
)
CAMERA = np.array([[200.0, 0.0, 75.0], [0.0, 200.0, 80.0], [0.0, 0.0, 1.0]], dtype=np.float32)
SQUARE = DisplayMesh(
    np.float32([[-0.05, -0.05, 0], [0.05, -0.05, 0], [0.05, 0.05, 0], [-0.05, 0.05, 0]]),
    np.array([[0, 1, 2], [0, 2, 3]], dtype=np.uint16),
)


def frame(translations, box=(75.0, 80.0, 30.0, 20.0), camera=None) -> Frame:
    estimate = SimpleNamespace(
        rotations=np.eye(3, dtype=np.float32)[None, None],
        confidences=np.ones((1, 1), np.float32),
        translations=translations,
        position_covariances=np.eye(3)[None],
        deviations=None,
    )
    detections = Detections(np.float32([box]), np.array([0]), ["part"], ["id"])
    shown = Frame(0, "camera", np.zeros((160, 150, 3), np.uint8), detections, camera, estimate=estimate)
    return Selection(METADATA, SymmetryTable.from_dicts([{}]))(shown, NodeParameters())


def test_without_a_camera_it_shows_box_and_axes_and_leaves_the_frame_alone() -> None:
    shown = frame(None)
    picture = debug_image(shown, [SQUARE])
    assert not shown.image.any()
    assert tuple(picture[90, 65]) == object_colour(0) and tuple(picture[80, 87]) == AXIS_COLOURS[0]
    assert tuple(picture[92, 75]) == AXIS_COLOURS[1]
    np.testing.assert_array_equal(rgb_from_image(image_message(HEADER, picture)), picture)


def test_with_a_camera_it_shows_the_outline_where_the_pose_was_published() -> None:
    shown = frame(np.float32([[0.0, 0.0, 0.5]]), camera=CAMERA)
    picture = debug_image(shown, [SQUARE])
    on = (picture == object_colour(0)).all(axis=2)
    # 0.05 m at 0.5 m and f = 200 are 20 pixels to each side of (75, 80); lines are two pixels wide at most.
    rows, columns = np.nonzero(on[75:])
    assert abs(np.array([columns.min(), columns.max(), rows.max() + 75]) - (55, 95, 100)).max() <= 1
    assert on[85, 54:57].any() and on[85, 94:97].any() and on[99:102, 75].any() and not on[85, 75]


def test_the_corner_tells_how_long_the_frame_took() -> None:
    shown = frame(None)
    with_latency, without = (debug_image(shown, [], latency) for latency in (0.044, None))
    assert (with_latency[:30] != without[:30]).any()
    np.testing.assert_array_equal(with_latency[30:], without[30:])


def test_a_wild_but_finite_box_does_not_fail() -> None:
    shown = frame(None, (75.0, 80.0, 1e9, 2e-9))
    assert debug_image(shown, []).shape == (160, 150, 3)


def test_thread_draws_the_latest_and_survives_errors() -> None:
    entered, gate, done = threading.Event(), threading.Event(), threading.Event()
    drawn, errors = [], []

    def draw(shown, poses) -> None:
        entered.set()
        gate.wait(10)
        if shown == "first":
            raise ValueError("no ink")
        drawn.append(shown)
        done.set()

    thread = DrawingThread(draw, errors.append)
    thread.show("first", None)
    assert entered.wait(10)
    for name in ("skipped", "last"):
        thread.show(name, None)
    gate.set()
    assert done.wait(10)
    thread.stop()
    assert drawn == ["last"] and [str(error) for error in errors] == ["no ink"]


def test_a_thread_with_a_period_waits_and_still_paints_the_last() -> None:
    drawn, done = [], threading.Event()

    def draw(number: int) -> None:
        drawn.append((number, time.monotonic()))
        if number == 9:
            done.set()

    thread = DrawingThread(draw, lambda error: None, period=0.2)
    for number in range(10):
        thread.show(number)
        time.sleep(0.005)
    assert done.wait(10)
    thread.stop()
    numbers = [number for number, _ in drawn]
    assert numbers == sorted(numbers) and numbers[-1] == 9
    assert all(later - earlier >= 0.2 for (_, earlier), (_, later) in zip(drawn, drawn[1:]))


def test_a_waiting_thread_stops_at_once() -> None:
    drawn = threading.Event()
    thread = DrawingThread(drawn.set, lambda error: None, period=3600.0)
    thread.show()
    assert drawn.wait(10)
    thread.stop()
