"""The demo parts: reproducible, closed, small, and with exactly the symmetries that objects.yaml states."""

import subprocess
import sys

import numpy as np
import pytest
from checkout import ROOT

from shared_pose_ros.meshes import parts
from shared_pose_ros.meshes.mesh import MeshError, load_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.surface import sample_surface, surface_distance
from shared_pose_ros.meshes.symmetries import detect_symmetries, rotation_about

FOLDER = ROOT / "models" / "parts"
NAMES = [part.class_id for part in parts.PARTS]
MILLIMETRE = 1e-3


def misfit(mesh, transform, count=150):
    """Symmetric Hausdorff distance between the surface and the transformed surface, sampled, metres."""
    points = np.concatenate([sample_surface(mesh, count), mesh.vertices[:: max(1, len(mesh.vertices) // count)]])
    both = (transform, np.linalg.inv(transform))
    return max(surface_distance(mesh, points @ m[:3, :3].T + m[:3, 3]).max() for m in both)


def corner_counts(mesh):
    """How often each undirected edge is used, and whether the two uses run in opposite directions."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    _, directed = np.unique(edges, axis=0, return_counts=True)
    _, undirected = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    return directed, undirected


@pytest.fixture(scope="module")
def demo_parts():
    return ObjectSet.load(FOLDER)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    parts.write_parts(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_committed_files_are_what_the_code_builds(rebuilt, name):
    committed, built = load_mesh(FOLDER / f"{name}.ply", "mm"), load_mesh(rebuilt / f"{name}.ply", "mm")
    assert len(committed.vertices) == pytest.approx(len(built.vertices), rel=0.02)
    np.testing.assert_allclose(committed.bounds, built.bounds, atol=1e-6)
    assert surface_distance(committed, sample_surface(built, 200)).max() < 0.01 * MILLIMETRE
    assert (rebuilt / "objects.yaml").read_text() == (FOLDER / "objects.yaml").read_text()


def test_building_twice_gives_the_same_bytes(rebuilt, tmp_path):
    for file in parts.write_parts(tmp_path):
        assert file.read_bytes() == (rebuilt / file.name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_part_is_closed_small_and_of_industrial_size(demo_parts, name):
    model = demo_parts[demo_parts.index(name)]
    directed, undirected = corner_counts(model.mesh)
    assert (undirected == 2).all() and (directed == 1).all()
    assert model.path.stat().st_size < 300_000 and len(model.mesh.faces) < 8000
    assert model.extents.min() >= 0.03 and model.extents.max() <= 0.12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_stated_symmetries_hold_and_no_other_turn_does(demo_parts, name):
    model = demo_parts[demo_parts.index(name)]
    stated = model.symmetries
    for transform in stated.transforms(0.6)[1:]:
        assert misfit(model.mesh, transform) < 0.3 * MILLIMETRE
    round_axes = [np.abs(axis) for axis, _ in stated.continuous]
    for axis in np.eye(3):
        if any(np.allclose(axis, round_axis) for round_axis in round_axes):
            continue
        for fold in (2, 3, 4, 6):
            turn = rotation_about(axis, np.array([2 * np.pi / fold]), model.centre)[0]
            if np.abs(stated.rotations(0.6) - turn[:3, :3]).max(axis=(1, 2)).min() > 1e-6:
                assert misfit(model.mesh, turn, 60) > 1.5 * MILLIMETRE, (axis, fold)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_search_about_the_axes_of_inertia_finds_the_stated_symmetries(demo_parts, name):
    model = demo_parts[demo_parts.index(name)]
    found = detect_symmetries(model.mesh, 1.5 * MILLIMETRE)
    assert len(found.discrete) == len(model.symmetries.discrete)
    assert len(found.continuous) == len(model.symmetries.continuous)


def test_parts_run_from_asymmetric_to_rotational(demo_parts):
    kinds = [(len(model.symmetries.discrete) + 1, len(model.symmetries.continuous)) for model in demo_parts]
    assert len(demo_parts) == 10 and {(1, 0), (2, 0), (3, 0), (6, 0), (1, 1)} == set(kinds)


@pytest.mark.slow
def test_socket_hides_its_turn_from_behind(demo_parts):
    """Seen along +z from below, every turn looks the same; the inside shows that it is none."""
    mesh = demo_parts[demo_parts.index("socket")].mesh
    turn = rotation_about(np.array([0, 0, 1.0]), np.array([0.5 * np.pi]), np.zeros(3))[0]
    points = sample_surface(mesh, 3000)
    outer = points[np.linalg.norm(points[:, :2], axis=1) > 0.0205]
    assert len(outer) > 500
    assert surface_distance(mesh, outer @ turn[:3, :3].T).max() < 0.1 * MILLIMETRE
    assert misfit(mesh, turn) > 5.0 * MILLIMETRE


def test_command_line_writes_the_parts_and_explains_failure(tmp_path, capsys):
    assert parts.main([str(tmp_path / "new")]) == 0
    assert len(ObjectSet.load(tmp_path / "new")) == 10
    (tmp_path / "file").write_text("")
    assert parts.main([str(tmp_path / "file")]) == 1
    assert "error:" in capsys.readouterr().err


def test_missing_manifold3d_is_named_with_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "manifold3d", None)
    with pytest.raises(MeshError, match="pip install manifold3d"):
        parts.part_arrays(parts.PARTS[0])


@pytest.mark.slow
def test_meshes_import_without_mesh_libraries():
    code = (
        "import sys; sys.modules.update(manifold3d=None, trimesh=None, fast_simplification=None)\n"
        "import shared_pose_ros.meshes.object_set, shared_pose_ros.meshes.parts"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parent.parent)
