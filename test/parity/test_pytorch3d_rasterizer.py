"""The PyTorch3D backend against the slow z-buffer, by the tests of the Warp backend, and in a training."""

import dataclasses

import pytest
import test_rasterizer
import torch
from shapes import tiny_objects
from training_run import TINY

from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.trainer import Trainer

# What the Warp backend must do, but for the faces smaller than PyTorch3D's numbers can tell.
SHARED_TESTS = [
    "test_mixed_objects_in_one_launch_and_a_non_square_image",
    "test_one_camera_an_image_skewed_and_off_centre",
    "test_faces_that_cross_the_camera_plane_are_drawn_and_those_behind_are_not",
    "test_a_large_triangle_through_the_camera_plane",
    "test_faces_are_seen_from_both_sides",
    "test_degenerate_faces_are_never_hit",
    "test_no_images_and_wrong_numbers_of_cameras",
    "test_fine_faces_far_away_are_not_missed",
]


@pytest.mark.parametrize("name", SHARED_TESTS)
def test_what_warp_must_do_holds_for_pytorch3d(name):
    getattr(test_rasterizer, name)(make_rasterizer("pytorch3d"))


def test_a_training_runs_on_either_backend(tmp_path, photographs):
    trainers = [
        Trainer(tiny_objects(), TINY, tmp_path / name, torch.device("cpu"), photographs, preset="tiny", rasterizer=name)
        for name in ("warp", "pytorch3d")
    ]
    generators = (torch.Generator().manual_seed(3) for _ in trainers)
    ours, theirs = (trainer.synthesizer.batch(8, generator) for trainer, generator in zip(trainers, generators))
    assert ((ours.crops - theirs.crops).abs() > 1e-3).float().mean() < 0.01
    result = trainers[1].train()
    assert trainers[1].samples == TINY.samples and 0 <= result.median <= 180
    assert dataclasses.replace(trainers[1].config) == TINY
