"""Display meshes: what a bundle carries for pictures."""

import io

import numpy as np
import pytest
from shapes import box, tetrahedron

from shared_pose_ros.geometry.display_mesh import MOST_FACES, MOST_FINE_FACES, DisplayMesh, pack_meshes, unpack_meshes
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectSet


def small(vertices, faces):
    return DisplayMesh(vertices.astype(np.float32), faces.astype(np.uint16))


MESHES = (small(*box(0.06, 0.04, 0.02)), None, small(*tetrahedron(0.02)))


def test_what_is_packed_is_unpacked_and_packs_the_same():
    data = pack_meshes(MESHES)
    found = unpack_meshes(data, 3)
    assert found[1] is None
    for index in (0, 2):
        np.testing.assert_array_equal(found[index].vertices, MESHES[index].vertices)
        np.testing.assert_array_equal(found[index].faces, MESHES[index].faces)
        assert (found[index].vertices.dtype, found[index].faces.dtype) == (np.float32, np.uint16)
    assert pack_meshes(found) == data


def arrays(**changes):
    """An archive of one tetrahedron with changed arrays; None leaves one out."""
    mesh = MESHES[2]
    content = {"vertices_0": mesh.vertices, "faces_0": mesh.faces, **changes}
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in content.items() if array is not None})
    return stream.getvalue()


V, F = MESHES[2].vertices, MESHES[2].faces


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not an archive", "no readable .npz"),
        (pack_meshes(MESHES)[:-30], "no readable .npz"),
        (arrays(faces_0=None), "object 0 has only half a mesh"),
        (arrays(vertices_7=V), "'vertices_7' belongs to none of the 1 objects"),
        (arrays(vertices_0=V.astype(np.float64)), r"object 0: vertices are float64 \(4, 3\)"),
        (arrays(vertices_0=V[:, :2]), r"vertices are float32 \(4, 2\)"),
        (arrays(vertices_0=V * np.float32("nan")), "a vertex is not finite"),
        (arrays(vertices_0=V[:3]), "a face names vertex 3 of 3"),
        (arrays(faces_0=F.astype(np.int64)), r"faces are int64 \(4, 3\)"),
        (arrays(faces_0=F[:0]), f"it has 0 faces; 1 to {MOST_FINE_FACES}"),
        (arrays(faces_0=np.tile(F, (300, 1))), f"it has 1200 faces; 1 to {MOST_FACES}"),
        (arrays(faces_0=np.array([{}], dtype=object)), "no readable .npz.*allow_pickle"),
    ],
)
def test_what_is_no_mesh_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        unpack_meshes(data, 1)


def test_a_part_keeps_its_size_and_takes_little_room():
    part = ObjectSet.load("models/parts", subset=["tee"])[0]
    mesh = display_mesh(part.mesh)
    assert 400 <= len(mesh.faces) <= 500 < len(part.mesh.faces)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), part.extents, atol=0.02 * part.extents.max())
    assert len(pack_meshes([mesh])) < 10_000


def test_what_cannot_be_collapsed_is_merged_on_a_grid():
    # Loose triangles: no edge has two faces, and each corner of the heap is needed for the box.
    random = np.random.default_rng(0)
    corners = random.uniform(-0.05, 0.05, (3000, 1, 3)) + random.uniform(-0.004, 0.004, (3000, 3, 3))
    heap = Mesh(corners.reshape(-1, 3).astype(np.float32), np.arange(9000, dtype=np.int32).reshape(-1, 3))
    mesh = display_mesh(heap)
    assert 50 <= len(mesh.faces) <= MOST_FACES
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), heap.extents, rtol=0.5)
