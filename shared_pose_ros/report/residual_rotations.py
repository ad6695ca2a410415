"""What a wrong estimate looks like: the residual rotation of the object, in its own CAD frame, that would explain it.

R_estimate = R_truth D: the estimate shows the object as if it had first been rotated by D about its CAD's axes. D is
known only up to the declared symmetries S of the object: S' D S explains the same picture.

Convention: R_m2c ``(3, 3)``, degrees, axes in the CAD frame. "Named rotations" are the 23 of a cube onto itself: by
180° and 90° about x, y and z, by 180° about the diagonals of two axes, by 120° about those of three. One that a
declared symmetry makes equal to an earlier one, or to none, has no name of its own. Any other rotation is called by the
CAD axis it is about, if it is about one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.evaluation.instance_scoring import InstanceResult
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries

CORRECT_DEG = 15.0  # an error below this is called correct
NAMED_DEG = 25.0  # greatest distance to a named rotation that is called by its name, if that is nearer than the truth
NEAR_DEG = 45.0  # a wrong one below this still shows the right view: halfway to 90°
AXIS_DEG = 20.0  # greatest angle between the axis of any other rotation and a CAD axis that it is said to be about
CORRECT, NEAR, OTHER = "correct", "near miss", "other rotation"
_SYMMETRY_STEP = 0.05  # of continuous symmetries, in diameters: 5.7° between steps, 2.9° of doubt
_SAME_DEG = 8.0  # rotations that a symmetry brings so close to each other are one


@dataclass(frozen=True)
class Residual:
    """The rotation between truth and estimate in the object's frame, the smallest among equivalent ones.

    Attributes:
        axis: unit ``(3,)``, CAD frame.
        degrees: 0…180.
        kind: CORRECT, NEAR, the name of a rotation, "other angle about x" (y, z), or OTHER.
    """

    axis: NDArray[np.float64]
    degrees: float
    kind: str


@dataclass(frozen=True)
class RotationCounts:
    """How the estimates of one object are rotated away from the truth.

    Attributes:
        class_id: object.
        instances: how many.
        counts: number of instances of each kind that occurs: CORRECT, then the others, the most frequent first.
        wrong_degrees: median angle of those that are not correct; NaN if there are none.
    """

    class_id: str
    instances: int
    counts: dict[str, int]
    wrong_degrees: float


class RotationNamer:
    """Names residual rotations of one object, given its symmetries."""

    def __init__(self, symmetries: Symmetries) -> None:
        self._symmetries = symmetries.rotations(_SYMMETRY_STEP)
        self.named: dict[str, NDArray[np.float64]] = {}
        # Every rotation equivalent to those so far, so that one seen before under another name is left out.
        known = self._orbit(np.eye(3))
        for name, rotations in cube_rotations().items():
            fresh = [rotation for rotation in rotations if _angles(rotation[None], known).min() > _SAME_DEG]
            if fresh:
                orbit = np.concatenate([self._orbit(rotation) for rotation in fresh])
                self.named[name] = orbit
                known = np.concatenate([known, orbit])

    def residual(self, rotation: NDArray[np.float64], truth: NDArray[np.float64]) -> Residual:
        """Axis, angle and name of the rotation from a true one ``(3, 3)`` to an estimated one ``(3, 3)``."""
        difference = truth.T @ rotation
        equivalent = difference @ self._symmetries
        degrees = _angles(equivalent, np.eye(3)[None])[:, 0]
        best = int(degrees.argmin())
        axis = _axis(equivalent[best])
        return Residual(axis, float(degrees[best]), self._kind(difference, axis, float(degrees[best])))

    def _kind(self, rotation: NDArray[np.float64], axis: NDArray[np.float64], degrees: float) -> str:
        if degrees < CORRECT_DEG:
            return CORRECT
        distances = {name: float(_angles(rotation[None], orbit).min()) for name, orbit in self.named.items()}
        name = min(distances, key=lambda key: distances[key], default=OTHER)
        if distances.get(name, 180.0) < min(NAMED_DEG, degrees):
            return name
        if degrees < NEAR_DEG:
            return NEAR
        # A symmetry rotates the axis along with the object.
        along = np.abs(self._symmetries @ axis).max(axis=0) > np.cos(np.radians(AXIS_DEG))
        return f"other angle about {'xyz'[int(along.argmax())]}" if along.any() else OTHER

    def _orbit(self, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
        """All S' D S of a rotation D ``(3, 3)``: ``(n, 3, 3)``."""
        orbit = np.einsum("aij,jk,bkl->abil", self._symmetries, rotation, self._symmetries)
        return np.asarray(orbit.reshape(-1, 3, 3))


def cube_rotations() -> dict[str, list[NDArray[np.float64]]]:
    """The 23 rotations of a cube onto itself by name; opposite ones by 90° and by 120° share one."""
    named: dict[str, list[NDArray[np.float64]]] = {}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            rotation = np.zeros((3, 3))
            rotation[range(3), order] = signs
            if np.linalg.det(rotation) > 0 and not np.array_equal(rotation, np.eye(3)):
                named.setdefault(_name(rotation), []).append(rotation)
    return {name: named[name] for name in sorted(named, key=_rank)}


def residuals(results: Sequence[InstanceResult], objects: ObjectSet) -> list[Residual | None]:
    """The residual rotation of each result; None for misses, without its truth and where the set lacks its object.

    CORRECT agrees with the exact symmetric rotation error of the result, not with the sampled symmetries.
    """
    namers: dict[int, RotationNamer] = {}
    found: list[Residual | None] = []
    for result in results:
        index = objects.index(result.class_id)
        if index is None or not result.truth_rotation or not result.detected:
            found.append(None)
            continue
        if index not in namers:
            namers[index] = RotationNamer(objects[index].symmetries)
        rotation, truth = (np.array(r).reshape(3, 3) for r in (result.rotation, result.truth_rotation))
        residual = namers[index].residual(rotation, truth)
        correct, called_correct = result.rotation_deg < CORRECT_DEG, residual.kind == CORRECT
        kind = residual.kind if correct == called_correct else CORRECT if correct else NEAR
        found.append(Residual(residual.axis, result.rotation_deg, kind))
    return found


def rotation_counts(results: Sequence[InstanceResult], found: Sequence[Residual | None]) -> list[RotationCounts]:
    """How the estimates of each object are rotated, objects in the order of their first result."""
    by_class: dict[str, list[Residual]] = {}
    for result, residual in zip(results, found):
        if residual is not None:
            by_class.setdefault(result.class_id, []).append(residual)
    return [_count(class_id, of_class) for class_id, of_class in by_class.items()]


def probability_of_a_name() -> float:
    """Probability that a uniform random rotation lies within NAMED_DEG of one of the 23: n (θ − sin θ)/π."""
    angle = np.radians(NAMED_DEG)
    return float(23 * (angle - np.sin(angle)) / np.pi)


def describe(residual: Residual) -> str:
    """Its name and axis, such as "180° about x, axis (1.0, 0.1, 0.0)"; empty if correct."""
    if residual.kind == CORRECT:
        return ""
    axis = ", ".join(f"{value + 0.0:.1f}" for value in residual.axis.round(1))
    return f"{residual.kind}, axis ({axis})"


def probability_of_an_axis() -> float:
    """Probability that a uniform random axis lies within AXIS_DEG of x, y or z: 3 (1 − cos θ)."""
    return float(3.0 * (1.0 - np.cos(np.radians(AXIS_DEG))))


def _count(class_id: str, residuals: Sequence[Residual]) -> RotationCounts:
    found = Counter(residual.kind for residual in residuals)
    order = sorted(found, key=lambda kind: (kind != CORRECT, -found[kind]))
    counts = {kind: found[kind] for kind in order}
    wrong = [residual.degrees for residual in residuals if residual.kind != CORRECT]
    return RotationCounts(class_id, len(residuals), counts, float(np.median(wrong)) if wrong else float("nan"))


def _name(rotation: NDArray[np.float64]) -> str:
    degrees, axis = round(float(_angles(rotation[None], np.eye(3)[None])[0, 0])), _axis(rotation)
    along = [(letter, value) for letter, value in zip("xyz", axis) if abs(value) > 0.1]
    if len(along) == 3:
        return f"{degrees}° about a diagonal"
    if len(along) == 1:
        return f"{degrees}° about {along[0][0]}"
    sign = "+" if along[0][1] * along[1][1] > 0 else "−"
    return f"{degrees}° about {along[0][0]}{sign}{along[1][0]}"


def _rank(name: str) -> tuple[int, str]:
    kinds = ("180°", "90°", "120°")
    return kinds.index(name.split(" ")[0]) + (3 if "+" in name or "−" in name else 0), name


def _angles(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees between rotations ``(a, 3, 3)`` and ``(b, 3, 3)``: ``(a, b)``."""
    cosine = (first.reshape(-1, 9) @ second.reshape(-1, 9).T - 1.0) / 2.0
    return np.asarray(np.degrees(np.arccos(cosine.clip(-1.0, 1.0))))


def _axis(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit axis ``(3,)`` of a rotation: the eigenvector of eigenvalue 1, its sign from the sense of the rotation."""
    skew = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    # The symmetric part (R + Rᵀ)/2 has the axis as the eigenvector of its greatest eigenvalue, near 180° too.
    axis = np.linalg.eigh((r + r.T) / 2.0)[1][:, 2]
    largest = axis[np.abs(axis).argmax()]
    return axis if (skew @ axis > 1e-9 or (abs(skew @ axis) <= 1e-9 and largest > 0)) else -axis
