"""Object sets: the three sources, normalisation, choice of objects, and errors that name file and remedy."""

import json

import numpy as np
import pytest
import yaml
from checkout import ROOT
from extending import shown

from shared_pose_ros.meshes import mesh as mesh_module
from shared_pose_ros.meshes.mesh import READERS, MeshError
from shared_pose_ros.meshes.object_set import ObjectSet, ObjectSetError

CUBE = np.array([[x, y, z] for x in (0.0, 30.0) for y in (0.0, 50.0) for z in (0.0, 80.0)])
FACES = np.array(
    [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4)]
    + [(1, 5, 7), (1, 7, 3)]
)


def write_ply(path, vertices=CUBE):
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
    head += f"property float z\nelement face {len(FACES)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(str, vertex)) for vertex in vertices] + [f"3 {a} {b} {c}" for a, b, c in FACES]
    path.write_text(head + "\n".join(rows) + "\n")


def write_yaml(folder, objects):
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump({"objects": objects}))
    return path


def entry(class_id, **changes):
    return {"class_id": class_id, "file": "box.ply", "unit": "mm", **changes}


@pytest.fixture
def folder(tmp_path):
    write_ply(tmp_path / "box.ply")
    return tmp_path


@pytest.fixture(scope="module")
def demo_parts():
    return ObjectSet.load(ROOT / "models" / "parts")


@pytest.fixture
def bop(tmp_path):
    """Three boxes of growing height in BOP layout, numbers out of order in the file."""
    half_turn = [-1, 0, 0, 30, 0, -1, 0, 50, 0, 0, 1, 0, 0, 0, 0, 1]
    axis = {"axis": [0, 0, 1], "offset": [15, 25, 0]}
    info = {"10": {}, "2": {"symmetries_continuous": [axis]}, "1": {"symmetries_discrete": [half_turn]}}
    for number in info:
        write_ply(tmp_path / f"obj_{int(number):06d}.ply", CUBE * [1, 1, int(number)])
    (tmp_path / "models_info.json").write_text(json.dumps(info))
    return tmp_path


def test_yaml_states_identity_unit_and_symmetries(folder):
    axis = {"axis": [0, 0, 1], "fold": 2, "offset": [15, 25, 0]}
    path = write_yaml(
        folder,
        [
            entry("b", name="a box", aliases=["7", "crate"], symmetries=[axis], note="for people"),
            entry(3, unit="cm"),
            entry("c", symmetries="detect"),
        ],
    )
    objects = ObjectSet.load(path)
    assert objects.class_ids == ("b", "3", "c") and len(objects) == 3 and [*objects][1] is objects[1]
    box = objects[0]
    assert (box.name, box.aliases, box.path) == ("a box", ("7", "crate"), folder / "box.ply")
    np.testing.assert_allclose(box.extents, [0.03, 0.05, 0.08], rtol=1e-6)
    np.testing.assert_allclose(box.centre, [0.015, 0.025, 0.04], rtol=1e-6)
    assert box.scale == pytest.approx(0.04) and box.diameter == pytest.approx(np.linalg.norm([0.03, 0.05, 0.08]))
    np.testing.assert_allclose(box.symmetries.discrete[0][:3, 3], [0.03, 0.05, 0.0], atol=1e-12)
    assert objects[1].scale == pytest.approx(0.4) and len(objects[1].symmetries.transforms()) == 1
    assert len(objects[2].symmetries.transforms()) == 4
    assert ObjectSet.load(folder).class_ids == objects.class_ids


def test_symmetries_of_bare_files_are_found(folder):
    # A box of three different sides: three half turns. Nobody has stated them, in a yaml they would be none.
    assert len(ObjectSet.load(folder, unit="mm")[0].symmetries.discrete) == 3
    assert len(ObjectSet.load(write_yaml(folder, [entry("box")]))[0].symmetries.discrete) == 0


def test_labels_find_their_object(folder):
    objects = ObjectSet.load(write_yaml(folder, [entry("a"), entry("b", aliases=["7"])]))
    assert [objects.index(label) for label in ("a", "b", "7", "c")] == [0, 1, 1, None]


def test_normalized_mesh_is_centred_and_scaled_by_half_the_largest_extent(folder):
    box = ObjectSet.load(write_yaml(folder, [entry("b")]))[0]
    vertices, faces = box.normalized(None)
    assert vertices.dtype == np.float32 and faces.dtype == np.int32 and faces.shape == (12, 3)
    np.testing.assert_allclose(np.abs(vertices), np.tile([37.5, 62.5, 100.0], (8, 1)), rtol=1e-5)
    np.testing.assert_allclose(vertices * box.scale / 100.0 + box.centre, box.mesh.vertices, atol=1e-7)


def test_normalized_simplifies_once_per_budget(demo_parts):
    shaft = demo_parts[demo_parts.index("shaft")]
    vertices, faces = shaft.normalized(500)
    assert len(faces) <= 500 < len(shaft.mesh.faces)
    assert shaft.normalized(500)[0] is vertices
    assert len(shaft.normalized(None)[1]) == len(shaft.mesh.faces)
    np.testing.assert_allclose(np.abs(vertices).max(), 100.0, atol=2.0)


def test_bop_folder_is_read_as_it_is(bop):
    objects = ObjectSet.load(bop)
    assert objects.class_ids == ("1", "2", "10") and objects.index("obj_000010") == 2
    np.testing.assert_allclose([model.extents[2] for model in objects], [0.08, 0.16, 0.8], rtol=1e-6)
    np.testing.assert_allclose(objects[0].symmetries.discrete[0][:3, 3], [0.03, 0.05, 0.0])
    assert len(objects[1].symmetries.transforms(0.01)) == 315 and len(objects[2].symmetries.transforms()) == 1


def test_subset_keeps_the_order_asked_for(bop):
    assert ObjectSet.load(bop, subset=[10, "1"]).class_ids == ("10", "1")


@pytest.mark.parametrize(
    ("subset", "message"),
    [([3], "no object '3'; it has 1, 2, 10"), ([1, "1"], "asked for twice"), ([], "empty choice")],
)
def test_wrong_subset_is_explained(bop, subset, message):
    with pytest.raises(ObjectSetError, match=message):
        ObjectSet.load(bop, subset=subset)


def test_only_what_is_shown_is_read(bop):
    assert ObjectSet.load(bop, shown={"2", "nobody"}).class_ids == ("2",)
    (bop / "obj_000001.ply").write_text("damaged")
    assert len(ObjectSet.load(bop, shown={"2"})) == 1
    with pytest.raises(ObjectSetError, match="the data show nobody; give the CAD"):
        ObjectSet.load(bop, shown={"nobody"})


def test_bop_info_states_diameter_and_names(bop):
    path = bop / "models_info.json"
    info = json.loads(path.read_text())
    info["2"] |= {"class_id": "bolt", "name": "M8", "aliases": ["screw"], "diameter": 123.0}
    path.write_text(json.dumps(info))
    bolt = ObjectSet.load(bop)[1]
    assert (bolt.class_id, bolt.name, bolt.aliases) == ("bolt", "M8", ("2", "obj_000002", "screw"))
    assert bolt.diameter == pytest.approx(0.123)
    info["2"]["diameter"] = -1
    path.write_text(json.dumps(info))
    with pytest.raises(ObjectSetError, match="object 2: diameter is -1; give millimetres"):
        ObjectSet.load(bop)


def test_plain_folder_takes_the_declared_unit(folder):
    write_ply(folder / "a.ply", CUBE * 2)
    (folder / "README.txt").write_text("not a mesh")
    objects = ObjectSet.load(folder, unit="mm")
    assert objects.class_ids == ("a", "box") and objects[0].scale == pytest.approx(0.08)
    with pytest.raises(ObjectSetError, match="unit of the mesh files is not known; state it"):
        ObjectSet.load(folder)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([entry("a"), entry("a")], "'a' names both 'a' and 'a'.*make each one unique"),
        ([entry("a"), entry("b", aliases=["a"])], "'a' names both 'a' and 'b'"),
        ([entry(" ")], "empty class_id"),
        ([{"class_id": "a", "file": "box.ply"}], "object 0 lacks unit"),
        ([entry("a", units="mm")], "has unknown units"),
        (["a"], "object 0 is 'a'"),
        ([], "has no objects"),
        ([entry("a", unit="feet")], "unknown unit 'feet'"),
        ([entry("a", symmetries=[{"axis": [0, 0, 1], "fold": 0}])], "fold is 0"),
        ([entry("a", symmetries={"axis": 1})], "must be lists"),
        ([entry("a", symmetries=[3])], "object 0 .a.:"),
    ],
)
def test_wrong_yaml_is_explained(folder, objects, message):
    path = write_yaml(folder, objects)
    with pytest.raises(ObjectSetError, match=message) as caught:
        ObjectSet.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["objects: [", "- 1", "", "objects: 3", "\x00"])
def test_unreadable_yaml_is_explained(folder, text):
    (folder / "objects.yaml").write_text(text)
    with pytest.raises(ObjectSetError, match=r"objects\.yaml: (cannot be read as YAML|has no objects)"):
        ObjectSet.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"a": {}}', '{"1": {"symmetries_discrete": [[1, 2]]}}', '{"1": 3}'])
def test_unreadable_bop_info_is_explained(tmp_path, text):
    (tmp_path / "models_info.json").write_text(text)
    with pytest.raises(ObjectSetError, match=r"models_info\.json"):
        ObjectSet.load(tmp_path)


def test_missing_things_are_explained(folder, bop):
    with pytest.raises(ObjectSetError, match="no such file or folder"):
        ObjectSet.load(folder / "absent")
    with pytest.raises(ObjectSetError, match="not an object set"):
        ObjectSet.load(folder / "box.ply")
    (bop / "obj_000002.ply").unlink()
    with pytest.raises(MeshError, match=r"obj_000002\.ply: no such mesh file"):
        ObjectSet.load(bop)
    (folder / "empty").mkdir()
    with pytest.raises(ObjectSetError, match="holds no .ply"):
        ObjectSet.load(folder / "empty", unit="mm")


def test_the_documented_format_is_an_entry_in_the_readers(tmp_path, monkeypatch):
    path = tmp_path / "wedge.off"
    path.write_text("OFF 4 4 0\n0 0 0\n30 0 0\n0 20 0\n0 0 10\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 2 0 3\n")
    with pytest.raises(ObjectSetError, match=r"holds no \.ply, \.stl, \.obj file"):
        ObjectSet.load(tmp_path, unit="mm")
    monkeypatch.setitem(READERS, ".off", None)  # whatever is put there is gone after the test
    exec("\n".join(shown("A new mesh format")), dict(vars(mesh_module)))
    (wedge,) = ObjectSet.load(tmp_path, unit="mm")
    assert wedge.class_id == "wedge" and wedge.extents == pytest.approx([0.03, 0.02, 0.01])
    path.write_text("OFF 4 4 0\n0 0")
    with pytest.raises(MeshError, match=r"wedge\.off: cannot be read as OFF: .*; open it in a mesh viewer"):
        ObjectSet.load(tmp_path, unit="mm")
