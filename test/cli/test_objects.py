"""``shared_pose objects`` over folders of real files: what is taken, what is left out and why, units, surfaces."""

import json

import numpy as np
import pytest

from shared_pose_ros.cli.main import main

CORNERS = np.array([[0, 0, 0], [30, 0, 0], [0, 20, 0], [0, 0, 40]], dtype=np.float64)
FACES = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]


def obj(scale=1.0, faces=FACES):
    rows = ["v {} {} {}".format(*corner) for corner in CORNERS * scale]
    return "\n".join([*rows, *("f {} {} {}".format(*(k + 1 for k in face)) for face in faces)]) + "\n"


def ply(scale=1.0):
    head = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(str, corner)) for corner in CORNERS * scale]
    return head + "\n".join(rows + [f"3 {a} {b} {c}" for a, b, c in FACES]) + "\n"


@pytest.fixture
def objects(tmp_path, capsys):
    """Runs the command on ``tmp_path``; returns status, stdout and stderr."""

    def run(*options, folder=tmp_path):
        status = main(["objects", "--objects", str(folder), *options])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def row(out, part, table):
    """The words of a part's line: table 0 lists the objects, 1 their surfaces."""
    return [line.split() for line in out.splitlines() if line.startswith(f"{part} ")][table]


def test_every_file_that_is_not_taken_is_named_with_its_reason(tmp_path, objects):
    (tmp_path / "pump.obj").write_text(obj())
    for name in ("valve.step", "cover.glb", "._pump.obj", ".DS_Store", "pump.mtl", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "gear.STL").write_text("x")
    (tmp_path / "papers").mkdir()
    (tmp_path / "folder.stl").mkdir()
    (tmp_path / "link.ply").symlink_to(tmp_path / "gone.ply")
    status, out, err = objects("--unit", "mm")
    assert status == 0 and row(out, "pump", 0)[2:7] == ["30.0", "×", "20.0", "×", "40.0"]
    reasons = {
        "valve.step": "CAD without triangles: export it as .ply, .stl, .obj",
        "cover.glb": "another format: convert it to .ply, .stl, .obj",
        ".DS_Store, ._pump.obj": "the operating system's own",
        "pump.mtl": "materials and pictures are not used",
        "notes.txt": "no mesh file by its name",
        "more/ (deep/gear.STL)": "sub-folders are not read: move their files up",
        "folder.stl/, papers/": "sub-folders without mesh files",
        "link.ply": "a link that leads nowhere",
    }
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    for names, reason in reasons.items():
        assert [reason in note for note in notes if f": {names}: " in note] == [True], names
    assert len(notes) == len(reasons)


def test_a_folder_without_readable_meshes_says_what_it_holds(tmp_path, objects):
    (tmp_path / "valve.step").write_text("ISO-10303-21;")
    (tmp_path / "._part.stl").write_text("x")
    status, _, err = objects("--unit", "mm")
    assert status == 2 and "holds no .ply, .stl, .obj file" in err and "valve.step: left out, CAD without" in err


def test_files_beside_a_list_are_named(tmp_path, objects):
    for name in ("a.obj", "b.obj"):
        (tmp_path / name).write_text(obj())
    (tmp_path / "objects.yaml").write_text("objects:\n- {class_id: a, file: a.obj, unit: cm}\n")
    status, out, err = objects("--unit", "mm")
    assert status == 0 and row(out, "a", 0)[2] == "300.0"
    assert "b.obj: left out, not listed in objects.yaml" in err
    assert "objects.yaml: states the unit itself (cm); unit 'mm' is not used" in err
    assert objects("--unit", "cm")[2].count("states the unit") == 0


def test_bop_folders_may_state_a_unit(tmp_path, objects):
    (tmp_path / "obj_000001.ply").write_text(ply(1e-3))
    turn = [-1, 0, 0, 0.03, 0, -1, 0, 0.02, 0, 0, 1, 0, 0, 0, 0, 1]
    info = {"1": {"diameter": 0.05, "unit": "m", "symmetries_discrete": [turn]}}
    (tmp_path / "models_info.json").write_text(json.dumps(info))
    status, out, _ = objects()
    assert status == 0 and row(out, "1", 0)[2:9] == ["30.0", "×", "20.0", "×", "40.0", "50.0", "mm"]
    assert "2 equivalent poses" in out
    (tmp_path / "models_info.json").write_text(json.dumps({"1": {}}))
    status, _, err = objects()
    assert status == 2 and "below the limit of 1 mm; probable unit: 'm'" in err and "'unit: m'" in err
    (tmp_path / "obj_000001.ply").write_text(ply())
    (tmp_path / "models_info.json").write_text(json.dumps({"1": {"diameter": 0.05}}))
    status, _, err = objects()
    assert status == 2 and "states a diameter of 5e-05 m, the mesh has extents up to 0.04 m; correct its" in err


@pytest.mark.parametrize(
    ("scale", "unit", "words"),
    [
        (1250.0, "mm", ["largest extent is 50 m with unit 'mm', above the limit of 5 m", "--unit 2e-06"]),
        (1.25, "m", ["largest extent is 50 m with unit 'm', above the limit of 5 m", "give --unit mm"]),
        (1.25e-3, "mm", ["largest extent is 5e-05 m with unit 'mm', below the limit of 1 mm", "give --unit m,"]),
    ],
)
def test_an_impossible_size_names_the_remedy(tmp_path, objects, scale, unit, words):
    (tmp_path / "part.obj").write_text(obj(scale))
    status, _, err = objects("--unit", unit)
    assert status == 2 and all(word in err for word in words), err


def test_a_number_of_metres_is_a_unit(tmp_path, objects):
    (tmp_path / "part.obj").write_text(obj(2.0))
    status, out, _ = objects("--unit", "0.0005")
    assert status == 0 and row(out, "part", 0)[2] == "30.0"


def test_the_surface_is_told_with_counts_and_notes(tmp_path, objects):
    (tmp_path / "sound.obj").write_text(obj())
    (tmp_path / "open.obj").write_text(obj(faces=FACES[1:]))
    (tmp_path / "reversed.obj").write_text(obj(faces=[face[::-1] for face in FACES] + [FACES[0][::-1]]))
    status, out, _ = objects("--unit", "mm")
    assert status == 0
    area = (600 + 1200 + 800 + 2 * np.sqrt(300**2 + 600**2 + 400**2)) / 200
    common = [f"{area:.4g}", "cm²", "1"]
    assert row(out, "sound", 1)[1:] == ["yes", "4", "cm³", *common, *["0"] * 7]
    assert row(out, "reversed", 1)[1:] == ["yes", "4", "cm³", *common, "0", "0", "1", "0", "0", "0", "4"]
    assert row(out, "open", 1)[1:3] == ["no", "-"] and row(out, "open", 1)[6:] == ["3", *["0"] * 6]
    assert "reversed.obj: it was inside out: reversed" in out
    assert "reversed.obj: 1 faces lie on the corners of another one: left out" in out
    assert "open.obj: it is open: 3 edges belong to one face only" in out
