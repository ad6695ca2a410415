"""The rasteriser's interface and the packed meshes that it draws.

Convention: OpenCV camera (x right, y down, z forward), pixel centres at integer coordinates, X_cam = R X_model + t. Any
length unit, the same for vertices and translations. Meshes of different objects lie in one pack, so that a mixed batch
is one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from shared_pose_ros.geometry.closed_surface import is_closed

RASTERIZERS = ("warp", "pytorch3d")


@dataclass(frozen=True)
class PackedMeshes:
    """k meshes end to end.

    Attributes:
        vertices: ``(ΣV, 3)`` float32.
        faces: ``(ΣF, 3)`` int32, rows of ``vertices``.
        face_offsets: ``(k + 1,)`` int32; object i owns faces ``face_offsets[i]:face_offsets[i + 1]``.
        normals: ``(ΣF, 3)`` float32 unit normals by the right-hand rule; zero for a degenerate face.
        opaque_from: ``(k,)`` float32, distance of the eye from the origin from which on faces that look away are hidden
            by others: the radius of a mesh that ``closed_surface.is_closed``, infinite for another.
        largest: most faces of one object.
    """

    vertices: Tensor
    faces: Tensor
    face_offsets: Tensor
    normals: Tensor
    opaque_from: Tensor
    largest: int

    def to(self, device: torch.device | str) -> PackedMeshes:
        """The same meshes on another device."""
        return PackedMeshes(
            self.vertices.to(device),
            self.faces.to(device),
            self.face_offsets.to(device),
            self.normals.to(device),
            self.opaque_from.to(device),
            self.largest,
        )


class Rasterizer(Protocol):
    """Finds the nearest face in every pixel, without gradient."""

    def rasterize(
        self,
        meshes: PackedMeshes,
        object_index: Tensor,
        rotation: Tensor,
        translation: Tensor,
        camera: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Draw one object per image.

        Args:
            meshes: the pack, on the device of the poses.
            object_index: ``(B,)`` int64.
            rotation: ``(B, 3, 3)``.
            translation: ``(B, 3)``.
            camera: ``(3, 3)`` or ``(B, 3, 3)``.
            size: (height, width) in pixels.

        Returns:
            ``(B, H, W)`` int64, a row of ``meshes.faces``, −1 where nothing is hit. Faces are seen from both sides.
        """
        ...


def pack_meshes(meshes: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device | str = "cpu") -> PackedMeshes:
    """Pack meshes end to end.

    Args:
        meshes: pairs of vertices ``(V, 3)`` and faces ``(F, 3)``, in the order of object_index.
        device: where the pack lives.

    Raises:
        ValueError: no mesh, or one without vertices or faces.
    """
    if not meshes:
        raise ValueError("no meshes to pack; give at least one")
    for index, (vertices, faces) in enumerate(meshes):
        if len(vertices) == 0 or len(faces) == 0:
            raise ValueError(f"mesh {index} has {len(vertices)} vertices and {len(faces)} faces; it needs both")
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    counts = [len(faces) for _, faces in meshes]
    corners = torch.from_numpy(np.concatenate([v for v, _ in meshes]).astype(np.float32))
    rows = torch.from_numpy(np.concatenate([f + start for (_, f), start in zip(meshes, starts)]).astype(np.int32))
    a, b, c = corners[rows.long()].double().unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    normals = normals / normals.norm(dim=-1, keepdim=True).clamp(min=1e-20)
    offsets = torch.from_numpy(np.cumsum([0] + counts).astype(np.int32))
    radii = [np.linalg.norm(v, axis=1).max() if is_closed(v, f) else np.inf for v, f in meshes]
    opaque_from = torch.tensor(radii, dtype=torch.float32)
    return PackedMeshes(corners, rows, offsets, normals.float(), opaque_from, max(counts)).to(device)


def make_rasterizer(name: str = "warp") -> Rasterizer:
    """The backend called ``name``: "warp", or "pytorch3d", the slow reference.

    Raises:
        ValueError: an unknown name.
        ImportError: the backend's package is absent; the message names the remedy.
    """
    if name == "warp":
        from shared_pose_ros.rendering.warp_rasterizer import WarpRasterizer

        return WarpRasterizer()
    if name == "pytorch3d":
        from shared_pose_ros.rendering.pytorch3d_rasterizer import PyTorch3DRasterizer

        return PyTorch3DRasterizer()
    raise ValueError(f"rasterizer {name!r} is unknown; choose {' or '.join(map(repr, RASTERIZERS))}")
