"""What a surface is, over files: closed, bodies, volumes in closed form; what is mended, told and refused."""

import numpy as np
import pytest
from shapes import inside_out, joined, soup

from shared_pose_ros.geometry.closed_surface import is_closed
from shared_pose_ros.meshes.mesh import MeshError, load_surface

BOX = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
SIDES = np.array(
    [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4)]
    + [(1, 5, 7), (1, 7, 3)]
)


def box(size, at=(0.0, 0.0, 0.0)):
    return BOX * size + np.asarray(at), SIDES


def blurred(mesh, noise):
    """A soup whose corners of one place differ by up to ``noise``."""
    vertices, faces = soup(mesh)
    return vertices + noise * np.random.default_rng(0).uniform(-1, 1, vertices.shape), faces


@pytest.fixture
def load(tmp_path):
    """Writes vertices in millimetres and faces as OBJ, and loads them."""

    def run(mesh):
        vertices, faces = mesh
        lines = ["v {!r} {!r} {!r}".format(*map(float, point)) for point in vertices]
        lines += ["f {} {} {}".format(*(face + 1)) for face in np.asarray(faces)]
        (tmp_path / "part.obj").write_text("\n".join(lines) + "\n")
        return load_surface(tmp_path / "part.obj", "mm")

    return run


CM3 = 1e-6
SOUND = {
    "box": (box(40), 64, 1),
    "soup": (soup(box(40)), 64, 1),
    "soup with rounding": (blurred(box(40), 1e-5), 64, 1),
    "two apart": (joined(box(40), box(20, (50, 0, 0))), 72, 2),
    "touching at an edge": (joined(box(40), box(40, (40, 40, 0))), 128, 1),
    "hollow": (joined(box(40), inside_out(box(20, (10, 10, 10)))), 56, 2),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_surfaces_have_their_volume_and_no_notes(load, name):
    solid, volume, bodies = SOUND[name]
    mesh, surface, notes = load(solid)
    assert surface.watertight and surface.bodies == bodies and notes == []
    assert surface.volume == pytest.approx(volume * CM3, rel=1e-5)
    assert surface.cavities == (name == "hollow") and surface.reversed_faces == 0
    assert is_closed(mesh.vertices, mesh.faces) == (name != "hollow")


def test_vertices_without_a_face_blur_nothing(load):
    vertices, faces = box(40)
    _, surface, notes = load((np.concatenate([vertices, [[1e9, 0, 0], [np.nan, 0, 0]]]), faces))
    assert surface.watertight and surface.volume == pytest.approx(64 * CM3, rel=1e-6) and notes == []


def test_overlapping_bodies_are_counted_once_in_the_volume(load):
    _, surface, notes = load(joined(box(40), box(40, (20, 0.0, 10.0))))
    assert surface.shared_volume == pytest.approx(20 * 40 * 30 * 1e-9, rel=1e-6)
    assert surface.volume == pytest.approx((2 * 64000 - 24000) * 1e-9, rel=1e-6)
    assert notes == ["its bodies overlap: they share 24 cm³"]


MENDED = {
    "inside out": (inside_out(box(40)), 64, 12, "it was inside out: reversed"),
    "hollow inside out": (inside_out(SOUND["hollow"][0]), 56, 24, "it was inside out: reversed"),
    "some faces": (
        (box(40)[0], np.concatenate([SIDES[:5, ::-1], SIDES[5:]])),
        64,
        5,
        "5 of its faces looked the wrong",
    ),
    "most faces": (
        (box(40)[0], np.concatenate([SIDES[:9, ::-1], SIDES[9:]])),
        64,
        9,
        "9 of its faces looked the wrong",
    ),
    "one body": (
        joined(box(40), inside_out(box(20, (50, 0, 0)))),
        72,
        12,
        "12 of its faces looked the wrong way: reversed",
    ),
    "all twice": (joined(box(40), box(40)), 64, 0, "12 faces lie on the corners of another one: left out"),
    "three twice": (
        (box(40)[0], np.concatenate([SIDES, SIDES[:3]])),
        64,
        0,
        "3 faces lie on the corners of another one",
    ),
    "both sides": (
        (box(40)[0], np.concatenate([SIDES, SIDES[:, ::-1]])),
        64,
        0,
        "12 faces lie on the corners of another",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_mended_is_mended_and_told(load, name):
    given, volume, reversed, message = MENDED[name]
    mesh, surface, notes = load(given)
    assert surface.watertight and surface.volume == pytest.approx(volume * CM3, rel=1e-6)
    assert surface.reversed_faces == reversed and len(notes) == 1 and notes[0].startswith(message)
    assert len(np.unique(np.sort(mesh.faces, axis=1), axis=0)) == len(mesh.faces)


def test_open_surfaces_are_counted_and_have_no_volume(load):
    mesh, surface, notes = load((box(40)[0], SIDES[1:]))
    assert not surface.watertight and np.isnan(surface.volume) and surface.open_edges == 3 and len(mesh.faces) == 11
    assert notes == ["it is open: 3 edges belong to one face only"]
    assert surface.area == pytest.approx((6 * 1600 - 800) * 1e-6, rel=1e-6)


def test_walls_without_thickness_and_odd_edges_are_told(load):
    fin = np.concatenate([box(40)[0], [[60.0, 0.0, 20.0]]])
    both = np.concatenate([SIDES, [(4, 5, 8), (5, 4, 8)]])
    _, surface, notes = load((fin, both))
    assert surface.watertight and surface.double_faces == 2 and notes[0].startswith("2 faces lie back to back")
    _, surface, notes = load((fin, both[:-1]))
    assert not surface.watertight and surface.crowded_edges == 1 and surface.open_edges == 2
    assert notes[1] == "1 edges belong to faces that do not pair up"


def test_faces_without_area_and_slivers_are_counted(load):
    vertices = np.concatenate([box(40)[0], [[20.0, 0.0, 0.0], [20.0, 1e-9, 40.0]]])
    # An edge of two faces gets a corner in its middle on one side only: the gap is closed by a face without area.
    faces = np.concatenate(
        [[f for f in SIDES.tolist() if f != [0, 6, 4]], [(0, 6, 8), (8, 6, 4), (0, 8, 4), (0, 0, 4)]]
    )
    mesh, surface, notes = load((vertices, faces))
    assert surface.watertight and surface.degenerate_faces == 2 and len(mesh.faces) == 13
    assert notes == ["2 faces have no area: left out"]
    sliver = np.concatenate([SIDES, [(1, 9, 5)]])
    _, surface, _ = load((vertices, sliver))
    assert surface.slivers == 1 and surface.degenerate_faces == 0


@pytest.mark.parametrize("metres", [1.0, 10.0, 1000.0])
def test_far_from_the_origin_nothing_is_blurred(load, metres):
    size = np.array([40.001, 30.002, 20.003])
    mesh, surface, notes = load(box(size, np.array([1, 2, -1]) * 1000 * metres))
    np.testing.assert_allclose(mesh.extents, size * 1e-3, rtol=1e-5)
    assert surface.watertight and surface.volume == pytest.approx(size.prod() * 1e-9, rel=1e-6)
    assert mesh.vertices.dtype == (np.float32 if metres == 1.0 else np.float64)
    assert len(notes) == 1 and "from its origin" in notes[0] and "export it in a frame at the part" in notes[0]


def slabs(count):
    """A box and faces of which ``count`` have three corners on a line."""
    vertices = np.concatenate([box(40)[0], np.c_[np.linspace(1, 39, count + 2), np.zeros((count + 2, 2))]])
    return vertices, np.concatenate([SIDES, 8 + np.arange(count)[:, None] + np.arange(3)])


REFUSED = {
    "half missing": (
        (box(40)[0], SIDES[[0, 1, 4, 5]]),
        "lacks at least 71% of what is there .limit 50%.*its thickness",
    ),
    "far": (
        box(40, (2e7, 0, 0)),
        "lies 2e\\+04 m from its origin, .* steps of 4.9% of its size .limit 1.0%.*export it in",
    ),
    "rounded": (slabs(20), "20 of 32 faces have no area .limit 50%.*rounded too coarsely; export with more digits"),
    "stray": (joined(box(40), box(0.1, (900, 0, 0))), "extent is 900.1 mm, and 40 mm without bodies .*delete these"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_spoil_a_training_is_refused_with_limit_and_remedy(load, name):
    mesh, message = REFUSED[name]
    with pytest.raises(MeshError, match=message) as caught:
        load(mesh)
    assert "part.obj" in str(caught.value)


def test_a_stray_body_that_enlarges_the_part_little_is_told(load):
    _, surface, notes = load(joined(box(40), box(0.1, (60, 0, 0))))
    assert surface.stray_growth == pytest.approx(60.1 / 40) and notes[0].startswith("small bodies apart from the rest")


def test_one_sided_strip_cannot_be_mended(load):
    count = 24
    angle = np.arange(count) * 2 * np.pi / count
    across = 8.0 * np.array([np.cos(angle / 2) * np.cos(angle), np.cos(angle / 2) * np.sin(angle), np.sin(angle / 2)]).T
    middle = 40.0 * np.array([np.cos(angle), np.sin(angle), 0 * angle]).T
    vertices = np.concatenate([middle + across, middle - across])
    faces = []
    for k in range(count):
        a, b = k, k + count
        c, d = (k + 1, k + 1 + count) if k + 1 < count else (count, 0)
        faces += [(a, b, c), (c, b, d)]
    _, surface, notes = load((vertices, np.array(faces)))
    assert not surface.watertight and surface.open_edges == 2 * count and surface.crowded_edges == 1
    assert any("do not pair up" in note for note in notes)
