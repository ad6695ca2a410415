"""Triangle meshes: load with a unit, check, simplify, measure.

Conventions: vertices are metres in the CAD frame once loaded; the unit of the file is declared by the caller because
PLY, STL and OBJ carry none. Faces index vertices, counter-clockwise seen from outside. Normals are not stored: they
follow from vertices and faces. Textures, colours and materials are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.decimation import decimate
from shared_pose_ros.meshes.ply import read_ply

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "in": 0.0254}
MIN_EXTENT = 1e-3
MAX_EXTENT = 5.0

# Vertices closer than this fraction of the largest extent are one vertex: below float32 resolution of typical CAD.
_MERGE_FRACTION = 1e-6
# Meshes above this are thinned by the fast method before the accurate one takes over.
_THIN_FACES = 4000
# A mesh whose middle extent is below this fraction of its largest is a line, not a surface.
_LINE_FRACTION = 1e-6


class MeshError(ValueError):
    """A mesh file cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: ``(V, 3)`` float32, metres, CAD frame.
        faces: ``(F, 3)`` int32, indices into ``vertices``.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Lower and upper corner of the bounding box, ``(2, 3)`` metres."""
        return np.asarray([self.vertices.min(axis=0), self.vertices.max(axis=0)], dtype=np.float64)

    @property
    def extents(self) -> NDArray[np.float64]:
        """Sides of the bounding box, ``(3,)`` metres."""
        return np.asarray(self.bounds[1] - self.bounds[0])

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the bounding box, ``(3,)`` metres, CAD frame."""
        return np.asarray(self.bounds.mean(axis=0))


def metres_per_unit(unit: str | float | bool) -> float:
    """Length of one file unit in metres.

    Args:
        unit: "m", "cm", "mm", "in", or a positive number of metres per unit.

    Raises:
        MeshError: an unknown name or a number that is not positive and finite.
    """
    if isinstance(unit, str):
        if unit not in UNITS:
            raise MeshError(f"unknown unit '{unit}': use one of {', '.join(UNITS)} or a number of metres per unit")
        return UNITS[unit]
    if isinstance(unit, bool) or not isinstance(unit, (int, float)) or not (0.0 < unit < float("inf")):
        raise MeshError(f"unit is {unit!r}: use one of {', '.join(UNITS)} or a positive number of metres per unit")
    return float(unit)


def load_mesh(path: str | Path, unit: str | float) -> Mesh:
    """Read a mesh file of a format in ``READERS``, convert it to metres and clean it.

    Polygons are triangulated, duplicate vertices merged, degenerate faces and unused vertices dropped.

    Args:
        path: the file; its suffix decides the format.
        unit: of the file's coordinates, see ``metres_per_unit``.

    Returns:
        The mesh in metres, in the frame of the file.

    Raises:
        MeshError: missing, unreadable, empty, non-finite, degenerate or absurdly scaled; names file and remedy.
    """
    path = Path(path)
    scale = metres_per_unit(unit)
    vertices, faces = _read(path)
    if len(faces) == 0:
        raise MeshError(f"{path}: holds no faces; export a triangle mesh, not points or curves")
    if not np.isfinite(vertices).all():
        count = int((~np.isfinite(vertices).all(axis=1)).sum())
        raise MeshError(f"{path}: {count} of {len(vertices)} vertices are NaN or infinite; repair or export it again")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(
            f"{path}: a face names vertex {int(faces.max())} of {len(vertices)} (indices run from 0); "
            "the file is damaged: export it again"
        )
    vertices, faces = _clean(vertices * scale, faces)
    _check_size(path, vertices, faces, unit, scale)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def simplify(mesh: Mesh, face_budget: int) -> Mesh:
    """Reduce a mesh to about ``face_budget`` faces by quadric edge collapses.

    Large meshes are first thinned by fast-simplification, at a setting that loses next to nothing; alone and driven
    further it stalls above the budget and dents machined parts (measured: by 4 to 20 % of their size at 800 faces).

    The bounding box stays within 1 % of the largest extent; where the budget is too small for that, more faces stay.

    Args:
        mesh: any mesh; returned as it is when it has no more faces than the budget.
        face_budget: at least 4.

    Raises:
        MeshError: a budget below 4.
    """
    if face_budget < 4:
        raise MeshError(f"face budget is {face_budget}: the smallest closed mesh has 4 faces; use 500 or more")
    scale = mesh.extents.max()
    points = (mesh.vertices.astype(np.float64) - mesh.centre) / scale  # unit size: thresholds are absolute
    thin_points, thin_faces = _thin(points, mesh.faces.astype(np.int64), max(_THIN_FACES, 2 * face_budget))
    budget = int(face_budget)
    while budget < len(thin_faces):
        vertices, faces = _clean(*decimate(thin_points, thin_faces, budget))
        if len(faces) >= 4 and _box_change(points, vertices) <= 0.01:
            return _scaled(vertices, faces, scale, mesh.centre)
        budget = max(64, budget * 3 // 2)
    return mesh if len(thin_faces) == len(mesh.faces) else _scaled(thin_points, thin_faces, scale, mesh.centre)


def diameter(mesh: Mesh) -> float:
    """Largest distance between two vertices, metres, exact: it is attained on the convex hull."""
    points = mesh.vertices.astype(np.float64)
    points = points[np.unique(mesh.faces)]
    if np.linalg.matrix_rank(points - points[0], tol=1e-6 * mesh.extents.max()) == 3:
        from scipy.spatial import ConvexHull

        points = points[ConvexHull(points).vertices]
    largest = 0.0
    for start in range(0, len(points), 256):  # chunked: a round part can have thousands of hull vertices
        chunk = points[start : start + 256]
        squared = ((chunk[:, None, :] - points[None, start:, :]) ** 2).sum(axis=2)
        largest = max(largest, float(squared.max()))
    return math.sqrt(largest)


def _thin(
    points: NDArray[np.float64], faces: NDArray[np.int64], face_count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A mesh of unit size with about ``face_count`` faces and practically the same surface."""
    if len(faces) <= face_count:
        return points, faces
    import fast_simplification

    thin, thin_faces = fast_simplification.simplify(points, faces.astype(np.int32), target_count=face_count, agg=2)
    thin, thin_faces = _clean(np.asarray(thin, dtype=np.float64), np.asarray(thin_faces, dtype=np.int64))
    return (thin, thin_faces) if len(thin_faces) >= 4 and _box_change(points, thin) <= 0.005 else (points, faces)


def _scaled(points: NDArray[np.float64], faces: NDArray[np.int64], scale: float, centre: NDArray[np.float64]) -> Mesh:
    return Mesh((points * scale + centre).astype(np.float32), faces.astype(np.int32))


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices ``(V, 3)`` and triangles ``(F, 3)`` as the file holds them."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise MeshError(f"{path}: unknown mesh format '{suffix}'; convert it to one of {', '.join(READERS)}")
    if not path.is_file():
        raise MeshError(f"{path}: no such mesh file; check the path")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty (0 bytes); export it again")
    try:
        return READERS[suffix](path)
    except MeshError:
        raise
    except Exception as error:  # readers raise anything from IndexError to UnicodeDecodeError on damaged files
        reason = "damaged or not text" if isinstance(error, ImportError) else str(error).strip() or repr(error)
        raise MeshError(f"{path}: cannot be read as {suffix[1:].upper()}: {reason}; export it again") from error


def _read_with_trimesh(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    kind = path.suffix.lower()[1:]
    if kind == "stl" and (missing := _missing_stl(path)):
        raise ValueError(f"the file is truncated: {missing}")
    try:
        import trimesh
    except ImportError as error:
        raise MeshError(f"{path}: reading {kind.upper()} files needs trimesh: pip install trimesh") from error
    options = {"skip_materials": True} if kind == "obj" else {}
    with path.open("rb") as stream:
        loaded = trimesh.load_mesh(stream, file_type=kind, process=False, **options)
    vertices = np.asarray(loaded.vertices, dtype=np.float64).reshape(-1, 3)
    return vertices, np.asarray(loaded.faces, dtype=np.int64).reshape(-1, 3)


def _missing_stl(path: Path) -> str:
    """What a truncated STL lacks, "" for none: binary has 84 bytes and 50 a triangle, ASCII ends in endsolid."""
    data = path.read_bytes()
    if data[:5].lower() == b"solid" and b"facet" in data[:1000]:
        return "" if b"endsolid" in data[-1000:].lower() else "no endsolid"
    count = int.from_bytes(data[80:84], "little")
    if len(data) < 84 + 50 * count:
        return f"{len(data)} bytes of {84 + 50 * count} for {count} triangles"
    return ""


# By lower-case suffix, what reads a file: vertices (V, 3) in the file's unit and triangles (F, 3). Whatever it raises
# becomes a MeshError that names the file.
READERS: dict[str, Callable[[Path], tuple[NDArray[np.float64], NDArray[np.int64]]]] = {
    ".ply": read_ply,
    ".stl": _read_with_trimesh,
    ".obj": _read_with_trimesh,
}


def _clean(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge duplicate vertices, drop faces without area and vertices without a face."""
    extent = float(np.ptp(vertices, axis=0).max())
    if extent > 0.0:
        grid = np.round((vertices - vertices.min(axis=0)) / (extent * _MERGE_FRACTION)).astype(np.int64)
        _, first, inverse = np.unique(grid, axis=0, return_index=True, return_inverse=True)
        vertices, faces = vertices[first], inverse.reshape(-1)[faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[distinct]
    corners = vertices[faces]
    doubled_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    faces = faces[doubled_area > (extent * _MERGE_FRACTION) ** 2]
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


def _check_size(
    path: Path, vertices: NDArray[np.float64], faces: NDArray[np.int64], unit: str | float, scale: float
) -> None:
    """Raise MeshError for a mesh without surface or with a size that points to a wrong unit."""
    if len(faces) == 0:
        raise MeshError(f"{path}: no face has an area (all points coincide or lie on a line); export it again")
    extents = np.sort(np.ptp(vertices, axis=0))
    largest = float(extents[-1])
    if not MIN_EXTENT <= largest <= MAX_EXTENT:
        limit = f"{MIN_EXTENT * 1e3:g} mm" if largest < MIN_EXTENT else f"{MAX_EXTENT:g} m"
        relation = "below" if largest < MIN_EXTENT else "above"
        raise MeshError(
            f"{path}: largest extent is {largest:.4g} m with unit '{unit}', {relation} the limit of {limit}; "
            f"{_probable_unit(largest / scale)}"
        )
    if extents[0] <= _LINE_FRACTION * largest:
        raise MeshError(
            f"{path}: the mesh is flat (extents {np.ptp(vertices, axis=0).round(6).tolist()} m); "
            "a solid with a volume is needed: give the sheet its thickness"
        )


def _probable_unit(largest: float) -> str:
    """The unit that brings an extent of ``largest`` file units closest to 0.1 m, as advice."""
    fitting = {name: largest * size for name, size in UNITS.items() if MIN_EXTENT <= largest * size <= MAX_EXTENT}
    if not fitting:
        return "no common unit fits: give the number of metres per unit, or scale the model"
    name = min(fitting, key=lambda candidate: abs(np.log(fitting[candidate] / 0.1)))
    return f"probable unit: '{name}' (it would be {fitting[name]:.4g} m)"


def _box_change(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Largest shift of a bounding-box side, in units of the coordinates."""
    low = np.abs(before.min(axis=0) - after.min(axis=0)).max()
    high = np.abs(before.max(axis=0) - after.max(axis=0)).max()
    return float(max(low, high))
