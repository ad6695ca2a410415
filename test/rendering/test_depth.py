"""Closed-form depth: its value against ray-triangle intersection, its gradient against finite differences."""

import numpy as np
import pytest
import torch
from shapes import box, tetrahedron
from zbuffer import corners_of, hit_distance, pixel_ray, render

from shared_pose_ros.geometry.cameras import camera_matrix
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.rendering.depth import pixel_rays, plane_depth, render_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes

SIZE = (14, 18)
SKEWED = torch.tensor([[60.0, 5.0, 9.5], [0.0, 52.0, 6.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def scene():
    """Packed meshes, object index, rotations, translations, cameras and face ids of four images."""
    meshes = [tetrahedron(), box(2.0, 1.2, 0.6)]
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotations(4, generator)
    translation = torch.tensor([[0.0, 0.1, 6.0], [0.2, -0.1, 5.5], [-0.2, 0.0, 7.0], [0.0, 0.0, 6.5]])
    camera = torch.stack([SKEWED, camera_matrix(60, 60, 8, 7), camera_matrix(70, 50, 12, 5), SKEWED])
    index = torch.tensor([0, 1, 1, 0])
    packed = pack_meshes(meshes)
    face_id = make_rasterizer().rasterize(packed, index, rotation, translation, camera, SIZE)
    return meshes, packed, index, rotation, translation, camera, face_id


def test_pixel_rays_project_to_their_pixels():
    rays = pixel_rays(SKEWED, SIZE)
    assert rays.shape == (1, *SIZE, 3) and (rays[..., 2] == 1).all()
    projected = rays[0] @ SKEWED.T
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(18.0), indexing="ij")
    torch.testing.assert_close(projected[..., 0], columns, atol=1e-4, rtol=0)
    torch.testing.assert_close(projected[..., 1], rows, atol=1e-4, rtol=0)


def test_depth_is_where_the_pixels_ray_meets_the_winning_face(scene):
    meshes, packed, index, rotation, translation, camera, face_id = scene
    depth = plane_depth(face_id, packed, rotation, translation, camera)
    assert depth.shape == (4, *SIZE)
    assert torch.equal(depth > 0, face_id >= 0)
    for row in range(4):
        number = int(index[row])
        corners = corners_of(*meshes[number], rotation[row], translation[row])
        for y, x in np.argwhere(face_id[row].numpy() >= 0):
            face = int(face_id[row, y, x] - packed.face_offsets[number])
            expected = hit_distance(corners[face], pixel_ray(camera[row], x, y))
            assert depth[row, y, x].item() == pytest.approx(expected, rel=1e-4)


def test_render_depth_is_the_slow_z_buffers(scene):
    meshes, packed, index, rotation, translation, camera, _ = scene
    depth = render_depth(packed, index, rotation, translation, camera, SIZE, make_rasterizer())
    for row in range(4):
        _, expected, disputable = render(*meshes[int(index[row])], rotation[row], translation[row], camera[row], SIZE)
        np.testing.assert_allclose(depth[row].numpy()[~disputable], expected[~disputable], rtol=1e-4)


def test_gradient_in_rotation_and_translation_matches_finite_differences(scene):
    _, packed, _, rotation, translation, camera, face_id = scene
    twist = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    shift = translation.double().requires_grad_(True)
    weights = torch.rand(face_id.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(twist, shift):
        zero = torch.zeros_like(twist[:, 0])
        x, y, z = twist.unbind(1)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
        turned = torch.linalg.matrix_exp(skew)
        depth = plane_depth(face_id, packed, turned @ rotation.double(), shift, camera.double())
        return (depth * weights).sum(dim=(1, 2))

    assert torch.autograd.gradcheck(value, (twist, shift), eps=1e-6, atol=1e-4, rtol=1e-4)


def test_render_depth_carries_the_gradient_of_the_winning_faces(scene):
    _, packed, index, rotation, translation, camera, face_id = scene
    shifts = [translation.clone().requires_grad_(True) for _ in range(2)]
    render_depth(packed, index, rotation, shifts[0], camera, SIZE, make_rasterizer()).sum().backward()
    plane_depth(face_id, packed, rotation, shifts[1], camera).sum().backward()
    torch.testing.assert_close(shifts[0].grad, shifts[1].grad)
    # Before a flat wall, moving it away moves every pixel by the same length.
    away = pack_meshes([box(100.0, 100.0, 1.0)])
    shift = torch.tensor([[0.0, 0.0, 9.0]], requires_grad=True)
    eye = torch.eye(3)[None]
    depth = render_depth(away, torch.tensor([0]), eye, shift, SKEWED, SIZE, make_rasterizer())
    torch.testing.assert_close(depth, torch.full((1, *SIZE), 8.5))
    depth.sum().backward()
    torch.testing.assert_close(shift.grad, torch.tensor([[0.0, 0.0, 14 * 18.0]]))


def test_an_empty_image_is_zero_and_double_stays_double(scene):
    _, packed, _, rotation, translation, camera, face_id = scene
    nothing = plane_depth(torch.full_like(face_id, -1), packed, rotation, translation, camera)
    assert nothing.shape == face_id.shape and (nothing == 0).all()
    assert plane_depth(face_id, packed, rotation.double(), translation.double(), camera).dtype == torch.float64
