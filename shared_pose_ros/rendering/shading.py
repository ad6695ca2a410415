"""Shading of rasterised faces: point lights, ambient light, highlights, dark crevices. One Warp kernel, no gradient.

Convention: camera frame, OpenCV axes; lights and surface points in the unit of the meshes. Intensities are in [0, 1],
one channel: parts are textureless, their colour multiplies afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.rendering.rasterizer import PackedMeshes
from shared_pose_ros.rendering.warp_rasterizer import launch_arguments, to_warp, wp


@dataclass(frozen=True)
class Lighting:
    """Lights of B images.

    Attributes:
        positions: ``(B, L, 3)`` point lights.
        strengths: ``(B, L)`` diffuse weight of each, 0 switches one off.
        ambient: ``(B,)``.
        specular: ``(B,)`` weight of the highlights (Blinn-Phong).
        shininess: ``(B,)`` exponent of the highlights.
        crevice: ``(B,)`` darkening of concave places, 0 is none.
        sky: ``(B, 3)`` direction towards the sky times its strength: hemisphere light strength·(1 + N·up)/2, 0 is none.
    """

    positions: Tensor
    strengths: Tensor
    ambient: Tensor
    specular: Tensor
    shininess: Tensor
    crevice: Tensor
    sky: Tensor


@dataclass(frozen=True)
class ShadedImages:
    """What a shaded render shows.

    Attributes:
        intensity: ``(B, H, W)`` in [0, 1], 0 at background.
        depth: ``(B, H, W)`` in the unit of the meshes, 0 at background.
        normals: ``(B, H, W, 3)`` unit surface normals in the camera frame, towards the camera; 0 at background.
        positions: ``(B, H, W, 3)`` the surface point seen, in the model frame and unit; 0 at background.
    """

    intensity: Tensor
    depth: Tensor
    normals: Tensor
    positions: Tensor


@wp.kernel
def _shade_pixels(
    face_id: wp.array3d(dtype=wp.int64),
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    rotation: wp.array(dtype=wp.mat33),
    translation: wp.array(dtype=wp.vec3),
    camera: wp.array(dtype=wp.mat33),
    positions: wp.array2d(dtype=wp.vec3),
    strengths: wp.array2d(dtype=wp.float32),
    surface: wp.array(dtype=wp.vec3),
    sky: wp.array(dtype=wp.vec3),
    intensity: wp.array3d(dtype=wp.float32),
    depth: wp.array3d(dtype=wp.float32),
    normal_map: wp.array3d(dtype=wp.vec3),
    position_map: wp.array3d(dtype=wp.vec3),
):
    image, y, x = wp.tid()
    face = int(face_id[image, y, x])
    if face < 0:
        return
    k = camera[image if camera.shape[0] > 1 else 0]
    dy = (float(y) - k[1, 2]) / k[1, 1]
    ray = wp.vec3((float(x) - k[0, 2] - k[0, 1] * dy) / k[0, 0], dy, 1.0)
    normal = rotation[image] * normals[face]
    corner = rotation[image] * vertices[faces[face][0]] + translation[image]
    facing = wp.dot(normal, ray)
    z = wp.dot(normal, corner) / facing
    point = ray * z
    view = wp.normalize(-point)
    # CAD winding is not reliable: the side that is seen is the front.
    if facing > 0.0:
        normal = -normal
    total = surface[image][0] + 0.5 * (wp.length(sky[image]) + wp.dot(sky[image], normal))
    for light in range(strengths.shape[1]):
        strength = strengths[image, light]
        if strength > 0.0:
            towards = wp.normalize(positions[image, light] - point)
            diffuse = wp.dot(normal, towards)
            if diffuse > 0.0:
                glance = wp.max(wp.dot(normal, wp.normalize(towards + view)), 0.0)
                total += strength * (diffuse + surface[image][1] * wp.pow(glance, surface[image][2]))
    depth[image, y, x] = z
    normal_map[image, y, x] = normal
    position_map[image, y, x] = wp.transpose(rotation[image]) * (point - translation[image])
    intensity[image, y, x] = wp.min(total, 1.0)


@torch.no_grad()
def shade(
    face_id: Tensor, meshes: PackedMeshes, rotation: Tensor, translation: Tensor, camera: Tensor, lighting: Lighting
) -> ShadedImages:
    """Flat-shaded intensity: ambient + sky + Σ strength·(max(0, N·L) + specular·max(0, N·H)^shininess), clipped to 1.

    A light behind the surface gives neither diffuse light nor a highlight. Crevices are darkened afterwards.

    Args:
        face_id: ``(B, H, W)`` from a rasteriser.
        meshes: the pack.
        rotation: ``(B, 3, 3)``.
        translation: ``(B, 3)``.
        camera: ``(B, 3, 3)`` or ``(3, 3)``.
        lighting: of the B images.
    """
    intensity = torch.zeros(face_id.shape, device=face_id.device)
    depth = torch.zeros_like(intensity)
    normals = torch.zeros(*face_id.shape, 3, device=face_id.device)
    model_points = torch.zeros_like(normals)
    if face_id.numel() == 0:
        return ShadedImages(intensity, depth, normals, model_points)
    surface = torch.stack([lighting.ambient, lighting.specular, lighting.shininess], dim=1)
    wp.launch(
        _shade_pixels,
        dim=tuple(face_id.shape),
        inputs=[
            to_warp(face_id, wp.int64),
            to_warp(meshes.vertices, wp.vec3),
            to_warp(meshes.faces, wp.vec3i),
            to_warp(meshes.normals, wp.vec3),
            to_warp(rotation.float(), wp.mat33),
            to_warp(translation.float(), wp.vec3),
            to_warp(camera.float().reshape(-1, 3, 3), wp.mat33),
            to_warp(lighting.positions.float(), wp.vec3),
            to_warp(lighting.strengths.float(), wp.float32),
            to_warp(surface.float(), wp.vec3),
            to_warp(lighting.sky.float(), wp.vec3),
            to_warp(intensity, wp.float32),
            to_warp(depth, wp.float32),
            to_warp(normals, wp.vec3),
            to_warp(model_points, wp.vec3),
        ],
        **launch_arguments(face_id.device),
    )
    return ShadedImages(intensity * _openness(depth, lighting.crevice), depth, normals, model_points)


def _openness(depth: Tensor, strength: Tensor) -> Tensor:
    """Factor in [0, 1], below 1 where the surroundings lie nearer to the camera (unsharp mask, Luft et al. 2006)."""
    if not bool((strength > 0).any()):
        return torch.ones_like(depth)
    # The neighbourhood is an eighth of the image wide; a quarter of its resolution is plenty.
    step = max(depth.shape[-1] // 32, 1)
    layers = torch.stack([depth, (depth > 0).float()], dim=1)
    coarse = F.avg_pool2d(F.avg_pool2d(layers, step), 5, stride=1, padding=2)
    mean = F.interpolate(coarse[:, :1] / coarse[:, 1:].clamp(min=1e-6), depth.shape[-2:], mode="bilinear")[:, 0]
    behind = (depth - mean).clamp(min=0)
    scale = behind.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    return 1.0 - strength[:, None, None] * behind / scale
