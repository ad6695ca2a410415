"""STL, OBJ and PLY files as exporters write them: the same solid from all of them, or the true reason against it."""

import struct

import numpy as np
import pytest

from shared_pose_ros.meshes.mesh import MeshError, load_mesh, load_surface

# A tetrahedron of 30, 20 and 40 mm: 4 cm³.
POINTS = np.array([[0, 0, 0], [30, 0, 0], [0, 20, 0], [0, 0, 40]], dtype=np.float64)
FACES = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
FACET = "facet normal 0 0 0\nouter loop\n{}endloop\nendfacet\n"


def facets(points=POINTS, faces=FACES):
    return "".join(FACET.format("".join("vertex {} {} {}\n".format(*points[k]) for k in face)) for face in faces)


ASCII = f"solid part\n{facets()}endsolid part\n"
TWO = f"solid a\n{facets(faces=FACES[:2])}endsolid a\nsolid b\n{facets(faces=FACES[2:])}endsolid b\n"


def binary(head=b"part", count=4, tail=b""):
    rows = b"".join(struct.pack("<12fH", 0, 0, 0, *POINTS[list(face)].ravel(), 7) for face in FACES)
    return head.ljust(80) + struct.pack("<I", count) + rows + tail


STL = {
    "ascii": ASCII.encode(),
    "upper case": ASCII.upper().encode(),
    "mixed case": ASCII.replace("solid", "Solid").replace("facet", "Facet").encode(),
    "blank first line": b"\n \n" + ASCII.encode(),
    "utf-8 mark": b"\xef\xbb\xbf" + ASCII.encode(),
    "utf-16": ASCII.encode("utf-16"),
    "utf-16 without mark": ASCII.encode("utf-16-le"),
    "latin-1 name": ASCII.replace("part", "Gehäuse").encode("latin-1"),
    "crlf": ASCII.replace("\n", "\r\n").encode(),
    "cr": ASCII.replace("\n", "\r").encode(),
    "tabs": ASCII.replace("vertex ", "\t\tvertex\t").encode(),
    "one line": ASCII.replace("solid part\n", "solid part ").replace("\n", " ").encode(),
    "long name": ASCII.replace("part", "x" * 3000).encode(),
    "no name": ASCII.replace(" part", "").encode(),
    "keywords in the name": ASCII.replace("part", "vertex facet endloop 7").encode(),
    "two solids": TWO.encode(),
    "no endsolid": ASCII.replace("endsolid part\n", "").encode(),
    "binary": binary(),
    "binary called solid": binary(b"solid facet normal vertex"),
    "binary with a tail": binary(tail=b"endsolid and more"),
    "binary named by zeros": binary(b"\x00"),
}


@pytest.mark.parametrize("name", STL)
def test_every_stl_is_the_same_solid(tmp_path, name):
    path = tmp_path / "part.stl"
    path.write_bytes(STL[name])
    check(path)


def check(path):
    mesh, surface, notes = load_surface(path, "mm")
    assert surface.watertight and notes == [] and len(mesh.faces) == 4
    assert surface.volume == pytest.approx(4e-6, rel=1e-6)
    np.testing.assert_allclose(mesh.extents, [0.03, 0.02, 0.04], rtol=1e-6)


V = "".join("v {:g} {:g} {:g}\n".format(*point) for point in POINTS)
F = "f 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
OBJ = {
    "plain": V + F,
    "crlf": (V + F).replace("\n", "\r\n"),
    "comments": "# made by hand\n\n" + V.replace("\n", " # a corner\n") + F.replace("\n", " # a face\n"),
    "tabs": (V + F).replace(" ", "\t"),
    "indented": "  " + (V + F).replace("\n", "\n  "),
    "relative": V + "f -4 -2 -3\nf -4 -3 -1\nf -3 -2 -1\nf -4 -1 -2\n",
    "continued": V + F.replace("1 3 2", "1 \\\n3 2"),
    "textures": V + "vt 0 0\n" + F.replace("1 ", "1/1 ").replace("2", "2/1").replace("3", "3/1").replace("4", "4/1"),
    "normals": V
    + "vn 0 0 1\n"
    + "".join(f"f {' '.join(f'{i}//1' for i in row)}\n" for row in ("132", "124", "234", "143")),
    "all": V
    + "vt 0 0\nvn 0 0 1\n"
    + "".join(f"f {' '.join(f'{i}/1/1' for i in r)}\n" for r in ("132", "124", "234", "143")),
    "faces first": F + V,
    "weights": V.replace("\n", " 1.0\n") + F,
    "colours": V.replace("\n", " 0.5 0.5 0.5\n") + F,
    "groups": "mtllib no.mtl\no part\n" + V + "g side\nusemtl grey\ns 1\n" + F,
    "lines too": V + "l 1 2 3\np 4\n" + F,
    "no last line end": (V + F).rstrip(),
}


@pytest.mark.parametrize("name", OBJ)
def test_every_obj_is_the_same_solid(tmp_path, name):
    path = tmp_path / "part.obj"
    path.write_bytes(OBJ[name].encode())
    check(path)


def test_negative_indices_count_from_their_face(tmp_path):
    def cube(size, shift):
        corners = [(shift + size * x, size * y, size * z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
        sides = ("-8 -7 -5 -6", "-4 -2 -1 -3", "-8 -4 -3 -7", "-6 -5 -1 -2", "-8 -6 -2 -4", "-7 -3 -1 -5")
        return "".join("v {} {} {}\n".format(*c) for c in corners) + "".join(f"f {side}\n" for side in sides)

    path = tmp_path / "pair.obj"
    path.write_text(cube(80, 0) + cube(20, 100))
    mesh, surface, _ = load_surface(path, "mm")
    np.testing.assert_allclose(mesh.extents, [0.12, 0.08, 0.08], rtol=1e-6)
    assert surface.bodies == 2 and surface.volume == pytest.approx(0.08**3 + 0.02**3, rel=1e-6)


def ply(form, vertex=("float",) * 3, extra=False, faces_first=False, count="uchar", index="int", name="vertex_indices"):
    """The tetrahedron with the types asked for; ``extra``: numbers and lists that nobody needs, before and after."""
    order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[form]
    codes = {
        "uchar": "B",
        "int": "i",
        "uint": "I",
        "short": "h",
        "ushort": "H",
        "float": "f",
        "double": "d",
        "int8": "b",
    }
    point_rows = [[(t, v) for t, v in zip(vertex, point)] for point in POINTS]
    face_rows = [[(count, 3), *((index, k) for k in face)] for face in FACES]
    point_head = [f"property {t} {axis}" for t, axis in zip(vertex, "xyz")]
    face_head = [f"property list {count} {index} {name}"]
    if extra:
        point_rows = [
            [("uchar", 9), *row, ("float", 0.5), ("uchar", 2), ("short", 1), ("short", 2)] for row in point_rows
        ]
        point_head = ["property uchar flag", *point_head, "property float nx", "property list uchar short seen"]
        face_rows = [[("uchar", 1), *row, ("float", 0.25), ("uchar", k % 2), *[("int", 5)] * (k % 2)] for k, row in
                     enumerate(face_rows)]  # fmt: skip
        face_head = ["property uchar red", *face_head, "property float quality", "property list uchar int more"]
    blocks = [("vertex", point_head, point_rows), ("face", face_head, face_rows)]
    whole = {"float": float, "double": float}
    header, body = ["ply", f"format {form} 1.0", "comment end_header is not here", "obj_info made by hand"], b""
    for element, head, rows in reversed(blocks) if faces_first else blocks:
        header += [f"element {element} {len(rows)}", *head]
        for row in rows:
            text = " ".join(str(value) for _, value in row) + "\n"
            packed = (
                b"".join(struct.pack(f"{order}{codes[kind]}", whole.get(kind, int)(value)) for kind, value in row)
                if order
                else b""
            )
            body += packed if order else text.encode()
    return ("\n".join([*header, "end_header"]) + "\n").encode() + body


PLY = {
    **{f"{form} {k}": ply(form, **options) for form in ("ascii", "binary_little_endian", "binary_big_endian")
       for k, options in enumerate([
           {}, {"extra": True}, {"faces_first": True}, {"count": "int", "index": "uint", "name": "vertex_index"},
           {"vertex": ("double", "float", "short")}, {"count": "float", "index": "ushort"}, {"index": "int8"},
       ])},
    "crlf": ply("ascii").replace(b"\n", b"\r\n"),
    "cr": ply("ascii").replace(b"\n", b"\r"),
    "crlf header": ply("binary_little_endian").replace(b"\n", b"\r\n"),
    "tabs and blank lines": ply("ascii").replace(b" 0", b"\t0").replace(b"end_header\n", b"end_header\n\n"),
    "utf-8 mark": b"\xef\xbb\xbf" + ply("ascii"),
    "utf-16": ply("ascii").decode().encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLY)
def test_every_ply_is_the_same_solid(tmp_path, name):
    path = tmp_path / "part.ply"
    path.write_bytes(PLY[name])
    check(path)


REFUSED = {
    "step.stl": (b"ISO-10303-21;\nHEADER;", "is no STL but STEP"),
    "glb.obj": (b"glTF\x02\x00\x00\x00" + bytes(40), "is no OBJ but glTF"),
    "zip.stl": (b"PK\x03\x04" + bytes(range(200)), "is no STL but a ZIP archive"),
    "ply.stl": (PLY["ascii 0"], r"is no STL but PLY; rename it to \.ply"),
    "binary_ply.obj": (PLY["binary_big_endian 0"], r"is no OBJ but PLY; rename it to \.ply"),
    "stl.ply": (ASCII.encode(), r"is no PLY but ASCII STL; rename it to \.stl"),
    "obj.stl": ((V + F).encode(), r"is no STL but Wavefront OBJ; rename it to \.obj"),
    "pointer.stl": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "page.ply": (b"<!DOCTYPE html><html></html>", "a web page"),
    "zeros.stl": (bytes(5000), "nothing but zero bytes"),
    "empty.stl": (b"solid part\nendsolid part\n", "without a facet"),
    "short.stl": (b"\x01\x02\x03", "it is no STL: 3 bytes"),
    "count.stl": (binary(count=0), "announces 0 triangles, 200 bytes follow"),
    "cut.stl": (binary()[:-7], "truncated: 277 bytes of 284 for 4 triangles, of which 3 are there"),
    "noise.stl": (np.random.default_rng(0).bytes(4000), "it is no STL: not ASCII .* and not binary"),
    "cut_facet.stl": (ASCII[: ASCII.rindex("endloop")].encode(), "truncated: it ends within facet 4"),
    "no_end.stl": (ASCII.replace("endfacet\nendsolid", "endsolid").encode(), "a facet lacks its 'endfacet'"),
    "few.stl": (
        ASCII.replace("vertex 30.0 0.0 0.0", "vertex 30.0 0.0", 1).encode(),
        "'vertex 30.0 0.0 endloop' is not three",
    ),
    "edges.obj": ((V + "f 1 2\nf 3 4\n").encode(), "no faces of three corners or more"),
    "negative.ply": (
        ply("binary_little_endian", count="int8").replace(b"\x03\x00\x00", b"\xff\x00\x00", 1),
        "has -1 items",
    ),
    "comma.stl": (
        ASCII.replace("30.0 0.0 0.0", "30,5 0,0 0,0").encode(),
        "'vertex 30,5 0,0 0,0' is not three numbers; write",
    ),
    "comma.obj": ((V + F).replace("30 0 0", "30,5 0,0 0,0").encode(), "'v 30,5 0,0 0,0' is not three numbers; write"),
    "two.obj": ((V + F).replace("v 30 0 0", "v 30 0").encode(), "'v 30 0' is not three numbers"),
    "word.obj": ((V + F).replace("f 1 3 2", "f 1 x 2").encode(), "'f 1 x 2' is not a row of vertices"),
    "zero.obj": ((V + F).replace("f 1 3 2", "f 0 3 2").encode(), "names vertex 0, and the file has 4, counted from 1"),
    "above.obj": ((V + F).replace("f 1 3 2", "f -5 3 2").encode(), "face 1 .* names vertex -5, .* 4 of them above"),
    "surf.obj": ((V + "cstype bspline\nsurf 0 1 0 1 1 2 3 4\n").encode(), "free-form curves or surfaces"),
    "strips.ply": (ply("ascii").replace(b"element face 4", b"element tristrips 4"), "triangle strips"),
    "noname.ply": (ply("ascii", name="corners"), "faces have no list 'vertex_indices'"),
    "comma.ply": (ply("ascii").replace(b"30.0", b"30,0"), "write decimals with a point"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_it_is(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MeshError, match=message) as caught:
        load_mesh(path, "mm")
    proven = name.startswith("cut")
    assert ("truncated" in str(caught.value)) == proven and "damaged" not in str(caught.value)


def test_folders_and_dead_links_are_no_mesh_files(tmp_path):
    (tmp_path / "folder.stl").mkdir()
    (tmp_path / "link.stl").symlink_to(tmp_path / "gone.stl")
    with pytest.raises(MeshError, match="a folder or a device"):
        load_mesh(tmp_path / "folder.stl", "mm")
    with pytest.raises(MeshError, match="a link to .*gone.stl, which is not there"):
        load_mesh(tmp_path / "link.stl", "mm")
