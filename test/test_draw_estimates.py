"""Estimates drawn from what the bundle alone knows."""

import numpy as np

from shared_pose_ros.drawing import AXIS_COLOURS, BOX_COLOUR, draw_estimates
from shared_pose_ros.estimator import PoseEstimate


def estimate(rotation):
    rotations = np.asarray(rotation, dtype=np.float32)[None, None]
    return PoseEstimate(rotations, np.ones((1, 1), np.float32), None, False)


def draw(rotation, box=(50.0, 40.0, 30.0, 20.0), size=(80, 100)):
    blank = np.zeros((*size, 3), dtype=np.uint8)
    picture = draw_estimates(blank, np.array([box]), ["part"], estimate(rotation))
    assert not blank.any() and picture.shape == blank.shape
    return picture


def test_box_and_axes_stand_where_they_should():
    picture = draw(np.eye(3))
    assert tuple(picture[50, 40]) == BOX_COLOUR and tuple(picture[30, 60]) == BOX_COLOUR
    assert tuple(picture[40, 60]) == AXIS_COLOURS[0]  # x to the right
    assert tuple(picture[53, 50]) == AXIS_COLOURS[1]  # y down
    assert (picture[20:29] > 0).any()  # the label above the box


def test_axes_turn_with_the_object():
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x → y, y → −x
    picture = draw(quarter)
    assert tuple(picture[53, 50]) == AXIS_COLOURS[0] and tuple(picture[40, 38]) == AXIS_COLOURS[1]


def test_the_nearest_axis_lies_on_top():
    # All three axes start at the centre; the one that points towards the camera is drawn last.
    towards = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    assert tuple(draw(towards)[40, 50]) == AXIS_COLOURS[2]
    assert tuple(draw(np.eye(3))[40, 50]) != AXIS_COLOURS[2]


def test_wild_boxes_and_no_boxes_do_not_fail():
    assert draw(np.eye(3), (1e7, -1e7, 1e9, 1e-3)).shape == (80, 100, 3)
    nothing = PoseEstimate(np.zeros((0, 2, 3, 3), np.float32), np.zeros((0, 2), np.float32), None, False)
    image = np.full((10, 10, 3), 7, dtype=np.uint8)
    np.testing.assert_array_equal(draw_estimates(image, np.zeros((0, 4)), [], nothing), image)
