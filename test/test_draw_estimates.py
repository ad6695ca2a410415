"""Estimates drawn from what the bundle alone knows."""

import cv2
import numpy as np
import pytest
from shapes import box

from shared_pose_ros.drawing import AXIS_COLOURS, draw_estimates, object_colour, visible_faces
from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.display_mesh import DisplayMesh

COLOUR = object_colour(0)
CAMERA = np.array([[300.0, 0.0, 80.0], [0.0, 310.0, 60.0], [0.0, 0.0, 1.0]])
SIZE = (120, 160)
TURNED = cv2.Rodrigues(np.array([0.4, -0.7, 0.3]))[0]


def cuboid(*sides):
    vertices, faces = box(*sides)
    return DisplayMesh(vertices.astype(np.float32), faces.astype(np.uint16))


def estimate(rotation, translation=None):
    rotations = np.asarray(rotation, dtype=np.float32)[None, None]
    translations = None if translation is None else np.float32([translation])
    return PoseEstimate(rotations, np.ones((1, 1), np.float32), translations, False)


def draw(rotation, box=(50.0, 40.0, 30.0, 20.0), size=(80, 100)):
    blank = np.zeros((*size, 3), dtype=np.uint8)
    picture = draw_estimates(blank, np.array([box]), ["part"], estimate(rotation), [0])
    assert not blank.any() and picture.shape == blank.shape
    return picture


def test_box_and_axes_stand_where_they_should():
    picture = draw(np.eye(3))
    assert tuple(picture[50, 40]) == COLOUR and tuple(picture[35, 65]) == COLOUR
    assert tuple(picture[40, 60]) == AXIS_COLOURS[0]  # x to the right
    assert tuple(picture[48, 50]) == AXIS_COLOURS[1]  # y down
    assert (picture[14:28, 35:60] > 0).any()  # the label above the box


def test_axes_turn_with_the_object():
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x → y, y → −x
    picture = draw(quarter)
    assert tuple(picture[48, 50]) == AXIS_COLOURS[0] and tuple(picture[40, 38]) == AXIS_COLOURS[1]


def test_the_nearest_axis_lies_on_top():
    # All three axes start at the centre; the one that points towards the camera is drawn last.
    towards = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    assert tuple(draw(towards)[40, 50]) == AXIS_COLOURS[2]
    assert tuple(draw(np.eye(3))[40, 50]) != AXIS_COLOURS[2]


def test_wild_boxes_and_no_boxes_do_not_fail():
    assert draw(np.eye(3), (1e7, -1e7, 1e9, 1e-3)).shape == (80, 100, 3)
    nothing = PoseEstimate(np.zeros((0, 2, 3, 3), np.float32), np.zeros((0, 2), np.float32), None, False)
    image = np.full((10, 10, 3), 7, dtype=np.uint8)
    np.testing.assert_array_equal(draw_estimates(image, np.zeros((0, 4)), [], nothing, []), image)


def projected(mesh, rotation, translation):
    points = mesh.vertices @ rotation.T + translation
    return ((points / points[:, 2:]) @ CAMERA.T)[:, :2]


@pytest.mark.parametrize("translation", [(0.01, -0.02, 0.4), (0.09, 0.03, 0.35)], ids=["inside", "across the border"])
def test_a_cuboid_covers_the_hull_of_its_projected_corners(translation):
    mesh = cuboid(0.06, 0.04, 0.05)
    (x, y), face = visible_faces(mesh, TURNED, translation, CAMERA, SIZE)
    found = np.zeros(SIZE, bool)
    found[y : y + face.shape[0], x : x + face.shape[1]] = face >= 0
    hull = cv2.convexHull(projected(mesh, TURNED, translation).astype(np.float32))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = np.array(
        [cv2.pointPolygonTest(hull, (float(u), float(v)), True) for u, v in zip(columns.flat, rows.flat)]
    ).reshape(SIZE)
    assert found[inside >= 0].all() and not found[inside < -1.0].any()
    assert 500 < found.sum() < 6000


def test_faces_are_those_that_look_at_the_camera():
    mesh, translation = cuboid(0.06, 0.04, 0.05), np.array([0.01, -0.02, 0.4])
    _, face = visible_faces(mesh, TURNED, translation, CAMERA, SIZE)
    corners = (mesh.vertices @ TURNED.T + translation)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = np.flatnonzero((normals * corners[:, 0]).sum(axis=1) < 0)
    assert set(np.unique(face[face >= 0])) == set(towards)


@pytest.mark.parametrize(
    "translation", [(np.nan, 0.0, 0.4), (0.0, 0.0, -0.4), (0.0, 0.0, 0.02), (5.0, 0.0, 0.4), (-0.2, 0.0, 0.4)]
)
def test_what_cannot_be_projected_is_drawn_as_box_and_axes(translation):
    mesh = cuboid(0.06, 0.04, 0.05)
    assert visible_faces(mesh, TURNED, translation, CAMERA, SIZE) is None
    blank = np.zeros((*SIZE, 3), np.uint8)
    place = np.array([[80.0, 60.0, 50.0, 50.0]])
    picture = draw_estimates(blank, place, ["part"], estimate(TURNED, translation), [0], [mesh], CAMERA)
    expected = draw_estimates(blank, place, ["part"], estimate(TURNED), [0])
    np.testing.assert_array_equal(picture, expected)


def test_the_outline_is_drawn_in_the_class_colour_with_its_inner_edges():
    mesh, translation = cuboid(0.06, 0.04, 0.05), (0.01, -0.02, 0.4)
    blank = np.full((*SIZE, 3), 120, np.uint8)
    place = np.array([[87.0, 45.0, 60.0, 60.0]])
    picture = draw_estimates(blank, place, [""], estimate(TURNED, translation), [2], [None, None, mesh], CAMERA)
    drawn = (picture == object_colour(2)).all(axis=2)
    pixels = projected(mesh, TURNED, np.array(translation))
    hull = cv2.convexHull(pixels.astype(np.float32))
    away = [abs(cv2.pointPolygonTest(hull, (float(u), float(v)), True)) for v, u in zip(*drawn.nonzero())]
    on_hull = np.array(away) < 2.0
    assert on_hull.sum() > 100 and (~on_hull).sum() > 30
    # The corner that lies inside the hull joins the three faces seen: the inner edges meet there.
    depth = (mesh.vertices @ TURNED.T)[:, 2]
    u, v = pixels[np.argmin(depth)].round().astype(int)
    assert drawn[v - 1 : v + 2, u - 1 : u + 2].any()


@pytest.mark.parametrize("depths", [(0.3001, 0.3), (0.3, 0.3001)])
def test_near_objects_lie_on_top(depths):
    # Of two outlines in one place only the one drawn last is seen.
    mesh, translations = cuboid(0.06, 0.06, 0.02), np.float32([[0.0, 0.0, depth] for depth in depths])
    both = PoseEstimate(np.tile(np.eye(3, dtype=np.float32), (2, 1, 1, 1)), np.ones((2, 1)), translations, True)
    blank, places = np.zeros((*SIZE, 3), np.uint8), np.full((2, 4), 30.0)
    picture = draw_estimates(blank, places, ["", ""], both, [0, 1], [mesh, mesh], CAMERA)
    near, far = object_colour(int(np.argmin(depths))), object_colour(int(np.argmax(depths)))
    assert (picture[60:110] == near).all(axis=2).sum() > 50
    assert (picture[60:110] == far).all(axis=2).sum() < 5


def test_labels_do_not_cover_each_other_and_the_note_is_written():
    blank = np.zeros((240, 320, 3), np.uint8)
    places = np.array([[160.0, 120.0, 40.0, 40.0], [165.0, 122.0, 40.0, 40.0]])
    rotations = np.tile(np.eye(3, dtype=np.float32), (2, 1, 1, 1))
    two = PoseEstimate(rotations, np.ones((2, 1), np.float32), None, False)
    picture = draw_estimates(blank, places, ["first", "second"], two, [0, 1], note="2 objects  44 ms")
    assert (picture[2:14, 2:100] == 255).all(axis=2).any()
    for index in (0, 1):
        alone = draw_estimates(blank, places[:1], ["first"], estimate(np.eye(3)), [index])
        assert (picture == object_colour(index)).all(axis=2).sum() > 0.7 * (alone == object_colour(index)).all(
            axis=2
        ).sum()


def test_object_colours_are_far_apart():
    colours = np.array([object_colour(index) for index in range(20)], dtype=int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(20, dtype=int)
    assert apart.min() >= 30 and colours.max(axis=1).min() == 255
    assert apart[:8, :8].min() >= 90
