"""Boxes: covering pixels, BOP's corners, the side of the crop."""

import numpy as np
import pytest
import torch

from shared_pose_ros.geometry.boxes import box_from_corner_xywh, box_from_mask, box_iou, crop_side


def test_box_covers_the_masks_pixels():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4, 7] = mask[11, 9] = True
    assert box_from_mask(mask).tolist() == [8.0, 7.5, 3.0, 8.0]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (19, 29), (3, 17)])
def test_box_of_a_single_pixel_is_that_pixel(row, column):
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[row, column] = 200
    assert box_from_mask(mask).tolist() == [column, row, 1.0, 1.0]


def test_box_of_a_full_mask_is_the_image():
    assert box_from_mask(np.ones((20, 30), dtype=bool)).tolist() == [14.5, 9.5, 30.0, 20.0]


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="no pixel"):
        box_from_mask(np.zeros((4, 4), dtype=bool))


def test_corner_boxes_mean_the_same_pixels():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:9, 10:17] = True
    corners = np.array([[10, 5, 7, 4], [0, 0, 1, 1]])
    found = box_from_corner_xywh(corners)
    assert found.dtype == np.float64
    assert found[0].tolist() == box_from_mask(mask).tolist()
    assert found[1].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert box_from_corner_xywh(corners[0]).shape == (4,)


def test_the_crops_side_follows_the_larger_edge():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 30.0], [5.0, 5.0, 40.0, 20.0]])
    torch.testing.assert_close(crop_side(boxes, 1.2), torch.tensor([36.0, 48.0]))


def test_overlap_counts_the_pixels_of_both_boxes():
    first, second = np.zeros((20, 30), dtype=bool), np.zeros((20, 30), dtype=bool)
    first[5:9, 10:17], second[3:8, 12:25] = True, True
    expected = (first & second).sum() / (first | second).sum()
    assert box_iou(box_from_mask(first), box_from_mask(second)) == pytest.approx(expected)
    assert box_iou(box_from_mask(first), box_from_mask(first)) == 1.0
    assert box_iou(np.array([0.0, 0, 2, 2]), np.array([5.0, 0, 2, 2])) == 0.0
