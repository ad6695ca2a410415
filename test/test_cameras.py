"""Viewing rays, the off-axis correction and the translation from a box, against plain projection."""

import math

import numpy as np
import pytest
import torch

from shared_pose_ros.geometry.cameras import (
    camera_matrix,
    check_camera_matrix,
    ray_rotation,
    translation_from_box,
    viewing_ray,
)
from shared_pose_ros.geometry.rotations import random_rotations

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


def test_translation_from_a_far_boxs_own_projection_is_exact():
    # Far away the projection is a scaled parallel one, in which the formula holds exactly.
    rotations = random_rotations(8, torch.Generator().manual_seed(0), dtype=torch.float64)
    extents = torch.tensor([[0.06, 0.04, 0.02]], dtype=torch.float64).expand(8, 3)
    camera = camera_matrix(9e5, 8e5, 320, 240, dtype=torch.float64)
    centre = torch.tensor([0.04, -0.02, 700.0], dtype=torch.float64)
    signs = torch.tensor([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=torch.float64) / 2
    points = (signs * extents[:, None]) @ rotations.transpose(1, 2) + centre
    pixels = (points @ camera.T)[..., :2] / points[..., 2:]
    low, high = pixels.amin(dim=1), pixels.amax(dim=1)
    boxes = torch.cat([(low + high) / 2, high - low], dim=1)
    found = translation_from_box(boxes, camera, rotations, extents)
    torch.testing.assert_close(found, centre.expand(8, 3), rtol=1e-4, atol=1e-4)


def test_a_box_of_half_the_size_is_twice_as_far_along_the_same_ray():
    camera, rotation = camera_matrix(500, 500, 320, 240), torch.eye(3)[None]
    extents = torch.tensor([[0.1, 0.05, 0.02]])
    near = translation_from_box(torch.tensor([[420.0, 200.0, 80.0, 40.0]]), camera, rotation, extents)
    far = translation_from_box(torch.tensor([[420.0, 200.0, 40.0, 20.0]]), camera, rotation, extents)
    torch.testing.assert_close(far, 2 * near)
    # By hand: z = f·0.1/80, x = (420 − 320)/f·z.
    torch.testing.assert_close(near, torch.tensor([[0.125, -0.05, 0.625]]))
