"""Tiny meshes and object sets that several tests share; millimetre parts made of a few triangles."""

import numpy as np
from evaluation_scene import box_mesh, model

from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectSet


def tetrahedron(size=1.0):
    """A lopsided tetrahedron, no two views of it alike: vertices (4, 3) float32 and faces (4, 3) int32."""
    vertices = np.array([[-1.0, -0.7, -0.6], [1.0, -0.5, -0.4], [0.1, 1.0, -0.5], [0.2, 0.0, 1.0]], dtype=np.float32)
    return vertices * np.float32(size), np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)


def box(width, height, depth):
    """A box about the origin: vertices (8, 3) float32 and faces (12, 3) int32."""
    mesh = box_mesh(width, height, depth)
    return mesh.vertices, mesh.faces


def joined(*meshes):
    """Several meshes as one."""
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    vertices = np.concatenate([vertices for vertices, _ in meshes])
    return vertices, np.concatenate([faces + start for (_, faces), start in zip(meshes, starts)])


def inside_out(mesh):
    return mesh[0], mesh[1][:, ::-1]


def soup(mesh):
    """Every face with corners of its own, as in an STL."""
    return mesh[0][mesh[1]].reshape(-1, 3), np.arange(3 * len(mesh[1])).reshape(-1, 3)


def tiny_objects():
    """Two objects: an L of two boxes (no symmetry) and a tetrahedron, 60 and 40 mm."""
    long, short = box_mesh(0.06, 0.02, 0.015), box_mesh(0.015, 0.02, 0.04, offset=(0.0225, 0.0, 0.02))
    angle = Mesh(
        np.concatenate([long.vertices, short.vertices]), np.concatenate([long.faces, short.faces + 8]).astype(np.int32)
    )
    return ObjectSet((model("angle", angle, aliases=("1",)), model("spike", Mesh(*tetrahedron(0.02)), aliases=("2",))))


def write_obj(path, mesh, scale=1000.0):
    """Write a mesh as Wavefront OBJ in millimetres."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.astype(float) * scale]
    lines += [f"f {a} {b} {c}" for a, b, c in mesh.faces + 1]
    path.write_text("\n".join(lines) + "\n")


def write_object_set(folder, objects):
    """Write an object set as OBJ files and an objects.yaml; returns the yaml's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["objects:"]
    for model_ in objects:
        write_obj(folder / f"{model_.class_id}.obj", model_.mesh)
        lines.append(f"- {{class_id: '{model_.class_id}', file: {model_.class_id}.obj, unit: mm}}")
    (folder / "objects.yaml").write_text("\n".join(lines) + "\n")
    return folder / "objects.yaml"
