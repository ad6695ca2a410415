"""Random parts: closed, within the limits, reproducible, varied, usable by the ``Synthesizer``."""

import sys

import numpy as np
import pytest
import torch
import trimesh

from shared_pose_ros.meshes import random_parts
from shared_pose_ros.meshes.mesh import MeshError, load_mesh
from shared_pose_ros.meshes.part_families import features
from shared_pose_ros.meshes.part_families.sampler import Sampler
from shared_pose_ros.meshes.part_families.shapes import block, pin
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.config import AugmentationConfig, SynthesisConfig
from shared_pose_ros.training.synthesis import Synthesizer

SEEDS = range(30)
MILLIMETRE = 1e-3
VOLUMES = [188830, 2059, 5365, 2148]  # of the first seeds, mm³
STREAM = [2.533, 4.072, 3.414]


@pytest.fixture(scope="module")
def parts():
    return [random_parts.random_part(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def solids(parts):
    return [trimesh.Trimesh(vertices, faces) for vertices, faces in parts]


def test_each_part_is_one_closed_solid(solids):
    for solid in solids:
        assert solid.is_watertight and solid.is_winding_consistent and solid.body_count == 1 and solid.volume > 0


def test_sizes_and_face_counts_are_within_the_limits(parts):
    for vertices, faces in parts:
        assert vertices.dtype == np.float32 and faces.dtype == np.int32
        assert 20.0 <= np.ptp(vertices, axis=0).max() <= 150.0
        assert 100 <= len(faces) <= 5000
        assert set(np.unique(faces)) == set(range(len(vertices)))


def test_a_part_depends_on_its_seed_alone(parts):
    for seed in (11, 3):  # in another order than before
        for again, before in zip(random_parts.random_part(seed), parts[seed]):
            np.testing.assert_array_equal(again, before)


def test_parts_are_those_of_every_machine(solids):
    volumes = [round(solid.volume) for solid in solids[:4]]
    assert volumes == pytest.approx(VOLUMES, rel=1e-3)


def test_parts_are_varied(solids):
    extents = np.sort([solid.extents for solid in solids], axis=1)
    flatness, slimness = extents[:, 0] / extents[:, 2], extents[:, 1] / extents[:, 2]
    filling = np.array([solid.volume for solid in solids]) / extents.prod(axis=1)
    assert (flatness < 0.35).sum() >= 4 and (slimness < 0.55).sum() >= 4  # flat and elongated ones
    assert (flatness > 0.6).sum() >= 4
    assert filling.min() < 0.25 and filling.max() > 0.5
    assert np.log(extents[:, 2]).std() > 0.4  # 0.58 for a uniform logarithm from 20 to 150
    shapes = np.stack([flatness, slimness, filling], axis=1)
    distance = np.linalg.norm(shapes[:, None] - shapes[None], axis=2) + np.eye(len(shapes))
    assert distance.min() > 0.003


@pytest.mark.parametrize("build", [build for build, _ in random_parts.FAMILIES], ids=lambda build: build.__name__)
def test_family_gives_different_solids(build):
    solids = [build(Sampler(seed)) for seed in range(3)]
    volumes = {round(solid.volume()) for solid in solids}
    assert len(volumes) == 3 and min(volumes) > 100


def test_open_small_and_touching_meshes_are_refused():
    vertices, faces = random_parts.random_part(0)
    assert random_parts._is_acceptable(vertices, faces)
    assert not random_parts._is_acceptable(vertices, faces[1:])
    ball = trimesh.creation.icosphere(3)
    pair = trimesh.util.concatenate([ball, ball.copy().apply_translation((2.0, 0.0, 0.0))])
    for shape, fits in ((ball, True), (pair, True), (trimesh.creation.box(), False)):
        assert random_parts._is_acceptable(shape.vertices.astype(np.float32), shape.faces) is fits
    # Two tubes of square section whose edges coincide: four faces meet there.
    tube = trimesh.creation.box().subdivide().subdivide()
    pair = trimesh.util.concatenate([tube, tube.copy().apply_translation((1.0, 1.0, 0.0))])
    assert not random_parts._is_acceptable(pair.vertices.astype(np.float32), pair.faces)


def test_a_solid_in_pieces_is_tried_again_and_given_up(monkeypatch):
    attempts = []

    def pieces(draw):
        attempts.append(draw)
        return block((0, 0), (9, 9), 0, 9) + block((20, 0), (9, 9), 0, 9)

    monkeypatch.setattr(random_parts, "_solid", pieces)
    with pytest.raises(MeshError, match="seed 5"):
        random_parts.random_part(5)
    assert len(attempts) == random_parts._ATTEMPTS


def test_a_small_feature_changes_little_and_stays_attached():
    for seed in range(12):
        solid = features.with_feature(Sampler(seed), pin((0, 0), 0, 40, 30), small=True)
        change = abs(solid.volume() / pin((0, 0), 0, 40, 30).volume() - 1)
        assert 0 < change < 0.03 and len(solid.decompose()) == 1


def test_places_lie_on_the_surface_and_keep_off_its_edges():
    plate = block((0, 0), (100, 80), 0, 10) - pin((0, 0), -1, 11, 25)
    places = [features.flat_place(Sampler(seed), plate, 6.0) for seed in range(40)]
    found = np.array([place for place in places if place is not None])
    assert len(found) > 30
    np.testing.assert_allclose(found[:, 2], 10)
    # Eight points on a circle of 6 mm are on the plate: the circle itself may be out by 6 (1 − cos 22.5°) = 0.46 mm.
    assert (np.linalg.norm(found[:, :2], axis=1) > 25 + 6 - 0.5).all()
    assert (np.abs(found[:, :2]) < np.array([50, 40]) - 6 + 0.5).all()
    assert features.flat_place(Sampler(0), plate, 40.0) is None


def test_places_keep_off_steps():
    stairs = block((0, 0), (100, 80), 0, 10) + block((30, 0), (40, 80), 0, 14)
    places = [features.flat_place(Sampler(seed), stairs, 6.0) for seed in range(40)]
    found = np.array([place for place in places if place is not None])
    assert len(found) > 30 and (np.abs(found[:, 0] - 10) > 6 - 0.5).all()
    np.testing.assert_allclose(found[:, 2], np.where(found[:, 0] > 10, 14, 10))


def test_sampler_keeps_its_stream_and_its_ends():
    draw = Sampler(3, 1)
    assert [draw.between(0, 10) for _ in range(3)] == STREAM
    assert {draw.count(2, 5) for _ in range(100)} == {2, 3, 4, 5}
    assert {draw.sign() for _ in range(20)} == {-1, 1}
    logarithms = np.log10([draw.log_between(1, 100) for _ in range(2000)])
    assert logarithms.mean() == pytest.approx(1.0, abs=0.05) and logarithms.min() >= 0 and logarithms.max() <= 2


def test_object_set_holds_the_parts_in_metres(parts):
    objects = random_parts.random_object_set(3, seed=4)
    assert objects.class_ids == ("random_000004", "random_000005", "random_000006")
    for model, (vertices, faces) in zip(objects, parts[4:7]):
        np.testing.assert_allclose(model.mesh.vertices, vertices * MILLIMETRE, rtol=1e-6)
        np.testing.assert_array_equal(model.mesh.faces, faces)
        assert model.scale == pytest.approx(np.ptp(vertices, axis=0).max() / 2 * MILLIMETRE)
        assert np.abs(model.normalized()[0]).max() == pytest.approx(100, abs=1e-3)


@pytest.mark.slow
def test_object_set_feeds_the_synthesizer():
    objects = random_parts.random_object_set(3, seed=4)
    synthesis, device = SynthesisConfig(face_budget=500), torch.device("cpu")
    synthesizer = Synthesizer(objects, synthesis, AugmentationConfig(), 32, make_rasterizer(), device)
    batch = synthesizer.batch(4, torch.Generator().manual_seed(0))
    assert batch.crops.shape == (4, 3, 32, 32) and torch.isfinite(batch.crops).all()


def test_command_line_writes_meshes_and_explains_failure(tmp_path, capsys, parts):
    assert random_parts.main([str(tmp_path / "new"), "2", "--seed", "7"]) == 0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["random_000007.ply", "random_000008.ply"]
    mesh = load_mesh(tmp_path / "new" / "random_000007.ply", "mm")
    np.testing.assert_allclose(mesh.extents, np.ptp(parts[7][0], axis=0) * MILLIMETRE, rtol=1e-5)
    (tmp_path / "file").write_text("")
    assert random_parts.main([str(tmp_path / "file"), "1"]) == 1
    assert random_parts.main([str(tmp_path / "new"), "1", "--seed", "-1"]) == 1
    assert capsys.readouterr().err.count("error:") == 2


def test_what_cannot_be_built_is_named(monkeypatch):
    with pytest.raises(ValueError, match="count is 0"):
        random_parts.random_object_set(0, seed=1)
    monkeypatch.setitem(sys.modules, "manifold3d", None)
    with pytest.raises(MeshError, match="pip install manifold3d"):
        random_parts.random_part(0)
