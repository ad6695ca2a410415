"""Clutter scenes, parts on top of each other on a table: where each part comes to lie, without a physics engine.

A part is let down onto what lies there already until it touches, then rocked: of many small turns the one that brings
its centre lowest is kept, again and again, as gravity would. Stopped early it leans or stands on an edge, so that the
heap shows its parts from all sides. What lies there is a height map, so parts never intersect.

Convention: metres, world frame with z up, the table at z = 0; X_world = R X_model + t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.geometry.rotations import axis_angle_rotation, random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.surface import sample_surface

_CELL = 0.0025  # of the height map
_HALF_WIDTH = 0.4  # of the height map
_CELLS = round(2 * _HALF_WIDTH / _CELL)
_CONTACT_POINTS = 5000  # of a part: closer together than the cells
_PLACES = 5  # tried for each part; it takes the lowest
_ROTATIONS = 20  # tried in each round of rocking
_ROUNDS = 24


@dataclass(frozen=True)
class PlacedPart:
    """One part of a scene.

    Attributes:
        object_index: position in the object set.
        rotation: model to world ``(3, 3)`` float64.
        translation: ``(3,)`` metres, of the CAD origin.
    """

    object_index: int
    rotation: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class Tray:
    """An open box around the heap, centred at the origin: inner half width, wall thickness and height, metres."""

    half_width: float = 0.2
    thickness: float = 0.006
    height: float = 0.045


class SceneBuilder:
    """Makes clutter scenes of an object set.

    Args:
        objects: the parts.
        radius: parts are let down within this distance of the origin, metres.
        settled: probability that a part is rocked until it rests; the others keep leaning.
    """

    def __init__(self, objects: ObjectSet, radius: float = 0.115, settled: float = 0.55) -> None:
        self.radius, self.settled = radius, settled
        self._points, self._centres = [], []
        for model in objects:
            points = np.concatenate([sample_surface(model.mesh, _CONTACT_POINTS), model.mesh.vertices])
            # The centre of the surface stands in for the centre of mass.
            self._centres.append(points[:_CONTACT_POINTS].mean(axis=0))
            self._points.append(torch.from_numpy((points - self._centres[-1]).astype(np.float32)))

    def build(self, object_indices: Sequence[int], generator: torch.Generator, tray: Tray | None) -> list[PlacedPart]:
        """Let down the given parts one by one; everything is drawn from ``generator`` (CPU)."""
        heights = _empty_table(tray)
        return [self._let_down(index, heights, generator) for index in object_indices]

    def _let_down(self, index: int, heights: Tensor, generator: torch.Generator) -> PlacedPart:
        points = self._points[index]
        # A cell's neighbours count too: the body's points do not fill every cell.
        grown = F.max_pool2d(heights[None, None], 3, stride=1, padding=1).view(-1)
        rotation = random_rotations(1, generator)[0]
        reach = self.radius * torch.rand(_PLACES, generator=generator).sqrt()
        angle = 2 * torch.pi * torch.rand(_PLACES, generator=generator)
        places = torch.stack([reach * torch.cos(angle), reach * torch.sin(angle)], dim=1)
        lift = _lift(points @ rotation.T + F.pad(places, (0, 1))[:, None], grown)
        place = places[lift.argmin()]
        rests = bool(torch.rand((), generator=generator) < self.settled)
        rounds = _ROUNDS if rests else int(torch.randint(0, 4, (), generator=generator))
        for number in range(rounds):
            spread = 0.3 * 0.85**number + 0.01
            axes = torch.randn(_ROTATIONS, 3, generator=generator)
            angles = spread * torch.randn(_ROTATIONS, generator=generator)
            slides = 0.02 * spread * torch.randn(_ROTATIONS, 2, generator=generator)
            angles[0], slides[0] = 0.0, 0.0  # it may stay as it is
            rotations = axis_angle_rotation(axes, angles) @ rotation
            places = place + slides
            rotated = points @ rotations.transpose(1, 2) + F.pad(places, (0, 1))[:, None]
            best = _lift(rotated, grown).argmin()
            rotation, place = rotations[best], places[best]
        located = points @ rotation.T + F.pad(place, (0, 1))
        located[:, 2] += _lift(located[None], grown)[0]
        heights.view(-1).scatter_reduce_(0, _cells(located), located[:, 2], "amax")
        # In double precision a rotation again, after many products in single precision.
        u, _, v = torch.linalg.svd(rotation.double())
        exact = (u @ v).numpy()
        centre = (located[0] - points[0] @ rotation.T).double().numpy()
        return PlacedPart(index, exact, centre - exact @ self._centres[index])


def _empty_table(tray: Tray | None) -> Tensor:
    """Height map ``(_CELLS, _CELLS)`` of the table with the tray's walls on it."""
    heights = torch.zeros(_CELLS, _CELLS)
    if tray is not None:
        middle = (torch.arange(_CELLS) + 0.5) * _CELL - _HALF_WIDTH
        distance = torch.maximum(middle.abs()[:, None], middle.abs())
        wall = (distance >= tray.half_width - _CELL) & (distance <= tray.half_width + tray.thickness + _CELL)
        heights[wall] = tray.height
    return heights


def _cells(points: Tensor) -> Tensor:
    """Index of each point ``(..., 3)`` in the flat height map; points beyond the map count as at its rim."""
    column_row = ((points[..., :2] + _HALF_WIDTH) / _CELL).long().clamp(0, _CELLS - 1)
    return column_row[..., 1] * _CELLS + column_row[..., 0]


def _lift(points: Tensor, heights: Tensor) -> Tensor:
    """How far up bodies ``(C, P, 3)`` must be moved to stand clear of the flat height map, touching it: ``(C,)``."""
    return (heights[_cells(points)] - points[..., 2]).amax(dim=1)
