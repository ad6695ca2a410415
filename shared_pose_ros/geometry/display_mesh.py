"""Display meshes: coarse CAD that a bundle carries, so that a cell without CAD files can show and place parts.

Pictures and positions are computed from them, orientations are not.

Convention: vertices in metres, CAD frame; faces counter-clockwise seen from outside. Packed they are an .npz with
``vertices_i`` and ``faces_i`` for object_index i; objects without a mesh are left out.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FACE_BUDGET = 500
"""Faces that a display mesh is made with."""
MOST_FACES = 1000
"""Faces that it may have: simplification stops early where the shape would suffer."""
FINE_FACE_BUDGET, MOST_FINE_FACES = 2500, 5000
"""The same of the finer meshes that refinement draws; benchmark/refinement.py measures what they bring."""


@dataclass(frozen=True)
class DisplayMesh:
    """A coarse triangle mesh: ``vertices (V, 3)`` float32 metres, ``faces (F, 3)`` uint16."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.uint16]

    def __post_init__(self) -> None:
        """Check types, shapes, and that faces name vertices; raises ValueError saying what is wrong."""
        vertices, faces = self.vertices, self.faces
        if vertices.dtype != np.float32 or vertices.ndim != 2 or vertices.shape[1] != 3:
            raise ValueError(f"vertices are {vertices.dtype} {vertices.shape}, not float32 (V, 3)")
        if faces.dtype != np.uint16 or faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces are {faces.dtype} {faces.shape}, not uint16 (F, 3)")
        if not 1 <= len(faces) <= MOST_FINE_FACES:
            raise ValueError(f"it has {len(faces)} faces; 1 to {MOST_FINE_FACES} are allowed")
        if not np.isfinite(vertices).all():
            raise ValueError("a vertex is not finite")
        if faces.max() >= len(vertices):
            raise ValueError(f"a face names vertex {faces.max()} of {len(vertices)}")


def pack_meshes(meshes: Sequence[DisplayMesh | None]) -> bytes:
    """The meshes in object_index order as the bytes of a compressed .npz; the same meshes give the same bytes."""
    arrays: dict[str, NDArray[np.float32] | NDArray[np.uint16]] = {}
    for index, mesh in enumerate(meshes):
        if mesh is not None:
            arrays[f"vertices_{index}"], arrays[f"faces_{index}"] = mesh.vertices, mesh.faces
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # taken for its allow_pickle
    return stream.getvalue()


def unpack_meshes(data: bytes, objects: int, most_faces: int = MOST_FACES) -> tuple[DisplayMesh | None, ...]:
    """What ``pack_meshes`` packed, checked: one entry for each of ``objects``.

    Raises:
        ValueError: not such an archive, an object that is not there, or a mesh that is not one.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"no readable .npz: {error}") from error
    meshes: list[DisplayMesh | None] = [None] * objects
    for index in range(objects):
        vertices, faces = arrays.pop(f"vertices_{index}", None), arrays.pop(f"faces_{index}", None)
        if vertices is None and faces is None:
            continue
        if vertices is None or faces is None:
            raise ValueError(f"object {index} has only half a mesh")
        try:
            mesh = DisplayMesh(vertices, faces)
            if len(mesh.faces) > most_faces:
                raise ValueError(f"it has {len(mesh.faces)} faces; 1 to {most_faces} are allowed")
            meshes[index] = mesh
        except ValueError as error:
            raise ValueError(f"object {index}: {error}") from error
    if arrays:
        raise ValueError(f"'{next(iter(arrays))}' belongs to none of the {objects} objects")
    return tuple(meshes)
