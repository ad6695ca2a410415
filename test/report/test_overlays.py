"""Outlines over images."""

import cv2
import numpy as np
from evaluation_scene import CAMERA, SIZE, depth_of, turn

from shared_pose_ros.report.overlays import TRUTH_COLOUR, DrawnPose, draw_poses


def drawn_pixels(image, colour):
    return (image == np.array(colour)).all(axis=-1)


def test_outline_follows_the_silhouette_and_the_creases(scorer):
    rotation, translation = turn([1, 1, 0.3], 50), np.array([0.0, 0.0, 0.3])
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    drawn = draw_poses(
        grey, CAMERA, [DrawnPose(0, rotation, translation, TRUTH_COLOUR)], scorer.meshes, scorer.rasterizer
    )
    assert (grey == 90).all() and drawn.shape == grey.shape
    line = drawn_pixels(drawn, TRUTH_COLOUR)
    assert ((drawn == 90).all(axis=-1) | line).all()
    mask = (depth_of(scorer, 0, rotation, translation) > 0).astype(np.uint8)
    border = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
    assert line[border > 0].all()
    near = cv2.dilate(border, np.ones((7, 7), np.uint8)) > 0
    assert not line[(mask == 0) & ~near].any()
    inner = line & (mask > 0) & ~near
    assert 10 < inner.sum() < 0.2 * mask.sum()  # three faces of the box show, so three edges meet inside


def test_a_pose_outside_the_image_draws_nothing(scorer):
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    outside = DrawnPose(0, np.eye(3), np.array([3.0, 0.0, 0.3]), label="x")
    drawn = draw_poses(grey, CAMERA, [outside], scorer.meshes, scorer.rasterizer)
    np.testing.assert_array_equal(drawn, grey)


def test_labels_are_written_beside_the_object(scorer):
    grey = np.full((*SIZE, 3), 90, dtype=np.uint8)
    pose = DrawnPose(0, np.eye(3), np.array([0.0, 0.0, 0.3]))
    labelled = DrawnPose(0, np.eye(3), np.array([0.0, 0.0, 0.3]), label="part 7")
    without, with_label = (draw_poses(grey, CAMERA, [p], scorer.meshes, scorer.rasterizer) for p in (pose, labelled))
    rows = np.nonzero((without != with_label).any(axis=(1, 2)))[0]
    assert rows.size and rows.max() < 50
