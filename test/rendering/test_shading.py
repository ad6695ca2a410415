"""The shading kernel against a plain numpy formula, pixel by pixel."""

import numpy as np
import pytest
import torch
from shapes import box, tetrahedron
from zbuffer import corners_of, hit_distance, pixel_ray

from shared_pose_ros.geometry.cameras import camera_matrix
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.rendering.shading import Lighting, shade

SIZE = (16, 20)
CAMERA = camera_matrix(60, 55, 9, 8)
CAMERA[0, 1] = 4.0


def lighting(count, crevice=0.0, specular=0.3, metallic=0.25):
    generator = torch.Generator().manual_seed(2)
    return Lighting(
        positions=torch.rand(count, 3, 3, generator=generator) * 8 - 4,
        strengths=torch.tensor([[0.7, 0.0, 0.4]]).repeat(count, 1),
        ambient=torch.linspace(0.05, 0.2, count),
        specular=torch.full((count,), specular),
        shininess=torch.linspace(3.0, 20.0, count),
        crevice=torch.full((count,), crevice),
        sky=torch.tensor([[0.05, -0.2, 0.1]]).repeat(count, 1),
        metallic=torch.full((count,), metallic),
    )


def scene(meshes, index):
    rotation = random_rotations(len(index), torch.Generator().manual_seed(5))
    translation = torch.tensor([0.0, 0.0, 6.0]).repeat(len(index), 1)
    packed = pack_meshes(meshes)
    face_id = make_rasterizer().rasterize(packed, torch.tensor(index), rotation, translation, CAMERA, SIZE)
    return packed, rotation, translation, face_id


def expected_pixel(triangle, ray, lights, image):
    """(intensity, depth, normal) of one pixel.

    I = ambient + |sky|·(1 + N·up)/2 + Σ strength·((1 − m)·max(0, N·L) + specular·max(0, N·H)^shininess)
    + m·((3 + M·up)/4)², M the view mirrored by the surface; at most 1.
    """
    z = hit_distance(triangle, ray)
    point = ray * z
    normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    normal /= np.linalg.norm(normal)
    if normal @ ray > 0:
        normal = -normal
    view = -point / np.linalg.norm(point)
    sky = lights.sky[image].double().numpy()
    metallic = float(lights.metallic[image])
    total = float(lights.ambient[image]) + (np.linalg.norm(sky) + sky @ normal) / 2
    for position, strength in zip(lights.positions[image].double().numpy(), lights.strengths[image].tolist()):
        towards = (position - point) / np.linalg.norm(position - point)
        diffuse = normal @ towards
        if diffuse > 0:
            half = (towards + view) / np.linalg.norm(towards + view)
            shine = float(lights.specular[image]) * max(normal @ half, 0.0) ** float(lights.shininess[image])
            total += strength * ((1 - metallic) * diffuse + shine)
    mirrored = 2 * (normal @ view) * normal - view
    total += metallic * ((3 + mirrored @ sky / np.linalg.norm(sky)) / 4) ** 2
    return min(total, 1.0), z, normal


def test_every_pixel_is_the_formula():
    meshes, index = [tetrahedron(), box(2.0, 1.2, 0.8)], [0, 1, 1]
    packed, rotation, translation, face_id = scene(meshes, index)
    lights = lighting(3)
    shaded = shade(face_id, packed, rotation, translation, CAMERA, lights)
    lit = 0
    for image, number in enumerate(index):
        corners = corners_of(*meshes[number], rotation[image], translation[image])
        for y, x in np.argwhere(face_id[image].numpy() >= 0):
            triangle = corners[int(face_id[image, y, x] - packed.face_offsets[number])]
            value, z, normal = expected_pixel(triangle, pixel_ray(CAMERA, x, y), lights, image)
            assert shaded.intensity[image, y, x].item() == pytest.approx(value, abs=2e-3)
            assert shaded.depth[image, y, x].item() == pytest.approx(z, rel=1e-4)
            np.testing.assert_allclose(shaded.normals[image, y, x].numpy(), normal, atol=1e-4)
            point = pixel_ray(CAMERA, x, y) * z - translation[image].double().numpy()
            model_point = rotation[image].double().numpy().T @ point
            np.testing.assert_allclose(shaded.positions[image, y, x].numpy(), model_point, atol=1e-4)
            lit += value > float(lights.ambient[image]) + 0.5  # more than ambient, sky and mirror
    assert lit > 30
    background = face_id < 0
    assert background.any() and (shaded.positions[background] == 0).all()
    for layer in (shaded.intensity, shaded.depth, shaded.normals.abs().sum(-1)):
        assert (layer[background] == 0).all() and (layer[~background] > 0).all()


def test_several_samples_a_pixel_are_their_mean():
    packed, rotation, translation, face_id = scene([tetrahedron(), box(2.0, 1.2, 0.8)], [0, 1])
    one, mean = (shade(face_id, packed, rotation, translation, CAMERA, lighting(2), samples) for samples in (1, 2))

    def blocks(layer):
        return layer.unfold(1, 2, 2).unfold(2, 2, 2).flatten(-2)

    hits = (blocks(face_id) >= 0).float()
    assert ((hits.mean(-1) > 0) & (hits.mean(-1) < 1)).any()
    torch.testing.assert_close(mean.coverage, hits.mean(-1))
    torch.testing.assert_close(mean.intensity, blocks(one.intensity).mean(-1))
    torch.testing.assert_close(mean.normals, blocks(one.normals).mean(-1))
    torch.testing.assert_close(mean.positions, blocks(one.positions).mean(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mean.depth, blocks(one.depth).sum(-1) / hits.sum(-1).clamp(min=1))


def test_one_camera_an_image_is_one_camera_repeated():
    packed, rotation, translation, face_id = scene([tetrahedron()], [0, 0])
    lights = lighting(2)
    one = shade(face_id, packed, rotation, translation, CAMERA, lights)
    many = shade(face_id, packed, rotation, translation, CAMERA.expand(2, 3, 3), lights)
    torch.testing.assert_close(one.intensity, many.intensity)


def test_crevices_darken_the_rear_and_never_brighten():
    # A post stands before a wall: the wall beside the post is darkened, the post's face is not.
    wall, post = box(8.0, 8.0, 0.2), box(1.0, 8.0, 2.0)
    vertices = np.concatenate([wall[0], post[0] - [0, 0, 1.0]]).astype(np.float32)
    packed = pack_meshes([(vertices, np.concatenate([wall[1], post[1] + 8]).astype(np.int32))])
    eye, away = torch.eye(3)[None], torch.tensor([[0.0, 0.0, 8.0]])
    camera = camera_matrix(64, 64, 31.5, 31.5)
    face_id = make_rasterizer().rasterize(packed, torch.tensor([0]), eye, away, camera, (64, 64))
    plain = shade(face_id, packed, eye, away, camera, lighting(1)).intensity[0]
    dark = shade(face_id, packed, eye, away, camera, lighting(1, crevice=0.8)).intensity[0]
    assert (dark <= plain + 1e-6).all()
    ratio = dark[32] / plain[32].clamp(min=1e-6)
    post_edge = int(31.5 + 0.5 * 64 / 6.0)  # its front is 6 away
    assert ratio[31] > 0.999 and ratio[post_edge + 3] < 0.6
    assert ratio[post_edge + 3] < ratio[60]


def test_a_flat_face_has_no_crevices():
    plate = box(8.0, 8.0, 0.2)
    packed, eye, away = pack_meshes([plate]), torch.eye(3)[None], torch.tensor([[0.0, 0.0, 800.0]])
    camera = camera_matrix(6400, 6400, 31.5, 31.5)
    face_id = make_rasterizer().rasterize(packed, torch.tensor([0]), eye, away, camera, (64, 64))
    plain, dark = (
        shade(face_id, packed, eye, away, camera, lighting(1, crevice=strength)).intensity[0, 16:48, 16:48]
        for strength in (0.0, 0.8)
    )
    torch.testing.assert_close(plain, dark, atol=1e-3, rtol=0)


def test_no_images_give_no_pixels():
    packed = pack_meshes([tetrahedron()])
    nothing = torch.zeros(0, *SIZE, dtype=torch.int64)
    shaded = shade(nothing, packed, torch.zeros(0, 3, 3), torch.zeros(0, 3), CAMERA, lighting(0))
    assert shaded.intensity.shape == (0, *SIZE) and shaded.normals.shape == (0, *SIZE, 3)
