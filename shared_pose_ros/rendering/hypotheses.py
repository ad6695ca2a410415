"""Renders of hypotheses for the refiner: each object alone in its own window, under one light, with its normals.

Convention: the object stands on the optical axis, as crops show it; OpenCV axes; lengths in any one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.rendering.hypothesis_kernel import draw_hypotheses
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer, pack_meshes
from shared_pose_ros.rendering.shading import Lighting, shade
from shared_pose_ros.rendering.warp_rasterizer import WarpRasterizer

# From above and a little from the left, so that no two sides of a part look alike; lamp in camera distances.
LAMP, LAMP_STRENGTH, AMBIENT, CREVICE, SKY = (-0.5, -1.0, 0.2), 0.6, 0.15, 0.3, (0.0, -0.25, 0.0)
NEAREST = 3.0
"""Least distance in half extents: nearer, the perspective is that of no camera over a bin."""
LEAST_LIGHT = 1e-3
"""Where all of a render is darker, this counts as its greatest light."""
_OUTLINE_POINTS = 400
_LEAST_SHARE = 4  # hypotheses that are worth a thread


class HypothesisRenderer:
    """Draws hypotheses of an object set.

    Args:
        meshes: vertices ``(V, 3)`` about the centre of the CAD's box, and faces ``(F, 3)``; by object_index.
        rasterizer: the backend.
        crop_pad: side of the window over the larger side of the object's box, as of the crops.
        device: where it draws.
    """

    def __init__(
        self,
        meshes: Sequence[tuple[np.ndarray, np.ndarray]],
        rasterizer: Rasterizer,
        crop_pad: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.meshes: PackedMeshes = pack_meshes(meshes, device)
        self.outlines = outline_points([vertices for vertices, _ in meshes]).to(device)
        self.rasterizer, self.crop_pad = rasterizer, crop_pad
        # A Warp kernel takes one core of a CPU, and leaves the interpreter to others while it runs.
        self._workers = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(1,))

    @torch.no_grad()
    def render(self, object_index: Tensor, rotations: Tensor, distances: Tensor, size: int) -> Tensor:
        """Light (its greatest is 1) and normals (camera axes, towards the camera) of H hypotheses, 0 beside the object.

        Args:
            object_index: ``(H,)`` int64.
            rotations: ``(H, 3, 3)`` R_m2c as the crop shows the object.
            distances: ``(H,)`` from the camera to the object's centre, in the meshes' unit.
            size: S in pixels.

        Returns:
            ``(H, 4, S, S)``.
        """
        parts = 1 if rotations.device.type != "cpu" else min(self._workers, max(len(rotations) // _LEAST_SHARE, 1))
        if parts < 2:
            return self._drawn(object_index, rotations, distances, size)
        shares = [torch.tensor_split(given, parts) for given in (object_index, rotations, distances)]
        return torch.cat(list(self._pool.map(self._drawn, *shares, [size] * parts)))

    def _drawn(self, object_index: Tensor, rotations: Tensor, distances: Tensor, size: int) -> Tensor:
        translations = F.pad(distances[:, None], (2, 0))
        camera = window_camera(self.outlines[object_index], rotations, translations, self.crop_pad, size)
        rotations, lighting = rotations.contiguous(), _light(distances)
        if rotations.device.type == "cpu" and isinstance(self.rasterizer, WarpRasterizer):
            return draw_hypotheses(
                self.meshes, object_index, rotations, translations, camera, lighting, size, LEAST_LIGHT
            )  # fmt: skip
        faces = self.rasterizer.rasterize(self.meshes, object_index, rotations, translations, camera, (size, size))
        shaded = shade(faces, self.meshes, rotations, translations, camera, lighting)
        light = shaded.intensity[:, None]
        light = light / light.amax(dim=(1, 2, 3), keepdim=True).clamp(min=LEAST_LIGHT)
        return torch.cat([light, shaded.normals.permute(0, 3, 1, 2)], dim=1)


def window_camera(outlines: Tensor, rotations: Tensor, translations: Tensor, crop_pad: float, size: int) -> Tensor:
    """K ``(H, 3, 3)`` of the window of side crop_pad · max(w, h) about each object's box.

    Args:
        outlines: ``(H, P, 3)`` points that touch the box in some view.
        rotations: ``(H, 3, 3)``.
        translations: ``(H, 3)``.
        crop_pad: see above.
        size: side of the window in pixels.
    """
    points = torch.matmul(outlines, rotations.transpose(1, 2)) + translations[:, None]
    projected = points[..., :2] / points[..., 2:]
    low, high = projected.amin(dim=1), projected.amax(dim=1)
    focal = size / (crop_pad * (high - low).amax(dim=1))
    camera = torch.zeros(len(rotations), 3, 3, device=rotations.device)
    camera[:, 0, 0] = camera[:, 1, 1] = focal
    camera[:, :2, 2] = (size - 1) / 2 - focal[:, None] * (low + high) / 2
    camera[:, 2, 2] = 1
    return camera


def outline_points(vertex_sets: Sequence[np.ndarray]) -> Tensor:
    """For each object the vertices that can touch its box in some view, ``(k, P, 3)``, padded by repetition."""
    directions = np.random.default_rng(0).normal(size=(4 * _OUTLINE_POINTS, 3))
    rows = []
    for vertices in vertex_sets:
        extreme = np.unique(np.argmax(vertices @ directions.T, axis=0))[:_OUTLINE_POINTS]
        rows.append(np.resize(vertices[extreme], (_OUTLINE_POINTS, 3)))
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _light(distances: Tensor) -> Lighting:
    lamp = torch.tensor(LAMP, device=distances.device)
    sky = torch.tensor(SKY, device=distances.device).expand(len(distances), 3).contiguous()
    return Lighting.one_lamp(distances[:, None] * lamp, LAMP_STRENGTH, AMBIENT, crevice=CREVICE, sky=sky)
