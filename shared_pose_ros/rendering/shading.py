"""Shading of rasterised faces: lamps, sky, highlights, mirrored sky, dark crevices. One Warp kernel, no gradient.

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
        metallic: ``(B,)`` share of a mirror that shows a brighter sky: m·((3 + reflection·up)/4)² for m·N·L; 0 is matt.
    """

    positions: Tensor
    strengths: Tensor
    ambient: Tensor
    specular: Tensor
    shininess: Tensor
    crevice: Tensor
    sky: Tensor
    metallic: Tensor

    @classmethod
    def one_lamp(
        cls,
        positions: Tensor,
        strength: float,
        ambient: float,
        specular: float = 0.0,
        shininess: float = 1.0,
        crevice: float = 0.0,
        sky: Tensor | None = None,
    ) -> Lighting:
        """The same lamp and surface in every image; ``positions`` and ``sky`` ``(B, 3)``, no sky by default."""

        def all_alike(value: float) -> Tensor:
            return torch.full((positions.shape[0],), value, device=positions.device)

        return cls(
            positions=positions[:, None],
            strengths=all_alike(strength)[:, None],
            ambient=all_alike(ambient),
            specular=all_alike(specular),
            shininess=all_alike(shininess),
            crevice=all_alike(crevice),
            sky=torch.zeros_like(positions) if sky is None else sky,
            metallic=all_alike(0.0),
        )


def surface_of(lighting: Lighting) -> Tensor:
    """What the kernels read of a surface, ``(B, 4)``: ambient light, weight and exponent of highlights, mirror."""
    return torch.stack([lighting.ambient, lighting.specular, lighting.shininess, lighting.metallic], dim=1)


@dataclass(frozen=True)
class ShadedImages:
    """What a shaded render shows, averaged over s×s samples per pixel (s = 1: none); background counts as 0.

    Attributes:
        intensity: ``(B, H, W)`` in [0, 1], so the light times the coverage.
        coverage: ``(B, H, W)`` share of the samples that hit the object.
        depth: ``(B, H, W)`` mean over the samples that hit, in the unit of the meshes; 0 where none does.
        normals: ``(B, H, W, 3)`` unit surface normals in the camera frame, towards the camera.
        positions: ``(B, H, W, 3)`` the surface point seen, in the model frame and unit.
    """

    intensity: Tensor
    coverage: Tensor
    depth: Tensor
    normals: Tensor
    positions: Tensor


@wp.func
def light_of(
    point: wp.vec3,
    normal: wp.vec3,
    image: int,
    positions: wp.array2d(dtype=wp.vec3),
    strengths: wp.array2d(dtype=wp.float32),
    surface: wp.vec4,
    sky: wp.vec3,
):
    """Light of a surface point in [0, 1], see ``shade``; ``surface`` as ``surface_of``."""
    view = wp.normalize(-point)
    strength = wp.length(sky)
    total = surface[0] + 0.5 * (strength + wp.dot(sky, normal))
    for light in range(strengths.shape[1]):
        lamp = strengths[image, light]
        if lamp > 0.0:
            towards = wp.normalize(positions[image, light] - point)
            diffuse = wp.dot(normal, towards)
            if diffuse > 0.0:
                glance = wp.max(wp.dot(normal, wp.normalize(towards + view)), 0.0)
                total += lamp * ((1.0 - surface[3]) * diffuse + surface[1] * wp.pow(glance, surface[2]))
    if surface[3] > 0.0 and strength > 0.0:
        mirrored = 2.0 * wp.dot(normal, view) * normal - view
        brightness = 0.75 + 0.25 * wp.dot(mirrored, sky) / strength
        total += surface[3] * brightness * brightness
    return wp.min(total, 1.0)


@wp.func
def seen_surface(
    face: int,
    y: int,
    x: int,
    k: wp.mat33,
    r: wp.mat33,
    t: wp.vec3,
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
):
    """Normal of a face, towards the camera, and the point of its plane that the pixel (y, x) shows; camera frame."""
    dy = (float(y) - k[1, 2]) / k[1, 1]
    ray = wp.vec3((float(x) - k[0, 2] - k[0, 1] * dy) / k[0, 0], dy, 1.0)
    normal = r * normals[face]
    corner = r * vertices[faces[face][0]] + t
    facing = wp.dot(normal, ray)
    point = ray * (wp.dot(normal, corner) / facing)
    # CAD winding is not reliable: the side that is seen is the front.
    if facing > 0.0:
        normal = -normal
    return normal, point


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
    surface: wp.array(dtype=wp.vec4),
    sky: wp.array(dtype=wp.vec3),
    samples: int,
    intensity: wp.array3d(dtype=wp.float32),
    coverage: wp.array3d(dtype=wp.float32),
    depth: wp.array3d(dtype=wp.float32),
    normal_map: wp.array3d(dtype=wp.vec3),
    position_map: wp.array3d(dtype=wp.vec3),
):
    image, row, column = wp.tid()
    k = camera[image if camera.shape[0] > 1 else 0]
    r = rotation[image]
    t = translation[image]
    light = float(0.0)
    hits = float(0.0)
    depths = float(0.0)
    turned = wp.vec3(0.0, 0.0, 0.0)
    points = wp.vec3(0.0, 0.0, 0.0)
    for sample in range(samples * samples):
        y = row * samples + sample // samples
        x = column * samples + sample % samples
        face = int(face_id[image, y, x])
        if face >= 0:
            normal, point = seen_surface(face, y, x, k, r, t, vertices, faces, normals)
            light += light_of(point, normal, image, positions, strengths, surface[image], sky[image])
            hits += 1.0
            depths += point[2]
            turned += normal
            points += point - t
    if hits > 0.0:
        share = 1.0 / float(samples * samples)
        intensity[image, row, column] = light * share
        coverage[image, row, column] = hits * share
        depth[image, row, column] = depths / hits
        normal_map[image, row, column] = turned * share
        position_map[image, row, column] = wp.transpose(r) * (points * share)


@torch.no_grad()
def shade(
    face_id: Tensor,
    meshes: PackedMeshes,
    rotation: Tensor,
    translation: Tensor,
    camera: Tensor,
    lighting: Lighting,
    samples: int = 1,
) -> ShadedImages:
    """Flat-shaded light: ambient + sky + Σ strength·((1 − m)·max(0, N·L) + specular·max(0, N·H)^shininess) + mirror.

    Clipped to 1 a sample. A light behind the surface gives neither diffuse light nor a highlight. Crevices are darkened
    afterwards.

    Args:
        face_id: ``(B, s·H, s·W)`` from a rasteriser.
        meshes: the pack.
        rotation: ``(B, 3, 3)``.
        translation: ``(B, 3)``.
        camera: ``(B, 3, 3)`` or ``(3, 3)``, of ``face_id``.
        lighting: of the B images.
        samples: s; every pixel of the result is the mean of s×s of ``face_id``.
    """
    batch, size = face_id.shape[0], (face_id.shape[1] // samples, face_id.shape[2] // samples)
    intensity, coverage, depth = torch.zeros(3, batch, *size, device=face_id.device)
    normals, model_points = torch.zeros(2, batch, *size, 3, device=face_id.device)
    if face_id.numel() == 0:
        return ShadedImages(intensity, coverage, depth, normals, model_points)
    wp.launch(
        _shade_pixels,
        dim=(batch, *size),
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
            to_warp(surface_of(lighting).float(), wp.vec4),
            to_warp(lighting.sky.float(), wp.vec3),
            samples,
            to_warp(intensity, wp.float32),
            to_warp(coverage, wp.float32),
            to_warp(depth, wp.float32),
            to_warp(normals, wp.vec3),
            to_warp(model_points, wp.vec3),
        ],
        **launch_arguments(face_id.device),
    )
    return ShadedImages(intensity * _openness(depth, lighting.crevice), coverage, depth, normals, model_points)


def crevice_step(width: int) -> int:
    """Pixels averaged before crevices are looked for in images of a width.

    The neighbourhood is an eighth of the image wide; a quarter of its resolution is plenty.
    """
    return max(width // 32, 1)


def _openness(depth: Tensor, strength: Tensor) -> Tensor:
    """Factor in [0, 1], below 1 where the surroundings lie nearer to the camera (unsharp mask, Luft et al. 2006)."""
    if not bool((strength > 0).any()):
        return torch.ones_like(depth)
    step = crevice_step(depth.shape[-1])
    layers = torch.stack([depth, (depth > 0).float()], dim=1)
    coarse = F.avg_pool2d(F.avg_pool2d(layers, step), 5, stride=1, padding=2)
    mean = F.interpolate(coarse[:, :1] / coarse[:, 1:].clamp(min=1e-6), depth.shape[-2:], mode="bilinear")[:, 0]
    behind = (depth - mean).clamp(min=0)
    # A flat face has no crevices; rounding must not be taken for some.
    scale = torch.maximum(behind.amax(dim=(1, 2), keepdim=True), 1e-3 * depth.amax(dim=(1, 2), keepdim=True))
    return 1.0 - strength[:, None, None] * behind / scale
