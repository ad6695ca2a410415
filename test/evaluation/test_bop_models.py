"""An object set as a BOP models folder: numbers, millimetres, symmetries, and the way back."""

import json

import numpy as np
import pytest
from evaluation_scene import box_mesh, model
from shapes import tiny_objects

from shared_pose_ros.evaluation.bop import BopError
from shared_pose_ros.evaluation.bop_models import object_numbers, write_bop_models
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.ply import read_ply
from shared_pose_ros.meshes.symmetries import Symmetries

TURNS = Symmetries.from_axes(
    [
        {"axis": [0, 0, 1], "fold": "continuous", "offset": [0.01, 0, 0]},
        {"axis": [1, 0, 0], "fold": 2, "offset": [0, 0, 0.002]},
    ]
)


def test_numbers_come_from_ids_and_aliases_and_else_fill_the_gaps():
    box = box_mesh(0.06, 0.04, 0.02)
    objects = ObjectSet(
        (
            model("plate", box),
            model("bolt", box, aliases=("M8", "2")),
            model("4", box),
            model("007", box),
            model("nut", box, aliases=("0", "-3", "1.5")),
        )
    )
    assert object_numbers(objects) == {"plate": 1, "bolt": 2, "4": 4, "007": 3, "nut": 5}


def test_the_folder_gives_the_same_objects_again(tmp_path):
    written = ObjectSet((model("round", box_mesh(0.06, 0.06, 0.02, (0.01, 0, 0)), TURNS), *tiny_objects()))
    assert write_bop_models(tmp_path / "models", written) == {"round": 3, "angle": 1, "spike": 2}
    read = ObjectSet.load(tmp_path / "models")
    assert read.class_ids == ("angle", "spike", "round")
    for before in written:
        for label in (before.class_id, *before.aliases):
            assert read[read.index(label)].class_id == before.class_id
        after = read[read.index(before.class_id)]
        assert after.name == before.name and after.diameter == pytest.approx(before.diameter, rel=1e-6)
        np.testing.assert_allclose(after.extents, before.extents, atol=1e-8)
        np.testing.assert_allclose(after.centre, before.centre, atol=1e-8)
        np.testing.assert_allclose(after.symmetries.transforms(), before.symmetries.transforms(), atol=1e-12)
    assert read.index("3") == read.index("obj_000003") == read.index("round") == 2


def test_files_are_millimetres_with_the_benchmarks_keys(tmp_path):
    write_bop_models(tmp_path, ObjectSet((model("round", box_mesh(0.06, 0.04, 0.02, (0.01, 0, 0)), TURNS),)))
    info = json.loads((tmp_path / "models_info.json").read_text())["1"]
    vertices, faces = read_ply(tmp_path / "obj_000001.ply")
    assert len(faces) == 12
    np.testing.assert_allclose(vertices.min(axis=0), [-20, -20, -10], atol=1e-5)
    np.testing.assert_allclose([info[f"min_{axis}"] for axis in "xyz"], [-20, -20, -10], atol=1e-5)
    np.testing.assert_allclose([info[f"size_{axis}"] for axis in "xyz"], [60, 40, 20], atol=1e-5)
    assert info["diameter"] == pytest.approx(np.sqrt(60**2 + 40**2 + 20**2), rel=1e-6)
    assert info["symmetries_continuous"] == [{"axis": [0, 0, 1], "offset": [10, 0, 0]}]
    flip = np.reshape(info["symmetries_discrete"], (4, 4))
    np.testing.assert_allclose(flip @ [1, 2, 3, 1], [1, -2, 1, 1], atol=1e-9)


def test_other_objects_in_the_folder_are_refused_and_the_same_are_kept(tmp_path):
    write_bop_models(tmp_path, tiny_objects())
    before = (tmp_path / "models_info.json").stat().st_mtime_ns
    assert write_bop_models(tmp_path, tiny_objects()) == {"angle": 1, "spike": 2}
    assert (tmp_path / "models_info.json").stat().st_mtime_ns == before
    with pytest.raises(BopError, match="holds other objects; remove it"):
        write_bop_models(tmp_path, ObjectSet((model("1", box_mesh(0.06, 0.04, 0.02)),)))
