"""Viewing rays and the off-axis correction, against plain projection."""

import math

import numpy as np
import pytest
import torch

from shared_pose_ros.geometry.cameras import (
    camera_matrix,
    check_camera_matrix,
    ray_rotation,
    viewing_ray,
)

SKEWED = torch.tensor([[520.0, 3.0, 310.0], [0.0, 480.0, 255.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def test_camera_matrix_is_laid_out_as_opencv():
    expected = [[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]]
    assert camera_matrix(500, 510, 320, 240).tolist() == expected
    check_camera_matrix(camera_matrix(500, 510, 320, 240))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(0, 0): 0.0}, "fx=0.0.*must be positive.*CameraInfo"),
        ({(1, 1): -5.0}, "fy=-5.0.*must be positive"),
        ({(0, 2): math.nan}, "not finite"),
        ({(1, 2): math.inf}, "not finite"),
        ({(2, 2): 0.0}, "last row"),
        ({(2, 0): 0.1}, "last row"),
    ],
)
def test_unusable_camera_matrices_are_named(change, message):
    camera = camera_matrix(500, 500, 320, 240)
    for place, value in change.items():
        camera[place] = value
    with pytest.raises(ValueError, match=message):
        check_camera_matrix(camera)


def test_other_shapes_are_no_camera_matrix():
    for shape in ((3, 4), (9,), (1, 3, 3)):
        with pytest.raises(ValueError, match="3×3"):
            check_camera_matrix(torch.zeros(shape))


def test_viewing_rays_project_back_to_their_pixels():
    pixels = torch.tensor([[0.0, 0.0], [310.0, 255.0], [639.0, 10.0], [-50.0, 900.0]], dtype=torch.float64)
    rays = viewing_ray(SKEWED, pixels)
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(4, dtype=torch.float64))
    assert (rays[:, 2] > 0).all()
    projected = rays @ SKEWED.T
    torch.testing.assert_close(projected[:, :2] / projected[:, 2:], pixels)


def rodrigues(ray):
    """The rotation from (0, 0, 1) to `ray` by Rodrigues' formula with sine and cosine of the angle."""
    axis = np.cross([0.0, 0.0, 1.0], ray)
    sine = np.linalg.norm(axis)
    if sine == 0:
        return np.eye(3)
    x, y, z = axis / sine
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + sine * skew + (1 - ray[2]) * skew @ skew


def test_ray_rotation_is_the_smallest_turn_of_the_optical_axis_to_the_ray():
    pixels = torch.tensor([[310.0, 255.0], [0.0, 0.0], [600.0, 400.0], [310.0, 10.0]], dtype=torch.float64)
    rays = viewing_ray(camera_matrix(500, 500, 310, 255, dtype=torch.float64), pixels)
    found = ray_rotation(rays)
    for ray, matrix in zip(rays.numpy(), found.numpy()):
        np.testing.assert_allclose(matrix, rodrigues(ray), atol=1e-12)
        np.testing.assert_allclose(matrix @ [0, 0, 1], ray, atol=1e-12)


def test_an_object_at_100_pixels_off_centre_needs_the_correction_of_the_method():
    # METHOD 6: 5.3° at 100 pixels off centre of a T-LESS camera (f = 1075).
    ray = viewing_ray(camera_matrix(1075.65, 1073.9, 360, 270), torch.tensor([460.0, 270.0]))
    assert math.degrees(math.acos(ray[2])) == pytest.approx(5.3, abs=0.02)
