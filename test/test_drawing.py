"""Markers, debug image, and the thread that draws them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker

from shared_pose_ros.ros.conversions import Objects
from shared_pose_ros.ros.drawing import AXIS_COLOURS, BOX_COLOUR, Painter, debug_image, image_message, marker_array
from shared_pose_ros.ros.frames import Frame
from shared_pose_ros.ros.images import rgb_from_image
from shared_pose_ros.ros.parameters import from_text
from shared_pose_ros.ros.poses import PosesWriter

HEADER = Header(frame_id="camera")
METADATA = SimpleNamespace(
    objects=(SimpleNamespace(extents=(0.02, 0.04, 0.06), centre=(0.0, 0.0, 0.03), symmetries={}),), metrics={}
)


def frame(translations, box=(50.0, 40.0, 30.0, 20.0)) -> Frame:
    estimate = SimpleNamespace(
        rotations=np.eye(3, dtype=np.float32)[None, None],
        confidences=np.ones((1, 1), np.float32),
        translations=translations,
        position_covariances=np.eye(3)[None],
    )
    objects = Objects(np.float32([box]), np.array([0]), ["part"], ["id"], [])
    return Frame(HEADER, np.zeros((80, 100, 3), np.uint8), objects, estimate, None)


def written(shown: Frame) -> Detection3DArray:
    return PosesWriter(METADATA).write(HEADER, shown.objects, shown.estimate, from_text({}))


def test_markers_stand_where_the_poses_are() -> None:
    shown = frame(np.float32([[0.1, 0.2, 0.5]]))
    poses = written(shown)
    clear, box, axes = marker_array(shown, poses).markers
    assert clear.action == Marker.DELETEALL and {box.header.frame_id, axes.header.frame_id} == {"camera"}
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.02, 0.04, 0.06)
    assert box.pose.position.z == pytest.approx(0.53) and axes.pose.position.z == pytest.approx(0.5)
    assert len(axes.points) == len(axes.colors) == 6 and axes.points[1].x == pytest.approx(0.06)


def test_without_positions_old_markers_are_removed() -> None:
    shown = frame(None)
    poses = written(shown)
    assert [marker.action for marker in marker_array(shown, poses).markers] == [Marker.DELETEALL]


def test_debug_image_shows_box_and_axes_and_leaves_the_frame_alone() -> None:
    shown = frame(None)
    picture = debug_image(shown, written(shown))
    assert not shown.image.any()
    assert tuple(picture[50, 40]) == BOX_COLOUR and tuple(picture[40, 64]) == AXIS_COLOURS[0]
    assert tuple(picture[54, 50]) == AXIS_COLOURS[1]
    np.testing.assert_array_equal(rgb_from_image(image_message(HEADER, picture)), picture)


def test_debug_image_of_a_wild_but_finite_box_does_not_fail() -> None:
    shown = frame(None, (50.0, 40.0, 1e9, 2e-9))
    assert debug_image(shown, written(shown)).shape == (80, 100, 3)


def test_painter_draws_the_latest_and_survives_errors() -> None:
    entered, gate, done = threading.Event(), threading.Event(), threading.Event()
    painted, errors = [], []

    def paint(shown, poses) -> None:
        entered.set()
        gate.wait(10)
        if shown == "first":
            raise ValueError("no ink")
        painted.append(shown)
        done.set()

    painter = Painter(paint, errors.append)
    painter.show("first", None)
    assert entered.wait(10)
    for name in ("skipped", "last"):
        painter.show(name, None)
    gate.set()
    assert done.wait(10)
    painter.stop()
    assert painted == ["last"] and [str(error) for error in errors] == ["no ink"]
