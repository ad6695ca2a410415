"""Renders of hypotheses on a CPU: one kernel from faces to the refiner's input, an image after the other.

The same as ``WarpRasterizer``, ``shade`` and the scaling of ``hypotheses.py`` one after the other, in the processor's
cache: depth, positions and coverage, which no refiner sees, are never written. A GPU wants a thread a pixel instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.rendering.rasterizer import PackedMeshes
from shared_pose_ros.rendering.shading import Lighting, crevice_step, light_of, seen_surface, surface_of
from shared_pose_ros.rendering.warp_rasterizer import (
    EMPTY,
    launch_arguments,
    mesh_arrays,
    rasterize_range,
    to_warp,
    wp,
)

_NOTHING = wp.constant(wp.int64(EMPTY))


@wp.func
def _show_faces(
    image: int,
    k: wp.mat33,
    r: wp.mat33,
    t: wp.vec3,
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    positions: wp.array2d(dtype=wp.vec3),
    strengths: wp.array2d(dtype=wp.float32),
    surface: wp.vec4,
    sky: wp.vec3,
    key: wp.array3d(dtype=wp.int64),
    depth: wp.array3d(dtype=wp.float32),
    shown: wp.array3d(dtype=wp.vec4),
):
    """Light and normal of every pixel, and its depth; returns the greatest depth."""
    farthest = float(0.0)
    for y in range(key.shape[1]):
        for x in range(key.shape[2]):
            z = float(0.0)
            seen = wp.vec4(0.0, 0.0, 0.0, 0.0)
            if key[image, y, x] != _NOTHING:
                face = int(key[image, y, x] & wp.int64(0xFFFFFFFF))
                normal, point = seen_surface(face, y, x, k, r, t, vertices, faces, normals)
                z = point[2]
                light = light_of(point, normal, image, positions, strengths, surface, sky)
                seen = wp.vec4(light, normal[0], normal[1], normal[2])
            depth[image, y, x] = z
            shown[image, y, x] = seen
            farthest = wp.max(farthest, z)
    return farthest


@wp.func
def _average_depths(
    image: int,
    step: int,
    depth: wp.array3d(dtype=wp.float32),
    cells: wp.array3d(dtype=wp.vec2),
    lines: wp.array3d(dtype=wp.vec2),
    means: wp.array3d(dtype=wp.float32),
):
    """Mean depth of what is hit in 5×5 cells of ``step``² pixels, see ``shading._openness``."""
    rows = cells.shape[1]
    columns = cells.shape[2]
    for i in range(rows):
        for j in range(columns):
            total = wp.vec2(0.0, 0.0)
            for sample in range(step * step):
                z = depth[image, i * step + sample // step, j * step + sample % step]
                total += wp.vec2(z, wp.where(z > 0.0, 1.0, 0.0))
            cells[image, i, j] = total
    # Along the columns from cells to lines, then along the rows.
    for i in range(rows):
        for j in range(columns):
            total = wp.vec2(0.0, 0.0)
            for x in range(wp.max(j - 2, 0), wp.min(j + 3, columns)):
                total += cells[image, i, x]
            lines[image, i, j] = total
    for i in range(rows):
        for j in range(columns):
            total = wp.vec2(0.0, 0.0)
            for y in range(wp.max(i - 2, 0), wp.min(i + 3, rows)):
                total += lines[image, y, j]
            means[image, i, j] = wp.where(total[1] > 0.0, total[0] / total[1], 0.0)


@wp.func
def _between(image: int, y: float, x: float, means: wp.array3d(dtype=wp.float32)):
    """Bilinear, as ``torch.nn.functional.interpolate`` has it; y and x ≥ 0."""
    i = int(y)
    j = int(x)
    below = wp.min(i + 1, means.shape[1] - 1)
    right = wp.min(j + 1, means.shape[2] - 1)
    v = y - float(i)
    u = x - float(j)
    top = (1.0 - u) * means[image, i, j] + u * means[image, i, right]
    return (1.0 - v) * top + v * ((1.0 - u) * means[image, below, j] + u * means[image, below, right])


@wp.kernel
def _draw(
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    opaque_from: wp.array(dtype=wp.float32),
    face_offsets: wp.array(dtype=wp.int32),
    object_index: wp.array(dtype=wp.int64),
    rotation: wp.array(dtype=wp.mat33),
    translation: wp.array(dtype=wp.vec3),
    camera: wp.array(dtype=wp.mat33),
    positions: wp.array2d(dtype=wp.vec3),
    strengths: wp.array2d(dtype=wp.float32),
    surface: wp.array(dtype=wp.vec4),
    sky: wp.array(dtype=wp.vec3),
    crevice: wp.array(dtype=wp.float32),
    least: float,
    step: int,
    key: wp.array3d(dtype=wp.int64),
    depth: wp.array3d(dtype=wp.float32),
    cells: wp.array3d(dtype=wp.vec2),
    lines: wp.array3d(dtype=wp.vec2),
    means: wp.array3d(dtype=wp.float32),
    shown: wp.array3d(dtype=wp.vec4),
):
    image = wp.tid()
    index = int(object_index[image])
    r = rotation[image]
    t = translation[image]
    k = camera[image]
    height = key.shape[1]
    width = key.shape[2]
    for y in range(height):
        for x in range(width):
            key[image, y, x] = _NOTHING
    first = face_offsets[index]
    last = face_offsets[index + 1]
    rasterize_range(image, first, last, vertices, faces, normals, opaque_from[index], r, t, k, key)
    farthest = _show_faces(
        image, k, r, t, vertices, faces, normals, positions, strengths, surface[image], sky[image], key, depth, shown
    )
    _average_depths(image, step, depth, cells, lines, means)
    # How far each pixel lies behind its surroundings takes the place of its depth, which is no longer needed.
    greatest = float(0.0)
    for y in range(height):
        row = wp.max((float(y) + 0.5) / float(step) - 0.5, 0.0)
        for x in range(width):
            behind = float(0.0)
            if depth[image, y, x] > 0.0:
                column = wp.max((float(x) + 0.5) / float(step) - 0.5, 0.0)
                behind = wp.max(depth[image, y, x] - _between(image, row, column, means), 0.0)
            depth[image, y, x] = behind
            greatest = wp.max(greatest, behind)
    darkening = crevice[image] / wp.max(wp.max(greatest, 1.0e-3 * farthest), 1.0e-20)
    brightest = float(0.0)
    for y in range(height):
        for x in range(width):
            brightest = wp.max(brightest, shown[image, y, x][0] * (1.0 - darkening * depth[image, y, x]))
    scale = 1.0 / wp.max(brightest, least)
    for y in range(height):
        for x in range(width):
            seen = shown[image, y, x]
            light = seen[0] * (1.0 - darkening * depth[image, y, x]) * scale
            shown[image, y, x] = wp.vec4(light, seen[1], seen[2], seen[3])


@torch.no_grad()
def draw_hypotheses(
    meshes: PackedMeshes,
    object_index: Tensor,
    rotations: Tensor,
    translations: Tensor,
    cameras: Tensor,
    lighting: Lighting,
    size: int,
    least: float,
) -> Tensor:
    """Light, its greatest 1, and normals of H hypotheses, ``(H, 4, S, S)`` with channels last.

    Args:
        meshes: the pack, on the CPU.
        object_index: ``(H,)`` int64.
        rotations: ``(H, 3, 3)`` float32.
        translations: ``(H, 3)``.
        cameras: ``(H, 3, 3)``.
        lighting: of H images.
        size: S in pixels.
        least: light that counts as the greatest where all is darker.
    """
    count, step = len(object_index), crevice_step(size)
    shown = torch.empty(count, size, size, 4)
    coarse = (count, size // step, size // step)
    wp.launch(
        _draw,
        dim=count,
        inputs=[
            *mesh_arrays(meshes),
            to_warp(object_index, wp.int64),
            to_warp(rotations, wp.mat33),
            to_warp(translations, wp.vec3),
            to_warp(cameras, wp.mat33),
            to_warp(lighting.positions, wp.vec3),
            to_warp(lighting.strengths, wp.float32),
            to_warp(surface_of(lighting), wp.vec4),
            to_warp(lighting.sky, wp.vec3),
            to_warp(lighting.crevice, wp.float32),
            least,
            step,
            to_warp(torch.empty(count, size, size, dtype=torch.int64), wp.int64),
            to_warp(torch.empty(count, size, size), wp.float32),
            to_warp(torch.empty(*coarse, 2), wp.vec2),
            to_warp(torch.empty(*coarse, 2), wp.vec2),
            to_warp(torch.empty(*coarse), wp.float32),
            to_warp(shown, wp.vec4),
        ],
        **launch_arguments(shown.device),
    )
    return shown.permute(0, 3, 1, 2)
