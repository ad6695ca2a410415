"""Training crops: the object inside, the rotation the one that is rendered, windows, targets, determinism."""

import dataclasses

import numpy as np
import pytest
import torch
from shapes import tiny_objects
from training_run import PLAIN, UNCHANGED
from zbuffer import pixel_ray, render

from shared_pose_ros.meshes.object_set import NORMALISED_SIZE
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.augmentation import Draw
from shared_pose_ros.training.auxiliary_decoder import SURFACE_CHANNELS, SURFACE_STRIDE
from shared_pose_ros.training.config import AugmentationConfig, SynthesisConfig
from shared_pose_ros.training.synthesis import Synthesizer, _follow_visible

SIZE = 32
GRID = SIZE // SURFACE_STRIDE
# White objects without shading, exactly centred, one metre away.
SILHOUETTE = dataclasses.replace(PLAIN, ambient=(1.0, 1.0), distance=(1.0, 1.0), crop_shift=0.0, crop_scale=0.0)


def make(photographs, synthesis=SILHOUETTE, augmentation=UNCHANGED, black=True):
    synthesizer = Synthesizer(
        tiny_objects(), synthesis, augmentation, SIZE, make_rasterizer(), torch.device("cpu"), photographs
    )
    if black:
        synthesizer.backgrounds = torch.zeros_like(synthesizer.backgrounds)
    return synthesizer


def batch(synthesizer, count=16, seed=0):
    return synthesizer.batch(count, torch.Generator().manual_seed(seed))


def bounds(mask):
    """First and last row and column of a mask's pixels, (2, 2)."""
    return np.array([[axis.min(), axis.max()] for axis in np.nonzero(mask)])


def test_shapes_ranges_and_types(photographs):
    made = batch(make(photographs, SynthesisConfig(), AugmentationConfig(), black=False))
    assert made.crops.shape == (16, 3, SIZE, SIZE) and made.crops.dtype == torch.float32
    low, high = made.crops.amin(dim=(1, 2, 3)), made.crops.amax(dim=(1, 2, 3))
    assert (low == 0).all() and torch.allclose(high, torch.ones(16))
    assert made.object_index.dtype == torch.int64 and set(made.object_index.tolist()) == {0, 1}
    eye = torch.eye(3).expand(16, 3, 3)
    torch.testing.assert_close(made.rotations.transpose(1, 2) @ made.rotations, eye, atol=1e-5, rtol=0)


def test_the_generator_decides(photographs):
    synthesizer = make(photographs, SynthesisConfig(), AugmentationConfig(), black=False)
    first, same, other = batch(synthesizer, 4, 1), batch(synthesizer, 4, 1), batch(synthesizer, 4, 2)
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(same, field.name))
        assert not torch.equal(getattr(first, field.name), getattr(other, field.name)) or field.name == "object_index"


def test_without_noise_the_box_is_centred_and_fills_the_crop_but_for_the_padding(photographs):
    made = batch(make(photographs), 24)
    for crop in made.crops[:, 0].numpy():
        rows, columns = bounds(crop > 0.5)
        for first, last in (rows, columns):
            assert abs((first + last) / 2 - (SIZE - 1) / 2) <= 1.0
        side = max(rows[1] - rows[0], columns[1] - columns[0]) + 1
        assert abs(side - SIZE / SILHOUETTE.crop_pad) <= 1.5


def test_a_detectors_noise_moves_and_scales_the_window_within_its_limits(photographs):
    noisy = dataclasses.replace(SILHOUETTE, crop_shift=0.05, crop_scale=0.08)
    made = batch(make(photographs, noisy), 48)
    offsets, sides = [], []
    for crop in made.crops[:, 0].numpy():
        rows, columns = bounds(crop > 0.5)
        offsets += [(first + last) / 2 - (SIZE - 1) / 2 for first, last in (rows, columns)]
        sides.append((max(rows[1] - rows[0], columns[1] - columns[0]) + 1) / (SIZE / 1.2))
    assert 0.5 < np.max(np.abs(offsets)) <= 0.05 * SIZE * 1.09 + 1.0
    assert min(sides) < 0.97 and max(sides) > 1.03
    assert min(sides) > 1 / 1.08 - 0.06 and max(sides) < 1 / 0.92 + 0.06


@pytest.mark.slow
def test_the_rotation_is_the_one_that_is_rendered(photographs):
    # The slow z-buffer draws the object at the returned rotation into the window of the crop: silhouettes must agree,
    # and the surface target must be the model points that it sees.
    objects, made = tiny_objects(), batch(make(photographs), 6)
    for row, (index, rotation) in enumerate(zip(made.object_index.tolist(), made.rotations.numpy())):
        crop = made.crops[row, 0].numpy()
        vertices, faces = objects[index].normalized()
        distance = NORMALISED_SIZE / objects[index].scale
        placed = vertices @ rotation.T + [0, 0, distance]
        flat = placed[:, :2] / placed[:, 2:]
        low, high = flat.min(axis=0), flat.max(axis=0)
        focal = SIZE / (1.2 * (high - low).max())
        x, y = (SIZE - 1) / 2 - focal * (low + high) / 2
        camera = [[focal, 0, x], [0, focal, y], [0, 0, 1]]
        face_id, depth, disputable = render(vertices, faces, rotation, [0, 0, distance], camera, (SIZE, SIZE))
        agree = (face_id >= 0) == (crop > 0.5)
        assert agree[~disputable].all() and disputable.mean() < 0.1
        rays = np.stack([np.stack([pixel_ray(camera, x, y) for x in range(SIZE)]) for y in range(SIZE)])
        points = ((depth[:, :, None] * rays - [0, 0, distance]) @ rotation) * (face_id >= 0)[:, :, None] / 100
        cell = SURFACE_STRIDE
        expected = points.reshape(GRID, cell, GRID, cell, 3).mean(axis=(1, 3))
        clear = ~disputable.reshape(GRID, cell, GRID, cell).any(axis=(1, 3))
        found = made.surface[row, 3:6].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found[clear], expected[clear], atol=2e-3)


def test_the_surface_target_is_the_clean_object_alone(photographs):
    made = batch(make(photographs), 8)
    assert made.surface.shape == (8, SURFACE_CHANNELS, GRID, GRID)
    silhouette = (made.crops[:, :1] > 0.5).float()
    coverage = torch.nn.functional.avg_pool2d(silhouette, SURFACE_STRIDE)
    torch.testing.assert_close(made.surface[:, -1:], coverage)
    length = made.surface[:, :3].norm(dim=1)
    assert (length <= made.surface[:, -1] + 1e-4).all() and length.max() > 0.99
    # Visible surfaces face the camera, and the camera looks along +z.
    assert (made.surface[:, 2] <= 0.2).all() and made.surface[:, 2].mean() < -0.1
    busy = make(photographs, dataclasses.replace(SILHOUETTE, neighbours=1.0, occluders=1.0), AugmentationConfig())
    assert (batch(busy, 8).surface[:, :, 0, 0] == 0).all()


def test_shading_shows_more_than_a_silhouette(photographs):
    lit = make(photographs, dataclasses.replace(PLAIN, ambient=(0.1, 0.1), crop_shift=0.0, crop_scale=0.0))
    made = batch(lit, 16)
    inside = made.surface[:, -1] == 1
    shades = torch.nn.functional.avg_pool2d(made.crops.mean(dim=1, keepdim=True), SURFACE_STRIDE)[:, 0]
    spread = torch.stack([shades[i][inside[i]].std() for i in range(16)])
    assert (spread > 0.03).float().mean() > 0.5


def test_occluders_hide_at_most_their_limit_and_leave_the_labels(photographs):
    plain, occluded = make(photographs), make(photographs, dataclasses.replace(SILHOUETTE, occluders=1.0))
    first, second = batch(plain, 32, 5), batch(occluded, 32, 5)
    assert torch.equal(first.rotations, second.rotations)
    changed = (first.crops - second.crops).abs().amax(dim=(1, 2, 3)) > 0.1
    assert changed.any()


def test_the_crop_follows_what_stays_visible():
    # Left 12 of 32 columns of a centred square hidden: its visible rest, 12 wide and 24 high, moves to the middle.
    alpha, covered = torch.zeros(2, 1, SIZE, SIZE), torch.zeros(2, 1, SIZE, SIZE)
    alpha[:, :, 4:28, 4:28] = 1
    covered[0, :, :, :16] = 1
    canvas = alpha.repeat(1, 3, 1, 1) * (1 - covered)
    shown, surface = _follow_visible(canvas, alpha.clone(), alpha, covered)
    assert torch.equal(shown[1], canvas[1]) and torch.equal(surface[1], alpha[1])
    np.testing.assert_array_equal(bounds(surface[0, 0].numpy() > 0.5), [[4, 27], [0, 21]])
    # Columns beyond 22 lie outside the window that was drawn: they mirror it.
    np.testing.assert_array_equal(bounds(shown[0, 0, :, :22].numpy() > 0.5), [[4, 27], [10, 21]])
    # Of a flat one, hidden but for its right half, the rest fills the crop as the whole did.
    alpha[:, :, :12], alpha[:, :, 20:] = 0, 0
    shown, _ = _follow_visible(alpha.repeat(1, 3, 1, 1), alpha, alpha, covered)
    rows, columns = bounds(shown[0, 0].numpy() > 0.5)
    assert columns[0] <= 4 and columns[1] >= 27 and rows[1] - rows[0] + 1 in (15, 16, 17)


def test_shadows_darken_and_never_brighten(photographs):
    synthesizer = make(photographs)
    alpha = torch.zeros(8, 1, SIZE, SIZE)
    alpha[:, :, 8:24, 8:24] = 1
    factor = synthesizer._shadow(alpha, Draw(8, torch.Generator().manual_seed(0)), 1.0)
    assert factor.shape == alpha.shape and factor.max() <= 1 and 0.25 < factor.min() < 0.8
    assert (synthesizer._shadow(alpha, Draw(8, torch.Generator().manual_seed(0)), 0.0) == 1).all()


def test_difficulty_scales_the_disturbances(photographs):
    busy = make(photographs, dataclasses.replace(SILHOUETTE, occluders=1.0, neighbours=1.0), black=True)
    easy = busy.batch(16, torch.Generator().manual_seed(0), difficulty=0.0)
    plain = batch(make(photographs), 16)
    torch.testing.assert_close(easy.crops, plain.crops)
    assert not torch.equal(batch(busy, 16).crops, plain.crops)


@pytest.mark.parametrize("supersample", [2, 3])
def test_supersampling_softens_edges_only(photographs, supersample):
    coarse = batch(make(photographs), 6)
    fine = batch(make(photographs, dataclasses.replace(SILHOUETTE, supersample=supersample)), 6)
    assert set(torch.unique(coarse.crops[:, 0].round(decimals=3)).tolist()) == {0.0, 1.0}
    partial = ((fine.crops > 0.05) & (fine.crops < 0.95)).float().mean()
    assert 0.0 < partial < 0.3
    assert ((fine.crops[:, 0] > 0.5) != (coarse.crops[:, 0] > 0.5)).float().mean() < 0.05


def pairs(synthesizer, images=6, seed=0):
    return synthesizer.autoencoder_batch(images, torch.Generator().manual_seed(seed))


def test_an_autoencoders_batch_holds_as_many_of_each_object_and_follows_its_generator(photographs):
    synthesizer = make(photographs, SynthesisConfig(), AugmentationConfig(), black=False)
    first, same, other = pairs(synthesizer), pairs(synthesizer), pairs(synthesizer, seed=1)
    assert first.object_index.tolist() == [0] * 6 + [1] * 6
    assert first.crops.shape == first.targets.shape == (12, 3, SIZE, SIZE)
    for images in (first.crops, first.targets):
        assert (images.amin(dim=(1, 2, 3)) == 0).all() and torch.allclose(images.amax(dim=(1, 2, 3)), torch.ones(12))
    for field in ("crops", "targets", "rotations"):
        assert torch.equal(getattr(first, field), getattr(same, field))
        assert not torch.equal(getattr(first, field), getattr(other, field))


def test_targets_are_centred_and_alone_on_black(photographs):
    busy = dataclasses.replace(SynthesisConfig(), neighbours=1.0, occluders=1.0, crop_shift=0.2, crop_scale=0.2)
    made = pairs(make(photographs, busy, AugmentationConfig(), black=False), 12)
    for crop in made.targets.amax(dim=1).numpy():
        rows, columns = (np.flatnonzero((crop > 0.05).any(axis=axis)) for axis in (1, 0))
        for filled in (rows, columns):
            assert abs((filled[0] + filled[-1]) / 2 - (SIZE - 1) / 2) <= 1.0
        assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - SIZE / busy.crop_pad) <= 2.0
        border = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
        assert (border == 0).all()


def test_a_target_shows_the_rotation_of_its_input(photographs):
    # White objects, a black background, no jitter: silhouettes of input and target are the same.
    plain = dataclasses.replace(PLAIN, ambient=(1.0, 1.0), distance=(0.7, 0.7), crop_shift=0.0, crop_scale=0.0)
    synthesizer = make(photographs, plain)
    made = pairs(synthesizer, 12)
    assert ((made.crops > 0.05) == (made.targets > 0.05)).float().mean() > 0.999
    # They change with the rotation, and the jitter of the input leaves them.
    shifted = make(photographs, dataclasses.replace(plain, crop_shift=0.2, crop_scale=0.1), black=False)
    moved = pairs(shifted, 12)
    torch.testing.assert_close(moved.rotations, made.rotations)
    torch.testing.assert_close(moved.targets, made.targets)
    assert (moved.crops - made.crops).abs().mean() > 0.05
    assert (made.targets[0] - made.targets[1]).abs().mean() > 0.02


def test_the_light_of_targets_is_fixed(photographs):
    dark = dataclasses.replace(PLAIN, ambient=(0.0, 0.0), lamp=(0.3, 0.3), brightness=(0.3, 0.3), tint=0.3)
    bright = dataclasses.replace(PLAIN, ambient=(0.6, 0.6), specular=(0.5, 0.5), metallic=(0.5, 0.5), lights=3)
    first, second = pairs(make(photographs, dark, black=False)), pairs(make(photographs, bright, black=False))
    torch.testing.assert_close(first.targets, second.targets)
    assert (first.targets[:, 0] == first.targets[:, 2]).all()  # grey
    inside = [crop[crop > 0] for crop in first.targets]
    assert np.median([values.std().item() for values in inside]) > 0.05  # and shaded, no silhouette
