"""Meshes: formats and units, cleaning, errors, simplification, diameter, distances."""

import struct

import numpy as np
import pytest

from shared_pose_ros.meshes.diameter import diameter
from shared_pose_ros.meshes.mesh import Mesh, MeshError, load_mesh, metres_per_unit, simplify
from shared_pose_ros.meshes.surface import sample_surface, surface_distance

CUBE = np.array([[x, y, z] for x in (0.0, 30.0) for y in (0.0, 50.0) for z in (0.0, 80.0)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = [(a, b, c) for q in QUADS for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))]


def ply_ascii(vertices=CUBE, faces=TRIANGLES):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(str(value) for value in vertex) for vertex in vertices]
    lines += [" ".join(str(value) for value in (len(face), *face)) for face in faces]
    return ("\n".join(lines) + "\n").encode()


def ply_binary(vertices=CUBE, faces=TRIANGLES, order="<"):
    header = ply_ascii([], []).decode().replace("element vertex 0", f"element vertex {len(vertices)}")
    name = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = header.replace("format ascii", f"format {name}").replace("face 0", f"face {len(faces)}")
    body = np.asarray(vertices, dtype=order + "f4").tobytes()
    return header.encode() + body + b"".join(struct.pack(f"{order}B{len(f)}i", len(f), *f) for f in faces)


def stl_ascii():
    facets = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*CUBE[corner]) for corner in face)
        + "endloop\nendfacet\n"
        for face in TRIANGLES
    ]
    return ("solid box\n" + "".join(facets) + "endsolid box\n").encode()


def stl_binary():
    rows = [struct.pack("<12fH", 0, 0, 0, *CUBE[list(face)].ravel(), 0) for face in TRIANGLES]
    return b"box".ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def obj(faces=QUADS):
    lines = ["mtllib absent.mtl", *("v {} {} {}".format(*vertex) for vertex in CUBE), "usemtl grey"]
    return "\n".join([*lines, *("f " + " ".join(str(i + 1) for i in face) for face in faces), ""]).encode()


FILES = {
    "ascii.ply": ply_ascii(),
    "ascii_quads.ply": ply_ascii(faces=QUADS),
    "binary.ply": ply_binary(),
    "binary_mixed.ply": ply_binary(faces=[*QUADS[:3], *TRIANGLES[6:]]),
    "binary_big_endian_mixed.ply": ply_binary(faces=[*QUADS[:3], *TRIANGLES[6:]], order=">"),
    "ascii.stl": stl_ascii(),
    "binary.STL": stl_binary(),
    "quads.obj": obj(),
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def volume(mesh):
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0


def sphere(count):
    """Closed sphere of radius 0.05 m of latitude and longitude strips."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, count), np.linspace(0, 2 * np.pi, count), indexing="ij")
    points = 0.05 * np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
    grid = np.arange(count * count).reshape(count, count)
    a, b, c, d = (grid[i : i - 1 or None, j : j - 1 or None].ravel() for i in (0, 1) for j in (0, 1))
    return points.reshape(-1, 3), np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)])


@pytest.fixture
def ball(tmp_path):
    return load_mesh(write(tmp_path, "ball.ply", ply_ascii(*sphere(26))), "m")


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_solid_in_metres(tmp_path, name):
    mesh = load_mesh(write(tmp_path, name, FILES[name]), "mm")
    assert mesh.vertices.shape == (8, 3) and mesh.vertices.dtype == np.float32
    assert mesh.faces.shape == (12, 3) and mesh.faces.dtype == np.int32
    np.testing.assert_allclose(mesh.extents, [0.03, 0.05, 0.08], rtol=1e-6)
    np.testing.assert_allclose(mesh.centre, [0.015, 0.025, 0.04], rtol=1e-6)
    assert abs(volume(mesh)) == pytest.approx(0.03 * 0.05 * 0.08, rel=1e-6)


@pytest.mark.parametrize(("unit", "metres"), [("mm", 1e-3), ("cm", 1e-2), ("in", 0.0254), (0.005, 0.005)])
def test_unit_scales_the_vertices(tmp_path, unit, metres):
    mesh = load_mesh(write(tmp_path, "box.ply", ply_ascii()), unit)
    np.testing.assert_allclose(mesh.extents, np.array([30, 50, 80]) * metres, rtol=1e-6)


@pytest.mark.parametrize("unit", ["feet", 0, -1.0, float("nan"), float("inf"), None, True])
def test_unknown_units_name_the_known_ones(unit):
    with pytest.raises(MeshError, match="m, cm, mm, in"):
        metres_per_unit(unit)


def test_duplicates_degenerate_faces_and_unused_vertices_go(tmp_path):
    vertices = np.concatenate([CUBE, CUBE + 1e-6, [[500.0, 0, 0]]])
    vertices[-1] = CUBE[0] + [15.0, 25.0, 40.0]  # unused, in the middle
    faces = [*TRIANGLES[:6], *[tuple(i + 8 for i in face) for face in TRIANGLES[6:]], (0, 0, 1), (0, 8, 1)]
    mesh = load_mesh(write(tmp_path, "box.ply", ply_ascii(vertices, faces)), "mm")
    assert mesh.vertices.shape == (8, 3) and mesh.faces.shape == (12, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.ply", b"", "is empty"),
        ("text.ply", b"hello", "cannot be read as PLY"),
        ("cut_header.ply", ply_ascii()[:60], "cannot be read as PLY"),
        ("cut_rows.ply", ply_ascii()[:-40], "truncated: 15 of 20 rows"),
        ("cut_row.ply", ply_ascii()[:-5], "the row '3 1' is cut"),
        ("cut_binary.ply", ply_binary()[:-7], "truncated within 'face'"),
        ("cut_vertices.ply", ply_binary()[:-220], "truncated: 202 bytes, 'vertex' alone ends at 266"),
        ("flat.ply", ply_ascii().replace(b"property float z", b"property float w"), "no x, y and z"),
        ("words.ply", ply_ascii().replace(b"30.0", b"wide"), "other than numbers"),
        ("type.ply", ply_ascii().replace(b"float z", b"real z"), "not understood: 'property real z'"),
        ("extra.ply", ply_ascii().replace(b"30.0", b"30.0 1"), "28 numbers instead of 24"),
        ("cut_binary.stl", stl_binary()[:-7], "677 bytes of 684 for 12 triangles"),
        ("cut_ascii.stl", stl_ascii()[:-30], "truncated"),
        ("noise.stl", bytes(range(256)) * 4, "it is no STL: not ASCII .* and not binary"),
        ("text.obj", b"hello\n", "no line .v x y z."),
        ("index.obj", obj([(0, 1, 99)]), "cannot be read as OBJ"),
        ("points.ply", ply_ascii(faces=[]), "no faces"),
        ("index.ply", ply_ascii(faces=[(0, 1, 99)]), "vertex 99 of 8"),
        ("nan.ply", ply_ascii(np.where(CUBE == 80.0, np.nan, CUBE)), "4 of 8 vertices are NaN"),
        ("dot.ply", ply_ascii(CUBE * 0.0), "no face has an area"),
        ("line.ply", ply_ascii(CUBE * [1, 0, 0]), "no face has an area"),
        ("sheet.ply", ply_ascii(CUBE * [1, 0, 1]), "flat"),
        ("model.step", b"ISO-10303-21;", r"unknown mesh format '.step'.*\.ply, \.stl, \.obj"),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(MeshError, match=message) as caught:
        load_mesh(path, "mm")
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MeshError, match=r"absent\.ply: no such mesh file"):
        load_mesh(tmp_path / "absent.ply", "mm")


@pytest.mark.parametrize(
    ("factor", "unit", "message"),
    [
        (1.0, "m", "above the limit of 5 m; probable unit: 'mm'"),
        (1e-3, "mm", "below the limit of 1 mm; probable unit: 'm'"),
        (1e6, "mm", "no common unit fits"),
    ],
)
def test_absurd_scale_names_the_probable_unit(tmp_path, factor, unit, message):
    with pytest.raises(MeshError, match=message):
        load_mesh(write(tmp_path, "box.ply", ply_ascii(CUBE * factor)), unit)


def test_simplified_ball_keeps_box_and_surface(ball):
    small = simplify(ball, 400)
    assert len(ball.faces) > 1000 and 390 < len(small.faces) <= 400
    assert np.abs(small.bounds - ball.bounds).max() <= 0.01 * ball.extents.max()
    assert surface_distance(ball, sample_surface(small, 300)).max() < 0.002
    assert volume(small) == pytest.approx(volume(ball), rel=0.03)


@pytest.mark.slow
def test_simplify_keeps_more_faces_rather_than_lose_the_box(ball):
    tiny = simplify(ball, 4)
    assert len(tiny.faces) > 4
    assert np.abs(tiny.bounds - ball.bounds).max() <= 0.0101 * ball.extents.max()


def test_simplify_returns_small_meshes_unchanged(ball):
    assert simplify(ball, len(ball.faces)) is ball
    with pytest.raises(MeshError, match="face budget is 3"):
        simplify(ball, 3)


@pytest.mark.parametrize("scale", [(1, 1, 1), (1, 2, 0.3)])
def test_diameter_equals_the_largest_of_all_vertex_distances(ball, scale):
    mesh = Mesh((ball.vertices * scale).astype(np.float32), ball.faces)
    points = mesh.vertices.astype(np.float64)
    slow = max(np.linalg.norm(points - point, axis=1).max() for point in points)
    assert diameter(mesh) == pytest.approx(slow, rel=1e-12)


def test_diameter_of_a_flat_mesh_and_of_unused_vertices():
    corners = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.4, 0], [9, 9, 9]], dtype=np.float32)
    assert diameter(Mesh(corners, np.array([[0, 1, 2]], dtype=np.int32))) == pytest.approx(0.5, rel=1e-6)


def test_surface_distance_against_closed_forms(ball, tmp_path):
    box = load_mesh(write(tmp_path, "box.ply", ply_ascii()), "mm")
    points = np.random.default_rng(1).uniform(-0.1, 0.15, (200, 3))
    outside = np.maximum(np.maximum(-points, points - box.extents), 0.0)
    inside = np.minimum(points, box.extents - points).min(axis=1)
    expected = np.where(inside > 0.0, inside, np.linalg.norm(outside, axis=1))
    np.testing.assert_allclose(surface_distance(box, points), expected, atol=1e-7)
    assert surface_distance(box, np.zeros((0, 3))).shape == (0,)
    radial = surface_distance(ball, points) - np.abs(np.linalg.norm(points, axis=1) - 0.05)
    assert np.abs(radial).max() < 0.0006  # the facets lie inside the sphere


def test_sampled_points_lie_on_the_surface_uniformly(tmp_path):
    box = load_mesh(write(tmp_path, "box.ply", ply_ascii()), "mm")
    points = sample_surface(box, 4000)
    assert surface_distance(box, points).max() < 1e-8
    areas = np.array([30 * 50, 30 * 80, 50 * 80])
    share = np.mean(np.abs(points[:, 2] - 0.04) > 0.0399999)
    assert share == pytest.approx(areas[0] / areas.sum(), abs=0.03)
    np.testing.assert_array_equal(points, sample_surface(box, 4000))
