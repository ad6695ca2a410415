"""Triangle meshes: load with a unit, check, simplify.

Conventions: vertices are metres in the CAD frame once loaded; the unit of the file is declared by the caller because
PLY, STL and OBJ carry none. Faces index vertices, counter-clockwise seen from outside. Normals are not stored: they
follow from vertices and faces. Textures, colours and materials are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.decimation import decimate
from shared_pose_ros.meshes.file_text import foreign_format
from shared_pose_ros.meshes.obj import read_obj
from shared_pose_ros.meshes.ply import read_ply
from shared_pose_ros.meshes.polygons import Outlines, Polygons, triangulate
from shared_pose_ros.meshes.soundness import Surface, in_use, inspect, merged, with_area
from shared_pose_ros.meshes.stl import read_stl

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "in": 0.0254}
MIN_EXTENT = 1e-3
MAX_EXTENT = 5.0

# Meshes above this are thinned by the fast method before the accurate one takes over.
_THIN_FACES = 4000
# Outlines that cross themselves may give this share of the surface too much.
_MOST_EXCESS = 0.01
# Steps of float32 at the part's place, as fractions of its size: above the first its vertices stay float64, above the
# second it is refused.
_FINE_STEP, _COARSE_STEP = 1e-5, 1e-2
# Sizes of the part between it and its origin from which on the distance is told.
_FAR = 10.0


class MeshError(ValueError):
    """A mesh file cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: ``(V, 3)`` float32, metres, CAD frame; float64 where the part lies so far from the origin that float32
            would blur it (``load_mesh``).
        faces: ``(F, 3)`` int32, indices into ``vertices``.
    """

    vertices: NDArray[np.float32] | NDArray[np.float64]
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


def metres_per_unit(unit: object) -> float:
    """Length of one file unit in metres.

    Args:
        unit: "m", "cm", "mm", "in", or a positive number of metres per unit, which may be written out.

    Raises:
        MeshError: an unknown name or a number that is not positive and finite.
    """
    if isinstance(unit, str):
        if unit in UNITS:
            return UNITS[unit]
        try:
            unit = float(unit)
        except ValueError:
            names = ", ".join(UNITS)
            raise MeshError(f"unknown unit '{unit}': use one of {names} or a number of metres per unit") from None
    if isinstance(unit, bool) or not isinstance(unit, (int, float)) or not (0.0 < unit < float("inf")):
        raise MeshError(f"unit is {unit!r}: use one of {', '.join(UNITS)} or a positive number of metres per unit")
    return float(unit)


def load_mesh(path: str | Path, unit: str | float) -> Mesh:
    """Read a mesh file, see ``load_surface``."""
    return load_surface(path, unit)[0]


def load_surface(path: str | Path, unit: str | float) -> tuple[Mesh, Surface, list[str]]:
    """Read a mesh file of a format in ``READERS``, convert it to metres, mend it and say what it is.

    Polygons are triangulated, vertices at one place merged, faces wound outwards, double and degenerate faces and
    unused vertices dropped (``soundness.inspect``).

    Args:
        path: the file; its suffix decides the format.
        unit: of the file's coordinates, see ``metres_per_unit``.

    Returns:
        The mesh in metres, in the frame of the file; what was found on its surface; and notes for people.

    Raises:
        MeshError: missing, unreadable, empty, non-finite, degenerate, absurdly scaled, too far from its origin, or not
            a surface; names file, reason and remedy.
    """
    path = Path(path)
    scale = metres_per_unit(unit)
    vertices, faces, outlines = _read(path)
    vertices = vertices * scale
    _check_size(path, vertices[in_use(faces, len(vertices))], unit, scale)
    notes = outlines.notes(scale)
    try:
        vertices, faces, surface = inspect(vertices, faces)
        far, step = _place(vertices)
        excess = outlines.excess * scale**2 / surface.area
        if excess > _MOST_EXCESS:
            raise ValueError(
                f"the outlines of {outlines.crossed} faces cross themselves and give {excess:.0%} of the surface too "
                f"much (limit {_MOST_EXCESS:.0%}); export triangles"
            )
    except ValueError as error:
        raise MeshError(f"{path}: {error}") from error
    kind = np.float64 if step > _FINE_STEP else np.float32
    mesh = Mesh(vertices.astype(kind), faces.astype(np.int32))
    return mesh, surface, [*notes, *far, *surface.notes(len(faces))]


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
            return _scaled(vertices, faces, mesh)
        budget = max(64, budget * 3 // 2)
    return mesh if len(thin_faces) == len(mesh.faces) else _scaled(thin_points, thin_faces, mesh)


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


def _scaled(points: NDArray[np.float64], faces: NDArray[np.int64], mesh: Mesh) -> Mesh:
    """A mesh of unit size at the place and in the size of ``mesh``."""
    vertices = points * mesh.extents.max() + mesh.centre
    return Mesh(vertices.astype(mesh.vertices.dtype), faces.astype(np.int32))


def _clean(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge duplicate vertices, drop faces without area and vertices without a face."""
    return with_area(*merged(vertices, faces))


Faces = NDArray[np.int64] | Polygons
# By lower-case suffix, what reads a file: vertices (V, 3) in the file's unit, and triangles (F, 3) or polygons.
# Whatever it raises becomes a MeshError that names the file.
READERS: dict[str, Callable[[Path], tuple[NDArray[np.float64], Faces]]] = {
    ".ply": read_ply,
    ".stl": read_stl,
    ".obj": read_obj,
}


def _read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], Outlines]:
    """Vertices ``(V, 3)`` and triangles ``(F, 3)`` as the file holds them, and what was seen of its polygons."""
    suffix = path.suffix.lower()
    kind = suffix[1:].upper()
    _check_file(path)
    try:
        vertices, faces = READERS[suffix](path)
        corners = faces.corners if isinstance(faces, Polygons) else faces
        _check_corners(vertices, corners)
        triangles, outlines = triangulate(vertices, faces) if isinstance(faces, Polygons) else (faces, Outlines())
        if not len(triangles):
            raise ValueError("holds no faces of three corners or more; export a triangle mesh")
        return vertices, triangles, outlines
    except (OSError, MemoryError) as error:
        raise MeshError(f"{path}: cannot be read: {str(error) or 'not enough memory'}; check the file") from error
    except ImportError as error:
        raise MeshError(f"{path}: some of its faces need manifold3d ({error}): pip install manifold3d") from error
    except Exception as error:  # readers of other programs raise anything from IndexError to UnicodeDecodeError
        if other := foreign_format(path.read_bytes(), kind):
            raise MeshError(f"{path}: is no {kind} but {other}; {_remedy(other)}") from error
        reason = str(error).strip() or repr(error)
        remedy = "" if "; " in reason else "; open it in a mesh viewer, and if that fails too, export it again"
        raise MeshError(f"{path}: cannot be read as {kind}: {reason}{remedy}") from error


def _check_file(path: Path) -> None:
    """Raise MeshError for what cannot hold a mesh at all."""
    if not path.exists():
        link = f", a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise MeshError(f"{path}: no such mesh file{link}; check the path")
    if not path.is_file():
        raise MeshError(f"{path}: is a folder or a device, not a mesh file; check the path")
    if path.suffix.lower() not in READERS:
        raise MeshError(f"{path}: unknown mesh format '{path.suffix}'; convert it to one of {', '.join(READERS)}")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty (0 bytes); export it again")


def _remedy(other: str) -> str:
    """What to do with a file of another format than its name says."""
    for suffix in READERS:
        if suffix[1:].upper() in other:
            return f"rename it to {suffix}"
    return f"convert it to one of {', '.join(READERS)}"


def _check_corners(vertices: NDArray[np.float64], corners: NDArray[np.int64]) -> None:
    """Raise ValueError for corners that are no vertices, or no places."""
    if corners.size == 0:
        raise ValueError("holds no faces; export a triangle mesh, not points or curves")
    if corners.min() < 0 or corners.max() >= len(vertices):
        wrong = int(corners.min() if corners.min() < 0 else corners.max())
        raise ValueError(
            f"a face names vertex {wrong} of {len(vertices)} (indices run from 0), so faces and vertices do not belong "
            "together; export it again"
        )
    used = vertices[in_use(corners, len(vertices))]
    if not np.isfinite(used).all():
        count = int((~np.isfinite(used).all(axis=1)).sum())
        raise ValueError(
            f"{count} of {len(vertices)} vertices are NaN or infinite; export it again from a part without such points"
        )


def _check_size(path: Path, points: NDArray[np.float64], unit: str | float, scale: float) -> None:
    """Raise MeshError for a size that points to a wrong unit."""
    largest = float(np.ptp(points, axis=0).max())
    if largest > 0.0 and not MIN_EXTENT <= largest <= MAX_EXTENT:
        limit = f"{MIN_EXTENT * 1e3:g} mm" if largest < MIN_EXTENT else f"{MAX_EXTENT:g} m"
        relation = "below" if largest < MIN_EXTENT else "above"
        raise MeshError(
            f"{path}: largest extent is {largest:.4g} m with unit '{unit}', {relation} the limit of {limit}; "
            f"{_probable_unit(largest / scale)}"
        )


def _probable_unit(largest: float) -> str:
    """The unit that brings an extent of ``largest`` file units closest to 0.1 m, as advice."""
    fitting = {name: largest * size for name, size in UNITS.items() if MIN_EXTENT <= largest * size <= MAX_EXTENT}
    if not fitting:
        return (
            f"no common unit fits: give the number of metres per unit (--unit {0.1 / largest:.1g}), or scale the model"
        )
    name = min(fitting, key=lambda candidate: abs(np.log(fitting[candidate] / 0.1)))
    return (
        f"probable unit: '{name}' (it would be {fitting[name]:.4g} m): give --unit {name}, or 'unit: {name}' where an "
        "objects.yaml or models_info.json states it"
    )


def _place(points: NDArray[np.float64]) -> tuple[list[str], float]:
    """A note on a part far from its origin, and float32's step there as a fraction of its size.

    Raises:
        ValueError: so far that bundles, which hold float32, could not hold it.
    """
    size = float(np.ptp(points, axis=0).max())
    distance = float(np.linalg.norm(points.min(axis=0) + points.max(axis=0))) / 2.0
    step = float(np.spacing(np.float32(np.abs(points).max()))) / size
    if step > _COARSE_STEP:
        raise ValueError(
            f"it lies {distance:.4g} m from its origin, where float32 has steps of {step:.1%} of its size (limit "
            f"{_COARSE_STEP:.1%}); export it in a frame at the part"
        )
    if distance <= _FAR * size:
        return [], step
    moved = distance * np.radians(1.0)
    return [
        f"it lies {distance:.4g} m from its origin, {distance / size:.0f} times its size: poses are those of the "
        f"origin, which a rotation error of 1° moves by {moved:.2g} m; export it in a frame at the part"
    ], step


def _box_change(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Largest shift of a bounding-box side, in units of the coordinates."""
    low = np.abs(before.min(axis=0) - after.min(axis=0)).max()
    high = np.abs(before.max(axis=0) - after.max(axis=0)).max()
    return float(max(low, high))
