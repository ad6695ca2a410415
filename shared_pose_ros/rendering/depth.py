"""Depth images whose gradient is exact: the closed-form plane depth of the face that won each pixel (METHOD 5).

With pixel ray d = (x, y, 1) and the winning face's object-frame normal m and corner v0, the depth is
z = (m·v0 + (R m)·t) / ((R m)·d). The same value and gradient as the z-buffer of a hard rasteriser.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer


def pixel_rays(camera: Tensor, size: tuple[int, int]) -> Tensor:
    """Rays d = (x, y, 1) through the pixel centres.

    Args:
        camera: ``(C, 3, 3)`` or ``(3, 3)``.
        size: (height, width).

    Returns:
        ``(C, H, W, 3)`` (C = 1 for one matrix).
    """
    camera = camera.reshape(-1, 3, 3)
    rows = torch.arange(size[0], device=camera.device, dtype=camera.dtype)
    columns = torch.arange(size[1], device=camera.device, dtype=camera.dtype)
    k = camera[:, :, :, None, None]
    y = ((rows[:, None] - k[:, 1, 2]) / k[:, 1, 1]).expand(-1, *size)
    x = (columns - k[:, 0, 2] - k[:, 0, 1] * y) / k[:, 0, 0]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def plane_depth(face_id: Tensor, meshes: PackedMeshes, rotation: Tensor, translation: Tensor, camera: Tensor) -> Tensor:
    """Depth of given faces in every pixel; differentiable in rotation and translation.

    Args:
        face_id: ``(B, H, W)`` int64 from a rasteriser, −1 for background.
        meshes: the pack that ``face_id`` refers to.
        rotation: ``(B, 3, 3)``.
        translation: ``(B, 3)``, unit of the vertices.
        camera: ``(3, 3)`` or ``(B, 3, 3)``.

    Returns:
        ``(B, H, W)`` in the unit of the vertices, 0 at background.
    """
    batch, height, width = face_id.shape
    depth = torch.zeros(batch * height * width, dtype=rotation.dtype, device=rotation.device)
    hit = (face_id >= 0).reshape(-1).nonzero().squeeze(1)
    if hit.numel() == 0:
        return depth.reshape(face_id.shape)
    # Only the pixels hit are evaluated: memory follows the silhouette, not the faces.
    face = face_id.reshape(-1)[hit]
    image = torch.div(hit, height * width, rounding_mode="floor")
    rays = pixel_rays(camera.to(rotation.device, rotation.dtype), (height, width)).reshape(-1, height * width, 3)
    # (R m)·d = m·(Rᵀ d): rotating the rays is one dense product, rotating one normal per pixel is not.
    turned = torch.matmul(rays, rotation).reshape(-1, 3).index_select(0, hit)
    normal = meshes.normals.index_select(0, face).to(rotation.dtype)
    corner = meshes.vertices.index_select(0, meshes.faces[:, 0].index_select(0, face).long()).to(rotation.dtype)
    centre = torch.matmul(translation[:, None], rotation).squeeze(1).index_select(0, image)
    distance = (normal * (corner + centre)).sum(-1)
    return depth.index_put((hit,), distance / (normal * turned).sum(-1)).reshape(face_id.shape)


def render_depth(
    meshes: PackedMeshes,
    object_index: Tensor,
    rotation: Tensor,
    translation: Tensor,
    camera: Tensor,
    size: tuple[int, int],
    rasterizer: Rasterizer,
) -> Tensor:
    """Rasterise, then evaluate the planes: depth images with a gradient to the poses.

    Args:
        meshes: the pack.
        object_index: ``(B,)`` int64.
        rotation: ``(B, 3, 3)``.
        translation: ``(B, 3)``, unit of the vertices.
        camera: ``(3, 3)`` or ``(B, 3, 3)``.
        size: (height, width).
        rasterizer: the backend.

    Returns:
        ``(B, H, W)`` in the unit of the vertices, 0 at background.
    """
    face_id = rasterizer.rasterize(meshes, object_index, rotation, translation, camera, size)
    return plane_depth(face_id, meshes, rotation, translation, camera)
