"""Demo scenes: the truth fits the pixels, parts do not intersect, and the same settings give the same scenes."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_scene import box_mesh, model, objects

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.depth import render_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes
from shared_pose_ros.scenes import clutter, textures
from shared_pose_ros.scenes.clutter import SceneSettings, generate_frames
from shared_pose_ros.scenes.layout import SceneBuilder, Tray
from shared_pose_ros.scenes.renderer import (
    Body,
    Lights,
    Material,
    Sensor,
    Studio,
    corner_normals,
    develop,
    look_at,
)
from shared_pose_ros.scenes.textures import GROUNDS, Ground, linear, srgb

SMALL = SceneSettings(
    scenes=1,
    views=2,
    parts=(4, 4),
    radius=0.06,
    size=(96, 128),
    camera=(120.0, 121.0, 64.3, 47.2),
    light_samples=(1, 3),
)
GREY = Material(np.array([0.5, 0.5, 0.5]), 0.0, 0.0, 1.0, 0.0)


@pytest.fixture(autouse=True)
def _plain_ground(monkeypatch):
    """A checked table: the real textures take a second each and have their own test."""
    tiles = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((8, 8))).astype(np.float32)
    texture = np.repeat((0.2 + 0.3 * tiles)[..., None], 3, axis=2)
    monkeypatch.setattr(clutter, "GROUNDS", {"tiles": lambda generator: Ground(texture, 0.1, 10.0)})


@pytest.fixture
def frames():
    return list(generate_frames(objects(), SMALL))


def test_poses_boxes_and_masks_fit_the_pixels(frames):
    known = objects()
    pack = pack_meshes([(m.mesh.vertices, m.mesh.faces) for m in known])
    assert [(f.scene_id, f.image_id) for f in frames] == [(0, 0), (0, 1)]
    for frame in frames:
        assert frame.image.shape == (96, 128, 3) and frame.image.dtype == np.uint8
        camera = torch.from_numpy(frame.camera).float()
        alone = []
        for instance in frame.instances:
            r, t = (torch.from_numpy(v)[None].float() for v in (instance.rotation, instance.translation))
            index = torch.tensor([known.index(instance.class_id)])
            alone.append(render_depth(pack, index, r, t, camera, (96, 128), make_rasterizer())[0].numpy())
        alone = np.stack(alone)
        np.testing.assert_array_equal(frame.silhouettes, alone > 0)
        nearest = np.where(alone > 0, alone, np.inf)
        covered = np.isfinite(nearest.min(axis=0))
        expected = (nearest == nearest.min(axis=0)) & covered
        assert (expected != frame.masks).sum() <= 0.01 * covered.sum()  # ties and rounding at common edges
        np.testing.assert_allclose(frame.depth[covered], nearest.min(axis=0)[covered], atol=2e-4)
        # Around the parts lies the table, farther away than any of them can be seen through.
        assert (frame.depth[~covered] > 0).all() and not frame.masks[:, ~covered].any()
        for instance, mask, silhouette in zip(frame.instances, frame.masks, frame.silhouettes):
            assert instance.visibility == pytest.approx(mask.sum() / silhouette.sum())
            assert instance.visibility >= SMALL.visibility[0]
            rows, columns = mask.nonzero()
            cx, cy, w, h = instance.box
            assert (cx - (w - 1) / 2, cx + (w - 1) / 2) == (columns.min(), columns.max())
            assert (cy - (h - 1) / 2, cy + (h - 1) / 2) == (rows.min(), rows.max())


def test_a_part_is_the_same_in_all_views_of_its_heap(frames):
    first, second = frames
    # The motion between the two cameras is the same for every part.
    motions = [
        (b.rotation @ a.rotation.T, b.translation - b.rotation @ a.rotation.T @ a.translation)
        for a, b in zip(first.instances, second.instances)
    ]
    for rotation, translation in motions[1:]:
        np.testing.assert_allclose(rotation, motions[0][0], atol=1e-6)
        np.testing.assert_allclose(translation, motions[0][1], atol=1e-6)
    assert np.linalg.norm(motions[0][0] - np.eye(3)) > 0.3


def test_the_seed_decides_everything(frames):
    again = list(generate_frames(objects(), SMALL))
    for a, b in zip(frames, again):
        np.testing.assert_array_equal(a.image, b.image)
    other = next(generate_frames(objects(), dataclasses.replace(SMALL, seed=1)))
    assert (other.image != frames[0].image).any()


def test_classes_come_equally_often(frames):
    assert sorted(instance.class_id for instance in frames[0].instances) == ["1", "1", "2", "2"]


@pytest.mark.slow
def test_a_heap_that_cannot_be_seen_is_named():
    near = dataclasses.replace(SMALL, distance=(0.02, 0.021))
    with pytest.raises(ValueError, match="scene 0: no view shows even one part whole; take a greater distance"):
        next(generate_frames(objects(), near))


@pytest.mark.slow
def test_a_heap_that_does_not_fit_is_made_smaller():
    crowded = dataclasses.replace(SMALL, parts=(8, 8), views=1, radius=0.01, visibility=(0.99, 1.0))
    frame = next(generate_frames(objects(), crowded))
    assert 1 <= len(frame.instances) < 8
    assert min(instance.visibility for instance in frame.instances) >= 0.99


def inside_by(mesh, points):
    """How deep points lie inside a box mesh, metres, negative outside."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return np.minimum(points - low, high - points).min(axis=1)


@pytest.mark.parametrize("tray", [None, Tray(half_width=0.08)])
def test_parts_stand_on_the_table_and_never_intersect(tray):
    known = objects()
    parts = SceneBuilder(known, radius=0.04).build([0, 1] * 3, torch.Generator().manual_seed(5), tray)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 3), axis=-1).reshape(-1, 3)
    clouds = []
    for part in parts:
        np.testing.assert_allclose(part.rotation @ part.rotation.T, np.eye(3), atol=1e-9)
        vertices = known[part.object_index].mesh.vertices
        filled = vertices.min(axis=0) + grid * np.ptp(vertices, axis=0)
        clouds.append(filled @ part.rotation.T + part.translation)
        assert clouds[-1][:, 2].min() > -1e-5
    assert min(cloud[:, 2].min() for cloud in clouds) < 1e-4
    assert max(cloud[:, 2].min() for cloud in clouds) > 0.01, "nothing lies on anything: not a heap"
    for i, part in enumerate(parts):
        for j, cloud in enumerate(clouds):
            if i != j:
                local = (cloud - part.translation) @ part.rotation
                assert inside_by(known[part.object_index].mesh, local).max() < 5e-4


def test_a_settled_part_lies_flat_and_an_unsettled_one_need_not():
    plate = ObjectSet((model("plate", box_mesh(0.10, 0.08, 0.01)),))

    def tilts(settled):
        builder = SceneBuilder(plate, settled=settled)
        heaps = [builder.build([0], torch.Generator().manual_seed(seed), None) for seed in range(6)]
        return [np.degrees(np.arccos(min(1.0, np.abs(heap[0].rotation[2]).max()))) for heap in heaps]

    assert max(tilts(1.0)) < 5.0
    assert max(tilts(0.0)) > 10.0


def test_a_lamp_casts_a_shadow_and_the_far_side_of_a_part_is_dark():
    cube = box_mesh(0.06, 0.06, 0.06, offset=(0.0, 0.0, 0.03))
    texture = np.full((8, 8, 3), 0.5, dtype=np.float32)
    lamp = Lights(torch.tensor([[[1.0, 0.0, 1.0]]]), torch.ones(1, 3), torch.zeros(0, 3), torch.zeros(0, 3))
    studio = Studio([Body(cube.vertices, cube.faces, GREY)], Ground(texture, 0.0, 1.0), lamp, make_rasterizer())
    pose = look_at(torch.tensor([0.0, 0.0, 0.8]), torch.zeros(3))
    camera = torch.tensor([[100.0, 0.0, 31.5], [0.0, 100.0, 31.5], [0.0, 0.0, 1.0]])
    light = studio.photograph(*pose, camera, (64, 64)).mean(-1).numpy()

    def at(x, y, z=0.0):
        u = camera @ (pose[0] @ torch.tensor([x, y, z]) + pose[1])
        return light[round((u[1] / u[2]).item()), round((u[0] / u[2]).item())]

    lit = 0.5 * np.cos(np.radians(45))
    assert at(0.0, 0.15) == pytest.approx(lit, rel=0.2)
    assert at(0.12, 0.0) == pytest.approx(lit, rel=0.2)
    assert at(-0.05, 0.0) < 1e-6  # the shadow reaches from −0.03 to about −0.09
    assert at(-0.15, 0.0) == pytest.approx(lit, rel=0.2)
    assert at(0.0, 0.0, 0.06) == pytest.approx(lit, rel=0.2)


def test_bright_parts_on_a_dark_ground_are_not_burnt_out():
    light = torch.full((40, 40, 3), 0.02)
    light[:12, :12] = torch.linspace(0.3, 0.6, 12)[:, None, None]
    image = develop(light, Sensor(0.3, 0.4, 0.0, 0.0, 0.0), np.random.default_rng(0))
    column = image[1:11, 4, 1].astype(int)
    assert (np.diff(column) > 0).all() and column.max() < 250
    plain = develop(torch.full((40, 40, 3), 0.02), Sensor(0.3, 0.4, 0.0, 0.0, 0.0), np.random.default_rng(0))
    assert plain[20, 20, 0] == round(255 * float(srgb(np.array(0.3))))


def test_look_at_centres_the_target_upright():
    eye, target = torch.tensor([0.4, -0.3, 0.5]), torch.tensor([0.1, 0.0, 0.02])
    rotation, translation = look_at(eye, target)
    assert torch.linalg.det(rotation) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(rotation @ target + translation, [0, 0, torch.dist(eye, target)], atol=1e-6)
    above = rotation @ (target + torch.tensor([0.0, 0.0, 0.1])) + translation
    assert above[1] < -0.01 and abs(above[0]) < 1e-6  # y points down in the image


def test_corner_normals_smooth_a_tube_and_keep_a_cube_sharp():
    cube = box_mesh(1, 1, 1)
    corners = cube.vertices[cube.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    sharp = corner_normals(cube.vertices, cube.faces)
    np.testing.assert_allclose(sharp, np.repeat(flat[:, None], 3, axis=1), atol=1e-6)
    angle = 2 * np.pi * np.arange(24) / 24
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tube = np.concatenate([np.c_[ring, np.zeros(24)], np.c_[ring, np.ones(24)]])
    i = np.arange(24)
    j = (i + 1) % 24
    faces = np.concatenate([np.stack([i, j, 24 + i], axis=1), np.stack([j, 24 + j, 24 + i], axis=1)])
    normals = corner_normals(tube, faces)
    radial = tube[faces] * (1, 1, 0)
    assert (normals.numpy() * radial).sum(-1).min() > np.cos(np.radians(5.5))


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_are_reflectances_and_differ_by_seed(name, monkeypatch):
    monkeypatch.setattr(textures, "TEXELS", 128)
    first, again, other = (GROUNDS[name](np.random.default_rng(seed)).texture for seed in (0, 0, 1))
    assert first.shape == (128, 128, 3) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1 and first.std() > 0.005
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_srgb_is_the_inverse_of_linear():
    values = np.linspace(0, 1, 101)
    np.testing.assert_allclose(srgb(linear(values)), values, atol=1e-5)
    assert linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-4)  # IEC 61966-2-1
