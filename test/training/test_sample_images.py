"""Tiles, rows and grids: right sizes, and the truth is drawn at the true rotation."""

import numpy as np
import pytest
import torch
from shapes import tiny_objects

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.training.sample_images import (
    GREEN,
    ORANGE,
    STRIP,
    TILE,
    crop_grid,
    crop_images,
    hypothesis_rows,
    shaded_views,
    tile,
)
from shared_pose_ros.training.synthesis import TrainingBatch
from shared_pose_ros.training.validation import SampleErrors

N = 3


@pytest.fixture(scope="module")
def meshes():
    return pack_meshes([model.normalized() for model in tiny_objects()])


@pytest.fixture(scope="module")
def truth():
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(2, 3, 32, 32, generator=generator)
    return TrainingBatch(crops, torch.tensor([1, 0]), random_rotations(2, generator), torch.zeros(2, 7, 8, 8))


@pytest.fixture(scope="module")
def samples(truth):
    rotations = random_rotations(2 * N, torch.Generator().manual_seed(1)).reshape(2, N, 3, 3)
    rotations[0, 1] = truth.rotations[0]
    errors = np.array([[120.0, 0.0, 30.0], [14.0, 16.0, 90.0]])
    confidences = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    return SampleErrors(errors, confidences, rotations.numpy(), np.array([1, 0]))


def tiles_of(row):
    """The (2 + n) tiles of a row without their text, and the strips of text."""
    parts = np.split(row, row.shape[1] // TILE, axis=1)
    return [part[:TILE] for part in parts], [part[TILE:] for part in parts]


def test_the_truth_is_a_render_at_the_true_rotation(meshes, truth, samples):
    rows = hypothesis_rows(truth, samples, ["angle", "spike"], meshes, make_rasterizer())
    assert len(rows) == 2
    for number, row in enumerate(rows):
        assert row.shape == (TILE + STRIP, (2 + N) * TILE, 3) and row.dtype == np.uint8
        tiles, _ = tiles_of(row)
        one = slice(number, number + 1)
        (view,) = shaded_views(meshes, truth.object_index[one], truth.rotations[one], TILE, make_rasterizer())
        np.testing.assert_array_equal(tiles[1], np.repeat(view[:, :, None], 3, axis=2))
        crop = crop_images(truth.crops)[number]
        np.testing.assert_array_equal(tiles[0], np.repeat(np.repeat(crop, TILE // 32, axis=0), TILE // 32, axis=1))
    # A hypothesis equal to the truth looks the same, the others do not.
    tiles, _ = tiles_of(rows[0])
    assert np.array_equal(tiles[3], tiles[1]) and not np.array_equal(tiles[2], tiles[1])


def test_right_hypotheses_are_green(meshes, truth, samples):
    rows = hypothesis_rows(truth, samples, ["angle", "spike"], meshes, make_rasterizer())
    for row, errors in zip(rows, samples.errors):
        for strip, error in zip(tiles_of(row)[1][2:], errors):
            colour = strip.reshape(-1, 3)[strip.reshape(-1, 3).sum(axis=1).argmax()].astype(int)
            wanted, other = (GREEN, ORANGE) if error < 15 else (ORANGE, GREEN)
            assert np.abs(colour - wanted).sum() < np.abs(colour - other).sum()
    texts = [tile(np.zeros((8, 8), np.uint8), text)[TILE:] for text in ("0.70  120 deg", "0.20  0 deg")]
    assert (texts[0] != texts[1]).any()


def test_views_show_the_whole_object_and_follow_the_rotation(meshes):
    rotations = random_rotations(16, torch.Generator().manual_seed(5))
    views = shaded_views(meshes, torch.arange(16) % 2, rotations, 64, make_rasterizer())
    background = views[0, 0, 0]
    border = np.concatenate([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]], axis=1)
    assert views.shape == (16, 64, 64) and (border == background).all()
    assert ((views > background + 10).mean(axis=(1, 2)) > 0.03).all()
    assert not np.array_equal(views[0], views[2])


def test_a_grid_is_row_by_row():
    crops = [np.full((32, 32, 3), value, np.uint8) for value in (10, 20, 30, 40, 50)]
    grid = crop_grid(crops, ["a"] * 5, columns=3, side=48)
    assert grid.shape == (2 * (48 + STRIP), 3 * 48, 3)
    centres = [[int(grid[row * (48 + STRIP) + 24, column * 48 + 24, 0]) for column in range(3)] for row in range(2)]
    assert centres == [[10, 20, 30], [40, 50, 0]]
