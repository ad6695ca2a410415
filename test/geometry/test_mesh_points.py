"""Meshes as points: where they lie, and the depth that they show."""

import math

import numpy as np
import pytest
import torch
from evaluation_scene import box_mesh
from shapes import tetrahedron

from shared_pose_ros.geometry.cameras import camera_matrix, ray_rotation, viewing_ray
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.mesh_points import SURFACE_POINTS, mesh_points, near_surface, surface_points
from shared_pose_ros.geometry.positions import (
    DEPTH_LATERAL,
    LEAST_DEVIATION,
    MESH_DEVIATION,
    MESH_LATERAL,
    estimate_positions,
)
from shared_pose_ros.geometry.rotations import random_rotations

CAMERA = camera_matrix(600.0, 590.0, 319.5, 239.5)
SIZE = (480, 640)
RADIUS = 0.05


def sphere():
    """A globe of 480 faces; its vertices lie on the sphere."""
    rings, around = 10, 24
    polar, turn = np.pi * np.arange(1, rings + 1) / (rings + 1), 2 * np.pi * np.arange(around) / around
    ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=-1)
    grid = np.sin(polar)[:, None, None] * ring + np.cos(polar)[:, None, None] * np.array([0.0, 0.0, 1.0])
    vertices = np.concatenate([[[0, 0, 1]], grid.reshape(-1, 3), [[0, 0, -1]]]) * RADIUS
    last, faces = len(vertices) - 1, []
    for j in range(around):
        at = 1 + j + around * np.arange(rings)
        beside = 1 + (j + 1) % around + around * np.arange(rings)
        faces += [(0, at[0], beside[0]), (last, beside[-1], at[-1])]
        for a, b, c, d in zip(at, at[1:], beside[1:], beside):
            faces += [(a, b, c), (a, c, d)]
    return DisplayMesh(vertices.astype(np.float32), np.array(faces, dtype=np.uint16))


def box(*sides):
    mesh = box_mesh(*sides)
    return DisplayMesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint16))


def sphere_scene(centre):
    """Box around a sphere's silhouette and depth image of it, pixel by pixel in closed form; nothing behind."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    ray = viewing_ray(CAMERA, torch.stack([columns, rows], dim=-1).float())
    along = ray @ centre
    inside = along.square() - centre.square().sum() + RADIUS**2
    depth = torch.where(inside > 0, (along - inside.clamp(min=0).sqrt()) * ray[..., 2], torch.zeros(()))
    seen = (depth > 0).nonzero().float()
    low, high = seen.amin(dim=0).flip(0) - 0.5, seen.amax(dim=0).flip(0) + 0.5
    return torch.cat([(low + high) / 2, high - low])[None], depth


def known(mesh, count=1):
    return mesh_points([mesh] * count, torch.zeros(count, 3))


def test_surface_points_lie_on_the_faces_as_evenly_as_their_area():
    points, normals = surface_points(box(0.1, 0.06, 0.02), 3000)
    on = np.isclose(abs(points), np.array([0.05, 0.03, 0.01]), atol=1e-6)
    assert on.any(axis=1).all() and (abs(points) <= [0.050001, 0.030001, 0.010001]).all()
    area = np.array([0.06 * 0.02, 0.1 * 0.02, 0.1 * 0.06])
    np.testing.assert_allclose(on.mean(axis=0), area / area.sum(), atol=0.01)
    # Evenly within a face: the mean distance from its middle is a quarter of the side, both ways.
    top = points[on[:, 2] & ~on[:, 0] & ~on[:, 1]]
    np.testing.assert_allclose(abs(top[:, :2]).mean(axis=0), [0.025, 0.015], rtol=0.03)
    np.testing.assert_array_equal(points, surface_points(box(0.1, 0.06, 0.02), 3000)[0])
    assert ((normals * points).sum(axis=1) > 0).all() and np.allclose(np.linalg.norm(normals, axis=1), 1)
    inside_out = DisplayMesh(box(0.1, 0.06, 0.02).vertices, box(0.1, 0.06, 0.02).faces[:, ::-1].copy())
    assert (np.prod(surface_points(inside_out), axis=0).sum(axis=1) > 0).all()


def test_points_are_about_the_centres_and_zero_without_a_mesh():
    mesh = DisplayMesh(tetrahedron(0.04)[0].astype(np.float32), tetrahedron(0.04)[1].astype(np.uint16))
    centres = torch.tensor([[0.01, 0.02, 0.03], [0.5, 0.5, 0.5]])
    found = mesh_points([mesh, None], centres)
    assert found.known.tolist() == [True, False] and found.surface.shape == (2, SURFACE_POINTS, 3)
    np.testing.assert_allclose(found.vertices[0].numpy() + centres[0].numpy(), mesh.vertices, atol=1e-7)
    np.testing.assert_allclose(found.surface[0].numpy() + centres[0].numpy(), surface_points(mesh)[0], atol=1e-7)
    assert not found.vertices[1].any() and not found.surface[1].any()
    turned = found.take(torch.tensor([1, 0, 0]))
    assert turned.known.tolist() == [False, True, True] and torch.equal(turned.surface[2], found.surface[0])
    light = found.take(torch.tensor([1, 0, 0]), surface=False)
    assert light.surface.shape == light.normals.shape == (3, 0, 3) and torch.equal(light.vertices, turned.vertices)


def test_the_near_surface_of_a_box_that_faces_the_camera_is_its_face():
    centre, away = torch.tensor([[0.0, 0.0, 0.6]]), 0.6 - 0.02
    seen = torch.tensor([[319.5, 239.5, 600 * 0.1 / away, 590 * 0.08 / away]])
    points = known(box(0.1, 0.08, 0.04))
    found = near_surface(centre, torch.eye(3)[None], points, seen, CAMERA, 0.6, 8)[0]
    assert found.isfinite().float().mean() > 0.6
    grid = 0.6 * ((torch.arange(8) + 0.5) / 8 - 0.5)
    pixels = torch.stack(torch.meshgrid(319.5 + seen[0, 2] * grid, 239.5 + seen[0, 3] * grid, indexing="xy"), dim=-1)
    expected = away / viewing_ray(CAMERA, pixels)[..., 2] - 0.6
    reached = found.isfinite()
    torch.testing.assert_close(found[reached], expected[reached], atol=1e-3, rtol=0)
    # Beside the object there is nothing.
    beside = seen + torch.tensor([[200.0, 0.0, 0.0, 0.0]])
    assert near_surface(centre, torch.eye(3)[None], points, beside, CAMERA, 0.6, 8).isinf().all()


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.5), (0.12, -0.08, 0.6), (-0.1, 0.1, 0.45)])
def test_a_sphere_is_where_it_is_from_its_box_and_from_depth(place):
    centre = torch.tensor(place)
    seen, depth = sphere_scene(centre)
    given = seen, CAMERA, torch.eye(3)[None], torch.full((1, 3), 2 * RADIUS)
    plain = estimate_positions(*given, meshes=known(sphere()))
    deep = estimate_positions(*given, depth, meshes=known(sphere()))
    # The mesh is up to 2 % smaller than the sphere, pixels are whole.
    assert (plain.centres[0] - centre).norm() < 0.02 * centre.norm()
    assert deep.problems == ("",) and (deep.centres[0] - centre).norm() < 0.003
    ray, side = centre / centre.norm(), 2 * RADIUS
    for answer, radial, lateral in ((plain, MESH_DEVIATION * centre.norm(), MESH_LATERAL * side),
                                    (deep, LEAST_DEVIATION, DEPTH_LATERAL * side)):  # fmt: skip
        assert float((ray @ answer.covariances[0] @ ray).sqrt()) == pytest.approx(float(radial), rel=0.15)
        across = torch.linalg.cross(ray, torch.tensor([0.0, 1.0, 0.0]))
        across = across / across.norm()
        assert float((across @ answer.covariances[0] @ across).sqrt()) == pytest.approx(lateral, rel=0.15)


def test_a_cube_with_half_its_window_behind_a_neighbour_stays_where_it_is():
    """Half of the cells but a few: the median is still the cube's."""
    side, away = 0.1, 0.55
    width = 600 * side / (away - side / 2)
    seen = torch.tensor([[319.5, 239.5, width, width * 590 / 600]])
    depth = torch.full(SIZE, away - side / 2)
    depth[:, : int(319.5 - 0.05 * width)] = 0.3
    given = seen, CAMERA, torch.eye(3)[None], torch.full((1, 3), side)
    found = estimate_positions(*given, depth, meshes=known(box(side, side, side)))
    assert found.problems == ("",)
    torch.testing.assert_close(found.centres[0], torch.tensor([0.0, 0.0, away]), atol=1e-3, rtol=0)
    # But it is not sure.
    assert found.covariances[0, 2, 2].sqrt() > 0.04


def test_a_box_too_small_for_the_object_widens_the_deviation_across():
    """Half the cube is hidden: depth knows its distance, its box not where its middle is."""
    side, away = 0.1, 0.55
    width = 600 * side / (away - side / 2)
    depth = torch.full(SIZE, away - side / 2)
    deviations = []
    for share in (1.0, 0.5):
        seen = torch.tensor([[319.5 - (1 - share) / 2 * width, 239.5, share * width, width * 590 / 600]])
        given = seen, CAMERA, torch.eye(3)[None], torch.full((1, 3), side)
        plain = estimate_positions(*given, meshes=known(box(side, side, side)))
        deep = estimate_positions(*given, depth, meshes=known(box(side, side, side)))
        assert deep.problems == ("",)
        error = abs(float(deep.centres[0, 0]))
        deviations.append([plain.covariances[0].diagonal().sqrt(), deep.covariances[0].diagonal().sqrt(), error])
    (plain, deep, _), (plain_hidden, deep_hidden, error) = deviations
    assert (plain_hidden > 1.5 * plain).all() and deep_hidden[0] > 2 * deep[0]
    assert error < 3 * deep_hidden[0] and error > 3 * deep[0]


def test_objects_with_and_without_a_mesh_are_one_batch_and_covariances_positive():
    generator, count = torch.Generator().manual_seed(5), 30
    seen = torch.rand(count, 4, generator=generator) * torch.tensor([640.0, 480.0, 300.0, 300.0]) + 1.0
    seen[0, 2:], seen[1, 2:] = torch.tensor([1e-2, 1e4]), torch.tensor([1e5, 1e5])
    rotations = random_rotations(count, generator)
    extents = torch.tensor([[0.1, 0.06, 0.02]]).expand(count, 3)
    picture = 0.3 + torch.rand(SIZE, generator=generator)
    meshes = mesh_points([box(0.1, 0.06, 0.02), None] * (count // 2), torch.zeros(count, 3))
    for depth in (None, picture):
        mixed = estimate_positions(seen, CAMERA, rotations, extents, depth, SIZE, meshes)
        without = estimate_positions(seen, CAMERA, rotations, extents, depth, SIZE)
        assert torch.isfinite(mixed.centres).all() and torch.isfinite(mixed.covariances).all()
        assert (torch.linalg.eigvalsh(mixed.covariances.double()) > 0).all()
        assert torch.equal(mixed.centres[1::2], without.centres[1::2])
        assert torch.equal(mixed.covariances[1::2], without.covariances[1::2])
        for row in range(0, count, 7):
            part = torch.tensor([row])
            points = meshes.take(part, surface=depth is not None)
            alone = estimate_positions(seen[part], CAMERA, rotations[part], extents[part], depth, SIZE, points)
            torch.testing.assert_close(alone.centres, mixed.centres[part])
            assert alone.problems == mixed.problems[row : row + 1]


def test_depth_far_behind_the_fitted_place_is_refused_from_three_deviations_on():
    side, away = 0.1, 0.5
    seen = torch.tensor([[319.5, 239.5, 600 * side / (away - side / 2), 590 * side / (away - side / 2)]])
    given = seen, CAMERA, torch.eye(3)[None], torch.full((1, 3), side)
    for distance, refused in ((away * (1 + 2.9 * MESH_DEVIATION), False), (away * (1 + 3.1 * MESH_DEVIATION), True)):
        depth = torch.full(SIZE, distance - side / 2)
        found = estimate_positions(*given, depth, meshes=known(box(side, side, side)))
        assert bool(found.problems[0]) == refused
        assert math.isclose(float(found.centres[0, 2]), away if refused else distance, abs_tol=2e-3)


def test_the_correction_turns_the_mesh_too():
    """Off the axis, the crop shows another side: with the rotation as the crop shows it the place is the true one."""
    centre, turn = torch.tensor([0.2, 0.15, 0.6]), random_rotations(1, torch.Generator().manual_seed(2))
    points = known(box(0.1, 0.06, 0.02))
    pixels = (points.vertices[0] @ turn[0].T + centre) @ CAMERA.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = pixels.amin(dim=0), pixels.amax(dim=0)
    seen = torch.cat([(low + high) / 2, high - low])[None]
    shown = ray_rotation(viewing_ray(CAMERA, seen[:, :2])).mT @ turn
    found = estimate_positions(seen, CAMERA, shown, torch.tensor([[0.1, 0.06, 0.02]]), meshes=points)
    torch.testing.assert_close(found.centres[0], centre, atol=1e-4, rtol=0)
