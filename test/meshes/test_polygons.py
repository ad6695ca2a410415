"""Outlines of many shapes against their area, seen from any side."""

import numpy as np
import pytest

from shared_pose_ros.meshes.mesh import MeshError, load_surface
from shared_pose_ros.meshes.polygons import Polygons, triangulate

ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
L_SHAPE = [(60, 0), (60, 20), (20, 20), (20, 50), (0, 50), (0, 0)]
COMB = [(0, 0), (20, 0), *(p for x in range(19, -1, -1) for p in ((x + 1, 1 + 4 * (x % 2)), (x, 1 + 4 * (x % 2))))]
OUTLINES = {
    "square": ([(0, 0), (2, 0), (2, 2), (0, 2)], 4.0),
    "midpoint": ([(0, 0), (1, 0), (2, 0), (2, 2), (0, 2)], 4.0),
    "concave quad": ([(0, 0), (4, 0), (1, 1), (0, 4)], 4.0),
    "L": (L_SHAPE, 1800.0),
    "U": ([(0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)], 7.0),
    "comb": (COMB, 60.0),
    "hole on a bridge": ([(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)], 12.0),
    "spiral": ([(0, 0), (7, 0), (7, 7), (1, 7), (1, 3), (4, 3), (4, 4), (2, 4), (2, 6), (6, 6), (6, 1), (0, 1)], 23.0),
    "round": ([(np.cos(a), np.sin(a)) for a in np.arange(360) * np.pi / 180], 180 * np.sin(np.pi / 180)),
}


def placed(outline):
    flat = np.array([(*point, 0.0) for point in outline])
    return flat @ ROTATION.T + 50.0


def doubled(points, triangles):
    return np.cross(
        points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]]
    )


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("name", OUTLINES)
def test_triangles_cover_the_outline_once_and_look_its_way(name, first):
    outline, area = OUTLINES[name]
    points = placed(outline[first:] + outline[:first])
    triangles, seen = triangulate(points, Polygons(np.arange(len(points)), np.array([len(points)])))
    vectors = doubled(points, triangles)
    assert np.linalg.norm(vectors, axis=1).sum() / 2 == pytest.approx(area, rel=1e-9)
    np.testing.assert_allclose(vectors.sum(axis=0) / 2, area * ROTATION[:, 2], atol=1e-9 * area)
    assert (seen.bent, seen.crossed) == (0, 0)


def test_outlines_of_all_sizes_in_one_call():
    points = np.concatenate([placed(outline) + 100.0 * k for k, (outline, _) in enumerate(OUTLINES.values())])
    sizes = np.array([len(outline) for outline, _ in OUTLINES.values()])
    triangles, _ = triangulate(points, Polygons(np.arange(len(points)), sizes))
    total = sum(area for _, area in OUTLINES.values())
    assert np.linalg.norm(doubled(points, triangles), axis=1).sum() / 2 == pytest.approx(total, rel=1e-9)
    short = Polygons(np.arange(6), np.array([2, 3, 1]))
    triangles, seen = triangulate(points, short)
    assert triangles.tolist() == [[2, 3, 4]] and seen.short == 2


@pytest.mark.parametrize(
    ("outline", "excess"),
    [([(0, 0), (1, 1), (1, 0), (0, 1)], 0.5), ([(np.cos(a), np.sin(a)) for a in np.arange(5) * 4 * np.pi / 5], 0.5)],
)
def test_outlines_that_cross_themselves_are_counted(outline, excess):
    _, seen = triangulate(placed(outline), Polygons(np.arange(len(outline)), np.array([len(outline)])))
    assert seen.crossed == 1 and seen.bent == 0 and seen.excess > excess


def write_prism(path, outline, height, lift=0.0):
    """A prism as OBJ: two outlines, the upper one with its first corner lifted, and quads around."""
    count = len(outline)
    lines = [f"v {x} {y} {z}" for z in (0, height) for x, y in outline]
    lines[count] = f"v {outline[0][0]} {outline[0][1]} {height + lift}"
    lines.append("f " + " ".join(str(count - k) for k in range(count)))
    lines.append("f " + " ".join(str(count + 1 + k) for k in range(count)))
    for k in range(count):
        lines.append(f"f {k + 1} {(k + 1) % count + 1} {(k + 1) % count + 1 + count} {k + 1 + count}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("first", range(6))
def test_concave_prism_has_its_area_and_volume(tmp_path, first):
    path = tmp_path / "angle.obj"
    write_prism(path, L_SHAPE[first:] + L_SHAPE[:first], 10)
    _, surface, notes = load_surface(path, "mm")
    assert surface.area == pytest.approx(5800e-6, rel=1e-9) and surface.volume == pytest.approx(18e-6, rel=1e-9)
    assert surface.watertight and notes == []


def test_bent_faces_are_told_and_stay_closed(tmp_path):
    write_prism(tmp_path / "bent.obj", L_SHAPE, 10, lift=2.0)
    _, surface, notes = load_surface(tmp_path / "bent.obj", "mm")
    assert surface.watertight and 18e-6 < surface.volume < 18.8e-6
    assert len(notes) == 1 and notes[0].startswith("1 faces of more than three corners are not planar, by up to 0.85")


def test_crossed_outlines_are_refused_where_they_matter_and_told_elsewhere(tmp_path):
    bow = [(0, 0), (40, 40), (40, 0), (0, 30)]
    write_prism(tmp_path / "bow.obj", bow, 10)
    with pytest.raises(
        MeshError, match=r"outlines of 2 faces cross themselves and give \d+% .*limit 1%.*export triangles"
    ):
        load_surface(tmp_path / "bow.obj", "mm")
    path = tmp_path / "block.obj"
    write_prism(path, OUTLINES["L"][0], 10)
    path.write_text(path.read_text() + "v 1 1 10\nv 2 2 10\nv 2 1 10\nv 1 1.9 10\nf 13 14 15 16\n")
    notes = load_surface(path, "mm")[2]
    assert any("outlines of 1 faces cross themselves" in note for note in notes)
