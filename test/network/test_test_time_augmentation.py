"""Quarter turns: the turned crop is that of the turned object, and merged hypotheses are where they gather."""

import math

import numpy as np
import torch
from shapes import tetrahedron

from shared_pose_ros.geometry.rotations import axis_angle_rotation, random_rotations, rotation_angle
from shared_pose_ros.network.test_time_augmentation import merge_hypotheses, quarter_rotations, rotate_back
from shared_pose_ros.rendering.depth import render_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training.losses import LOSS_DISTANCE, loss_camera

Z = torch.tensor([0.0, 0.0, 1.0])


def render(rotations):
    count = len(rotations)
    away = torch.tensor([0.0, 0.0, LOSS_DISTANCE]).expand(count, 3)
    packed, index = pack_meshes([tetrahedron(100.0)]), torch.zeros(count, dtype=torch.int64)
    return render_depth(packed, index, rotations, away, loss_camera(64), (64, 64), make_rasterizer())


def test_a_turned_crop_shows_the_turned_object_and_turning_back_undoes_it():
    upright = random_rotations(3, torch.Generator().manual_seed(0))
    turned = quarter_rotations(render(upright)[:, None].expand(3, 3, 64, 64))[:, 0]
    # What a perfect network would say of each turned crop: the rotation whose render it is.
    candidates = [axis_angle_rotation(Z, torch.tensor(-turn * math.pi / 2)) @ upright for turn in range(4)]
    said = torch.cat(candidates)
    assert ((render(said) > 0) == (turned > 0)).float().mean() > 0.999
    torch.testing.assert_close(render(said), turned, atol=0.5, rtol=0)
    back = rotate_back(said[:, None])
    torch.testing.assert_close(back, upright[:, None].expand(3, 4, 3, 3), atol=1e-5, rtol=0)


def test_every_hypothesis_keeps_its_crop():
    said = random_rotations(4 * 2 * 3, torch.Generator().manual_seed(1)).reshape(8, 3, 3, 3)
    back = rotate_back(said)
    assert back.shape == (2, 12, 3, 3)
    torch.testing.assert_close(back[1, :3], said[1])  # crop 1, not turned
    third = axis_angle_rotation(Z, torch.tensor(3 * math.pi / 2)) @ said[3 * 2 + 1, 2]
    torch.testing.assert_close(back[1, 11], third, atol=1e-5, rtol=0)


def cluster(centre, angle, count, generator):
    axes = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    return centre @ axis_angle_rotation(axes, torch.full((count,), angle))


def test_the_greatest_cluster_wins_over_the_greatest_weight():
    generator = torch.Generator().manual_seed(2)
    here, there = random_rotations(2, generator)
    rotations = torch.cat([cluster(here, 0.1, 20, generator), there[None]])[None]
    weights = torch.tensor([0.035] * 20 + [0.3])[None]
    found, confidence = merge_hypotheses(rotations, weights, 2)
    assert rotation_angle(here, there) > 1.0
    assert rotation_angle(found[0, 0], here) < 0.05 and rotation_angle(found[0, 1], there) < 0.05
    # Shares of 0.7 and 0.3, a little lost to the kernel's width.
    np.testing.assert_allclose(confidence[0], [0.7, 0.3], atol=0.03)


def test_confidences_sum_to_one_and_fall_and_rotations_are_rotations():
    generator = torch.Generator().manual_seed(3)
    rotations = random_rotations(5 * 24, generator).reshape(5, 24, 3, 3)
    weights = torch.rand(5, 24, generator=generator).softmax(dim=1)
    found, confidence = merge_hypotheses(rotations, weights, 6)
    assert found.shape == (5, 6, 3, 3) and confidence.shape == (5, 6)
    torch.testing.assert_close(confidence.sum(dim=1), torch.ones(5))
    assert (confidence[:, :-1] >= confidence[:, 1:]).all()
    torch.testing.assert_close(found.transpose(-1, -2) @ found, torch.eye(3).expand(5, 6, 3, 3), atol=1e-5, rtol=0)


def test_one_certain_hypothesis_stays():
    rotation = random_rotations(1, torch.Generator().manual_seed(4))[:, None]
    found, confidence = merge_hypotheses(rotation, torch.ones(1, 1), 3)
    torch.testing.assert_close(found[:, :1], rotation, atol=1e-5, rtol=0)
    assert confidence[0, 0] == 1.0 and torch.isfinite(found).all()
