"""Positions from box and mesh."""

import pytest
import torch
from shapes import tetrahedron

from shared_pose_ros.geometry.box_fit import fit_box
from shared_pose_ros.geometry.cameras import camera_matrix, ray_rotation, viewing_ray
from shared_pose_ros.geometry.positions import distance_from_box
from shared_pose_ros.geometry.rotations import random_rotations

CAMERA = camera_matrix(610.0, 590.0, 330.0, 230.0, dtype=torch.float64)
MESH = torch.from_numpy(tetrahedron(0.04)[0]).double()


def scene(count=40):
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(count, generator=generator).double()
    places = torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5
    places = places * torch.tensor([0.5, 0.4, 0.8]) + torch.tensor([0.0, 0.0, 0.8])
    points = MESH @ rotations.transpose(-1, -2) + places[:, None]
    pixels = ((points / points[..., 2:]) @ CAMERA.T)[..., :2]
    low, high = pixels.amin(dim=1), pixels.amax(dim=1)
    return rotations, places, torch.cat([(low + high) / 2, high - low], dim=1)


def start(rotations, boxes):
    extents = (MESH.amax(dim=0) - MESH.amin(dim=0)).expand(len(boxes), 3)
    ray = viewing_ray(CAMERA, boxes[:, :2])
    return ray * distance_from_box(boxes, CAMERA, ray_rotation(ray).mT @ rotations, extents)[:, None]


def test_the_true_place_is_found_from_a_rough_one():
    rotations, places, boxes = scene()
    rough = start(rotations, boxes)
    found = fit_box(boxes, CAMERA, rotations, rough, MESH.expand(len(boxes), -1, -1))
    assert (rough - places).norm(dim=1).median() > 0.03
    assert (found - places).norm(dim=1).max() < 1e-4


@pytest.mark.parametrize("side", [1e-3, 1e5])
def test_wild_boxes_give_finite_places(side):
    rotations, _, boxes = scene()
    boxes = torch.cat([boxes[:, :2], torch.full_like(boxes[:, 2:], side)], dim=1)
    found = fit_box(
        boxes.float(),
        CAMERA.float(),
        rotations.float(),
        start(rotations, boxes).float(),
        MESH.float().expand(len(boxes), -1, -1),
    )
    assert torch.isfinite(found).all() and (found[:, 2] > 0).all()


def test_no_boxes():
    empty = torch.zeros(0, 4)
    found = fit_box(empty, CAMERA.float(), torch.zeros(0, 3, 3), torch.zeros(0, 3), torch.zeros(0, 5, 3))
    assert found.shape == (0, 3)
