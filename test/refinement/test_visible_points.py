"""Which points a camera sees: against rays shot one by one, and on a ball, where facing is seeing."""

from __future__ import annotations

import numpy as np
import torch
from depth_scene import part
from zbuffer import intersect

from shared_pose_ros.geometry.mesh_points import surface_points
from shared_pose_ros.refinement.visible_points import (
    DIRECTIONS,
    LEAST_FACING,
    fibonacci_directions,
    unobstructed,
    visible_points,
)


def test_a_point_is_hidden_where_its_ray_meets_a_face() -> None:
    mesh = part("lever").mesh
    points, normals = surface_points(mesh, 80)
    directions = fibonacci_directions(7)
    found = unobstructed(points, normals, mesh, directions)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    slack = 0.01 * np.ptp(mesh.vertices, axis=0).max()
    compared = hidden = 0
    for row, direction in enumerate(directions):
        for at, (point, normal) in enumerate(zip(points.astype(np.float64), normals)):
            if normal @ direction <= 1e-6:
                continue
            distance, margin = intersect(corners - point, direction)
            # An edge of a face within a thousandth of the ray, or a face about as far as the slack: either is right.
            if ((abs(margin) < 1e-3) & (distance > 0)).any() or ((margin >= 0) & (abs(distance - slack) < 1e-4)).any():
                continue
            expected = not ((margin >= 0) & (distance > slack)).any()
            assert found[row, at] == expected, (row, at)
            compared, hidden = compared + 1, hidden + (not expected)
    assert compared > 150 and hidden > 20


def test_points_that_face_away_are_hidden() -> None:
    mesh = part("lever").mesh
    points, normals = surface_points(mesh, 200)
    directions = fibonacci_directions(5)
    assert not unobstructed(points, normals, mesh, directions)[directions @ normals.T <= 0].any()


def test_of_a_ball_the_camera_sees_what_faces_it() -> None:
    points = part("ball").points
    towards = torch.from_numpy(fibonacci_directions(50)).float()
    seen = points.seen(torch.zeros(50, dtype=torch.long), towards)
    facing = towards @ points.normals[0].T > LEAST_FACING
    # The table's nearest direction is up to 12° away, which hides points at the rim.
    assert not (seen & ~facing).any()
    rim = towards @ points.normals[0].T < 0.25
    assert (seen == facing)[~rim].all() and facing.float().mean() > 0.35


def test_of_a_hollow_part_the_camera_sees_less_than_what_faces_it() -> None:
    points = part("socket").points
    towards = torch.from_numpy(fibonacci_directions(50)).float()
    seen = points.seen(torch.zeros(50, dtype=torch.long), towards)
    facing = torch.einsum("pi,hi->hp", points.normals[0], towards) > LEAST_FACING
    assert 0.02 < (facing & ~seen).sum() / facing.sum() < 0.5


def test_directions_are_spread_evenly() -> None:
    directions = fibonacci_directions(DIRECTIONS)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    cosines = directions @ directions.T - 2 * np.eye(DIRECTIONS)
    nearest = np.degrees(np.arccos(cosines.max(axis=1)))
    assert nearest.min() > 13 and nearest.max() < 20
    anywhere = np.random.default_rng(0).normal(size=(2000, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    assert np.degrees(np.arccos((anywhere @ directions.T).max(axis=1))).max() < 14


def test_points_lie_about_the_centres_and_objects_without_a_mesh_are_unknown() -> None:
    mesh = part("box").mesh
    centre = np.float32([0.1, 0.2, 0.3])
    table = visible_points([None, mesh], np.stack([np.zeros(3, np.float32), centre]))
    assert table.known.tolist() == [False, True] and not table.points[0].any() and not table.shown[0].any()
    torch.testing.assert_close(table.points[1], part("box").points.points[0] - torch.from_numpy(centre))
    fewer = table.every(4)
    assert torch.equal(fewer.points, table.points[:, ::4]) and torch.equal(fewer.shown, table.shown[:, :, ::4])
    index, towards = torch.tensor([1]), torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.equal(fewer.seen(index, towards), table.seen(index, towards)[:, ::4])
