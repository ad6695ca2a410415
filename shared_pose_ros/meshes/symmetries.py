"""Symmetries of an object: the rigid motions that map its surface onto itself.

Conventions: metres, CAD frame. A discrete symmetry is a 4×4 matrix S with X' = S X; a continuous one is an axis through
an offset, every angle about which is a symmetry. They serve to measure errors; training does not use them.
Discretisation follows the BOP benchmark (Hodaň et al., 2020): an angle step for which the point farthest from the axis
moves at most ``max_step`` diameters, and every continuous step combined with every discrete symmetry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.geometry.rotations import axis_angle_rotation
from shared_pose_ros.meshes.diameter import diameter
from shared_pose_ros.meshes.mesh import Mesh, simplify
from shared_pose_ros.meshes.surface import sample_surface, surface_distance

_ORTHONORMAL_TOLERANCE = 1e-3
_MAX_GROUP = 240


def _no_discrete() -> NDArray[np.float64]:
    return np.zeros((0, 4, 4))


@dataclass(frozen=True)
class Symmetries:
    """Symmetries of one object.

    Attributes:
        discrete: ``(D, 4, 4)`` float64, metres, without the identity.
        continuous: pairs of unit axis ``(3,)`` and a point on it ``(3,)``, metres.
    """

    discrete: NDArray[np.float64] = field(default_factory=_no_discrete)
    continuous: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...] = ()

    def transforms(self, max_step: float = 0.01) -> NDArray[np.float64]:
        """All symmetries as matrices ``(S, 4, 4)``, the identity first.

        Args:
            max_step: greatest path of a surface point between steps of a continuous symmetry, in diameters.
        """
        if not 0.0 < max_step <= 1.0:
            raise ValueError(f"max_step is {max_step}: it is a fraction of the diameter, give a number in (0, 1]")
        discrete = np.concatenate([np.eye(4)[None], self.discrete])
        if not self.continuous:
            return discrete
        # A point on the sphere of diameter d travels pi d in one revolution.
        steps = math.ceil(math.pi / max_step)
        angles = 2.0 * math.pi / steps * np.arange(steps, dtype=np.float64)
        rotations = np.concatenate([rotation_about(axis, angles, offset) for axis, offset in self.continuous])
        return np.einsum("cij,djk->dcik", rotations, discrete).reshape(-1, 4, 4)

    def rotations(self, max_step: float = 0.01) -> NDArray[np.float64]:
        """Rotation parts of ``transforms``, ``(S, 3, 3)``."""
        return self.transforms(max_step)[:, :3, :3]

    def fixed_point(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """The point ``(3,)`` nearest to ``point (3,)`` that every symmetry leaves in place, metres.

        Such points solve S_R x + s = x for all discrete symmetries and (I − a aᵀ)(x − o) = 0 for all axes a through o;
        the solution of least change is by the pseudo-inverse, which for declared motions that are not quite a group
        gives least squares.
        """
        identity = np.eye(3)
        blocks = [(matrix[:3, :3] - identity, -matrix[:3, 3]) for matrix in self.discrete]
        across = [(identity - np.outer(axis, axis), offset) for axis, offset in self.continuous]
        blocks += [(matrix, matrix @ offset) for matrix, offset in across]
        if not blocks:
            return point
        left, right = np.concatenate([a for a, _ in blocks]), np.concatenate([b for _, b in blocks])
        return point + np.linalg.pinv(left, rcond=_ORTHONORMAL_TOLERANCE) @ (right - left @ point)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form in metres: ``{"discrete": [[16 numbers]], "continuous": [{"axis", "offset"}]}``."""
        return {
            "discrete": [[float(value) for value in matrix.ravel()] for matrix in self.discrete],
            "continuous": [
                {"axis": [float(v) for v in axis], "offset": [float(v) for v in offset]}
                for axis, offset in self.continuous
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Symmetries:
        """Inverse of ``to_dict``.

        Raises:
            ValueError: a matrix that is no rigid motion, an axis of zero length, wrong counts of numbers.
        """
        return cls._build(data.get("discrete", ()), data.get("continuous", ()), 1.0)

    @classmethod
    def from_bop(cls, model_info: Mapping[str, Any], metres_per_unit: float = 1e-3) -> Symmetries:
        """Symmetries of one entry of a BOP models_info.json (keys ``symmetries_discrete``, ``symmetries_continuous``).

        Args:
            model_info: the entry.
            metres_per_unit: length of one unit of its lengths, a millimetre in BOP.

        Raises:
            ValueError: as ``from_dict``.
        """
        discrete, continuous = (model_info.get(f"symmetries_{kind}", ()) for kind in ("discrete", "continuous"))
        return cls._build(discrete, continuous, metres_per_unit)

    @classmethod
    def from_axes(cls, axes: Sequence[Mapping[str, Any]], metres_per_unit: float = 1.0) -> Symmetries:
        """Symmetries generated by rotations about axes, the form of objects.yaml.

        Args:
            axes: each ``{"axis": [x, y, z], "fold": n or "continuous", "offset": [x, y, z]}`` (offset optional). A fold
                of n is a rotation by 360/n degrees. All products of the discrete ones are included.
            metres_per_unit: length of one unit of the offsets.

        Raises:
            ValueError: a fold below 2, an unknown fold, a zero axis, or rotations that generate no finite group.
        """
        generators, continuous = [], []
        for entry in axes:
            unknown = set(entry) - {"axis", "fold", "offset"}
            if unknown or "axis" not in entry or "fold" not in entry:
                raise ValueError(f"symmetry {dict(entry)}: needs the keys axis and fold (offset is optional)")
            axis = _unit(entry["axis"])
            offset = _vector(entry.get("offset", (0.0, 0.0, 0.0)), "offset") * metres_per_unit
            fold = entry["fold"]
            if fold == "continuous":
                continuous.append((axis, offset))
            elif isinstance(fold, int) and not isinstance(fold, bool) and fold >= 2:
                generators.append(rotation_about(axis, np.array([2.0 * math.pi / fold]), offset)[0])
            else:
                raise ValueError(f"symmetry fold is {fold!r}: give a whole number from 2, or 'continuous'")
        return cls(_generated_group(generators), tuple(continuous))

    @classmethod
    def _build(cls, discrete: Any, continuous: Any, scale: float) -> Symmetries:
        matrices = [_rigid(matrix, scale) for matrix in discrete]
        axes = tuple((_unit(entry["axis"]), _vector(entry["offset"], "offset") * scale) for entry in continuous)
        return cls(np.stack(matrices) if matrices else _no_discrete(), axes)


def rotation_about(
    axis: NDArray[np.float64], angles: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rotations by ``angles (N,)`` radians about ``axis (3,)`` through ``offset (3,)``, as matrices ``(N, 4, 4)``."""
    count = len(angles)
    axes = torch.as_tensor(np.asarray(axis, dtype=np.float64)).expand(count, 3)
    rotations = axis_angle_rotation(axes, torch.as_tensor(np.asarray(angles, dtype=np.float64))).numpy()
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = rotations
    matrices[:, :3, 3] = offset - rotations @ offset
    return matrices


def _generated_group(generators: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All products of the generators without the identity, ``(D, 4, 4)``."""
    group = [np.eye(4)]
    for element in group:  # grows while it is walked: every new element meets every generator
        for generator in generators:
            product = generator @ element
            if not any(np.abs(product - known).max() < 1e-6 for known in group):
                group.append(product)
        if len(group) > _MAX_GROUP:
            raise ValueError(f"the symmetries generate more than {_MAX_GROUP} motions: check their axes and offsets")
    return np.stack(group[1:]) if len(group) > 1 else _no_discrete()


def _rigid(values: Any, scale: float) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.size != 16:
        raise ValueError(f"a discrete symmetry has {matrix.size} numbers: it needs 16, a 4×4 matrix row by row")
    matrix = matrix.reshape(4, 4).copy()
    rotation = matrix[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if not (error < _ORTHONORMAL_TOLERANCE and np.linalg.det(rotation) > 0.0 and np.isfinite(matrix).all()):
        raise ValueError(f"a discrete symmetry is no rotation: {rotation.round(4).tolist()}; mirrorings do not count")
    matrix[:3, 3] *= scale
    return matrix


def _vector(values: Any, what: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise ValueError(f"symmetry {what} is {values!r}: give three finite numbers")
    return vector


def _unit(values: Any) -> NDArray[np.float64]:
    vector = _vector(values, "axis")
    length = float(np.linalg.norm(vector))
    if length < 1e-9:
        raise ValueError(f"symmetry axis is {values!r}: its length is zero")
    return vector / length


def detect_symmetries(mesh: Mesh, tolerance: float | None = None) -> Symmetries:
    """Find the symmetries of a mesh: rotations about its axes of inertia that bring the surface back onto itself.

    Every symmetry axis passes through the surface's centroid and is an axis of inertia; three-fold and higher ones need
    two equal moments. Two cases to state by hand: cubes, balls and other parts with three equal moments, and
    symmetries that hold but for a detail (a thread, a lettering), which breaks them here.

    Args:
        mesh: simplified to 2,000 faces when it has more.
        tolerance: greatest distance of a rotated surface point from the surface, metres; None is 1 % of the diameter.

    Returns:
        Rotations about axes through the centroid, metres, CAD frame.
    """
    tolerance = 0.01 * diameter(mesh) if tolerance is None else tolerance
    mesh = simplify(mesh, 2000)
    centroid, moments, axes = _inertia(mesh)
    points = sample_surface(mesh, 300)

    def misfit(axis: NDArray[np.float64], angle: float, count: int = len(points)) -> float:
        rotation = rotation_about(axis, np.array([angle]), centroid)[0]
        return float(surface_distance(mesh, points[:count] @ rotation[:3, :3].T + rotation[:3, 3]).max())

    def fits(axis: NDArray[np.float64], angle: float) -> bool:
        return misfit(axis, angle, 30) <= tolerance and misfit(axis, angle) <= tolerance  # most candidates fail early

    close = [abs(moments[(k + 1) % 3] - moments[(k + 2) % 3]) < 0.02 * moments.max() for k in range(3)]
    entries: list[dict[str, Any]] = []
    for k in range(3):
        axis = axes[:, k]
        folds = range(12, 1, -1) if close[k] else (2,)
        if close[k] and all(fits(axis, 2.0 * math.pi * share) for share in (0.0902, 0.1382, 0.3618)):
            entries.append({"axis": axis, "fold": "continuous", "offset": centroid})
        elif fold := next((n for n in folds if fits(axis, 2.0 * math.pi / n)), None):
            entries.append({"axis": axis, "fold": fold, "offset": centroid})
    if sum(close) == 1:  # the decomposition's two other axes are arbitrary: search 180° rotations between them
        k = close.index(True)
        entries = [entry for entry in entries if np.array_equal(entry["axis"], axes[:, k])]
        flip = _half_turn_between(axes[:, (k + 1) % 3], axes[:, (k + 2) % 3], misfit)
        if fits(flip, math.pi):
            entries.append({"axis": flip, "fold": 2, "offset": centroid})
    return Symmetries.from_axes(entries)


def _inertia(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centroid ``(3,)``, second moments ``(3,)`` and their axes ``(3, 3)`` in columns, integrated over the surface."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2.0
    centroid = (area[:, None] * corners.mean(axis=1)).sum(axis=0) / area.sum()
    corners = corners - centroid
    total = corners.sum(axis=1)
    products = np.einsum("fci,fcj->fij", corners, corners) + np.einsum("fi,fj->fij", total, total)
    moments, axes = np.linalg.eigh(np.einsum("f,fij->ij", area / 12.0, products))
    return centroid, moments, axes


def _half_turn_between(
    first: NDArray[np.float64], second: NDArray[np.float64], misfit: Callable[[NDArray[np.float64], float, int], float]
) -> NDArray[np.float64]:
    """Axis in the plane of two perpendicular axes about which a 180° rotation fits best."""

    def axis_at(angle: float) -> NDArray[np.float64]:
        return math.cos(angle) * first + math.sin(angle) * second

    step = math.radians(2.0)
    best = min(np.arange(0.0, math.pi, step), key=lambda angle: misfit(axis_at(angle), math.pi, 60))
    for _ in range(5):  # shrink the bracket threefold each time: 2° to 0.01°
        step /= 3.0
        best = min((best + k * step for k in range(-3, 4)), key=lambda angle: misfit(axis_at(angle), math.pi, 60))
    return axis_at(best)
