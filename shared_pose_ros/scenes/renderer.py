"""Images of a clutter scene as a camera would take them: soft shadows, daylight, metal and plastic, a sensor.

Nothing here is shared with training's shading. Light comes from a few area lights and from a bright dome, each
sampled by points; a shadow map per point, drawn with the same rasteriser, tells which surface it reaches.

Convention: metres, world frame with z up and the ground at z = 0; camera frames are OpenCV's, x_cam = R x_world + t;
colours are linear light until ``develop``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_pose_ros.rendering.depth import pixel_rays, plane_depth
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer, pack_meshes
from shared_pose_ros.scenes.textures import TEXTURE_SIDE, Ground, srgb

_SHADOW_SIZE = 512
_SHADOW_RADIUS = 0.42  # the heap and its tray lie within this distance of the origin
_SHADOW_OFFSET = 0.002  # receivers are moved off their surface by about a texel
_CREASE = np.cos(np.radians(40.0))  # edges sharper than this stay sharp
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Material:
    """Surface of one body: linear colour ``(3,)``, metallic share 0…1, specular weight, exponent, grain."""

    colour: np.ndarray
    metallic: float
    specular: float
    shininess: float
    grain: float


@dataclass(frozen=True)
class Lights:
    """Point samples of the lights.

    Attributes:
        positions: ``(L, S, 3)`` world, S samples of each of L area lights.
        colours: ``(L, 3)`` light that a surface facing it at the origin receives.
        dome: ``(D, 3)`` far points of the dome.
        dome_colours: ``(D, 3)``.
    """

    positions: Tensor
    colours: Tensor
    dome: Tensor
    dome_colours: Tensor


@dataclass(frozen=True)
class Sensor:
    """How it is taken: light of the median pixel, blur (pixels), noise of bright and of black pixels, vignette."""

    brightness: float
    blur: float
    shot_noise: float
    read_noise: float
    vignette: float


@dataclass(frozen=True)
class Body:
    """A mesh in the world: vertices ``(V, 3)`` metres, faces ``(F, 3)``, and what it is made of."""

    vertices: np.ndarray
    faces: np.ndarray
    material: Material


class Studio:
    """A lit scene, ready to be photographed from anywhere.

    Args:
        bodies: the parts, then anything else that stands there.
        ground: the table.
        lights: as sampled.
        rasterizer: the backend.
    """

    def __init__(self, bodies: Sequence[Body], ground: Ground, lights: Lights, rasterizer: Rasterizer) -> None:
        self.bodies, self.ground, self.lights, self.rasterizer = bodies, ground, lights, rasterizer
        starts = np.cumsum([0] + [len(body.vertices) for body in bodies])
        faces = np.concatenate([body.faces + start for body, start in zip(bodies, starts)])
        self.meshes: PackedMeshes = pack_meshes([(np.concatenate([b.vertices for b in bodies]), faces)])
        self.body_of_face = torch.from_numpy(np.repeat(np.arange(len(bodies)), [len(b.faces) for b in bodies]))
        self._texture = torch.from_numpy(np.ascontiguousarray(ground.texture)).permute(2, 0, 1)[None]
        self._separate = pack_meshes([(body.vertices, body.faces) for body in bodies])
        self._lamps = torch.cat([lights.positions.reshape(-1, 3), lights.dome])
        self._shadow_views = [look_at(point, torch.zeros(3)) for point in self._lamps]
        distance = self._lamps.norm(dim=-1)
        self._shadow_focal = (_SHADOW_SIZE / 2 - 2) / torch.tan(torch.asin((_SHADOW_RADIUS / distance).clamp(max=0.9)))

    def see(
        self, rotation: Tensor, translation: Tensor, camera: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What is seen in each pixel.

        Args:
            rotation: world to camera ``(3, 3)``.
            translation: ``(3,)``.
            camera: K ``(3, 3)``.
            size: (height, width).

        Returns:
            Faces ``(H, W)`` int64 of ``meshes`` (−1: the ground) and depth ``(H, W)``, metres.
        """
        zero = torch.zeros(1, dtype=torch.int64)
        pose = rotation[None].float(), translation[None].float()
        face = self.rasterizer.rasterize(self.meshes, zero, *pose, camera.float(), size)
        depth = plane_depth(face, self.meshes, *pose, camera.float())[0]
        rays = pixel_rays(camera.float(), size)[0]
        return face[0], torch.where(face[0] >= 0, depth, _ground_depth(rays, rotation, translation))

    def silhouettes(
        self, count: int, rotation: Tensor, translation: Tensor, camera: Tensor, size: tuple[int, int]
    ) -> np.ndarray:
        """Pixels ``(count, H, W)`` bool of the first bodies, each as if alone; other arguments as of ``see``."""
        poses = rotation.float().expand(count, 3, 3), translation.float().expand(count, 3)
        face = self.rasterizer.rasterize(self._separate, torch.arange(count), *poses, camera.float(), size)
        return (face >= 0).numpy()

    def photograph(self, rotation: Tensor, translation: Tensor, camera: Tensor, size: tuple[int, int]) -> Tensor:
        """Linear light ``(H, W, 3)``, averaged from ``SUPERSAMPLE``² samples per pixel; arguments as of ``see``."""
        fine = camera.clone().float()
        fine[:2] *= SUPERSAMPLE
        fine[:2, 2] += (SUPERSAMPLE - 1) / 2  # pixel centres are at integers
        fine_size = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
        face, depth = self.see(rotation, translation, fine, fine_size)
        points = (pixel_rays(fine, fine_size)[0] * depth[..., None] - translation.float()) @ rotation.float()
        eye = -(rotation.T @ translation).float()
        hit = face >= 0
        light = torch.empty(*fine_size, 3)
        light[hit] = self._shade_bodies(face[hit], points[hit], eye)
        # The light on the ground changes slowly: one sample per pixel. Its texture does not.
        rays = pixel_rays(camera.float(), size)[0]
        below = (rays * _ground_depth(rays, rotation, translation)[..., None] - translation.float()) @ rotation.float()
        shade = self._shade_ground(below.reshape(-1, 3), eye).reshape(*size, 6)
        spread = shade.repeat_interleave(SUPERSAMPLE, 0).repeat_interleave(SUPERSAMPLE, 1)[~hit]
        light[~hit] = spread[:, :3] * self._ground_colour(points[~hit]) + spread[:, 3:]
        return F.avg_pool2d(light.permute(2, 0, 1)[None], SUPERSAMPLE)[0].permute(1, 2, 0)

    def _shade_bodies(self, face: Tensor, points: Tensor, eye: Tensor) -> Tensor:
        """Light ``(P, 3)`` that surface points of the bodies send to the eye."""
        kinds = [body.material for body in self.bodies]
        table = [[*m.colour, m.metallic, m.specular, m.shininess, m.grain] for m in kinds]
        values = torch.tensor(table, dtype=torch.float32)[self.body_of_face[face]]
        colour = values[:, :3] * (1 + values[:, 6:] * self._grain(points))
        metallic, specular, shininess = values[:, 3:4], values[:, 4:5], values[:, 5:6]
        view = F.normalize(eye - points, dim=-1)
        flat = self.meshes.normals[face]
        # The side that is seen is the front.
        front = torch.where((flat * view).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        normals = self._smooth_normals(face, points) * front
        direct, sky, highlight = self._incoming(points, normals, flat * front, view, shininess)
        # A mirror-like surface shows the dome above as far as it is open: bright where it reflects upwards.
        mirrored = 2 * (normals * view).sum(-1, keepdim=True) * normals - view
        openness = sky.mean(-1, keepdim=True) / self.lights.dome_colours.mean(-1).sum().clamp(min=1e-6)
        reflection = (0.25 + 0.75 * (0.5 + 0.5 * mirrored[:, 2:]) ** 2) * openness * 2.2
        rim = 0.04 + 0.5 * (1 - (normals * view).sum(-1, keepdim=True).clamp(0, 1)) ** 5 * specular
        dome = self.lights.dome_colours.sum(0)
        body = colour * ((1 - 0.65 * metallic) * (direct + sky) + metallic * reflection * dome)
        return body + (specular * highlight + rim * reflection) * (1 - metallic * (1 - colour))

    def _shade_ground(self, points: Tensor, eye: Tensor) -> Tensor:
        """For points of the ground the light on it, and the highlight it sends to the eye: ``(P, 6)``."""
        up = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
        shininess = torch.full((len(points), 1), self.ground.shininess)
        direct, sky, highlight = self._incoming(points, up, up, F.normalize(eye - points, dim=-1), shininess)
        return torch.cat([direct + sky, self.ground.specular * highlight], dim=1)

    def _incoming(
        self, points: Tensor, normals: Tensor, flat: Tensor, view: Tensor, shininess: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Light of the lamps, light of the dome and highlights of the lamps (Blinn-Phong), each ``(P, 3)``."""
        direct, sky, highlight = (torch.zeros_like(points) for _ in range(3))
        # A shift along the surface turns the steps between a lamp's samples into fine grain.
        grain = torch.rand(points.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        grain -= (grain * flat).sum(-1, keepdim=True) * flat
        receivers = points + _SHADOW_OFFSET * (flat + grain)
        count = self.lights.positions.shape[1]
        for number, (samples, light) in enumerate(zip(self.lights.positions, self.lights.colours)):
            reached = [self._reached(receivers, number * count + i) for i in range(count)]
            lit = sum(reached[1:], reached[0]) / count
            middle = samples.mean(dim=0)
            towards = middle - points
            distance = towards.norm(dim=-1, keepdim=True)
            towards = towards / distance
            received = (middle.norm() / distance) ** 2 * lit[:, None] * light
            facing = (normals * towards).sum(-1, keepdim=True).clamp(min=0)
            direct += received * facing
            glance = (normals * F.normalize(towards + view, dim=-1)).sum(-1, keepdim=True).clamp(min=0)
            highlight += received * (facing > 0) * glance**shininess
        first = self.lights.positions.shape[0] * count
        for number, (point, light) in enumerate(zip(self.lights.dome, self.lights.dome_colours)):
            facing = (normals @ F.normalize(point, dim=0)).clamp(min=0)
            sky += (facing * self._reached(receivers, first + number))[:, None] * light
        return direct, sky, highlight

    def _ground_colour(self, points: Tensor) -> Tensor:
        place = (points[:, :2] * (2 / TEXTURE_SIDE))[None, :, None]
        sampled = F.grid_sample(self._texture, place, padding_mode="reflection", align_corners=False)
        return sampled[0, :, :, 0].T

    def _grain(self, points: Tensor) -> Tensor:
        """A grain that sticks to the surface ``(P, 1)``: the ground's texture as noise, read off from three sides."""
        noise = self._texture[:, :1] / self._texture[:, :1].mean() - 1
        sides = [(points[:, list(axes)] * 1.7)[None, :, None] for axes in ((0, 1), (1, 2), (2, 0))]
        layers = [F.grid_sample(noise, side, padding_mode="reflection", align_corners=False) for side in sides]
        return sum(layers[1:], layers[0])[0, 0]

    def _smooth_normals(self, face: Tensor, points: Tensor) -> Tensor:
        corners = self.meshes.vertices[self.meshes.faces[face].long()]
        area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        squared = (area * area).sum(-1, keepdim=True).clamp(min=1e-20)
        weights = []
        for i in range(3):
            opposite = torch.linalg.cross(corners[:, (i + 1) % 3] - points, corners[:, (i + 2) % 3] - points)
            weights.append((opposite * area).sum(-1, keepdim=True) / squared)
        share = torch.cat(weights, dim=1).clamp(0, 1)
        return F.normalize((self._normals[face] * share[..., None]).sum(1), dim=-1)

    @functools.cached_property
    def _normals(self) -> Tensor:
        """Normals at the faces' corners, made when first needed: most heaps are looked at and not photographed."""
        return torch.cat([corner_normals(body.vertices, body.faces) for body in self.bodies])

    @functools.cached_property
    def _shadow_maps(self) -> Tensor:
        """Nearest depth as each sample of a light sees it ``(samples, pixels)``, drawn when first needed."""
        maps = []
        for start in range(0, len(self._lamps), 16):
            views = self._shadow_views[start : start + 16]
            rotation, translation = torch.stack([r for r, _ in views]), torch.stack([t for _, t in views])
            camera = torch.zeros(len(views), 3, 3)
            camera[:, 0, 0] = camera[:, 1, 1] = self._shadow_focal[start : start + 16]
            camera[:, :2, 2] = (_SHADOW_SIZE - 1) / 2
            camera[:, 2, 2] = 1
            zeros = torch.zeros(len(views), dtype=torch.int64)
            size = _SHADOW_SIZE, _SHADOW_SIZE
            face = self.rasterizer.rasterize(self.meshes, zeros, rotation, translation, camera, size)
            depth = plane_depth(face, self.meshes, rotation, translation, camera)
            maps.append(torch.where(depth > 0, depth, torch.inf).reshape(len(views), -1))
        return torch.cat(maps)

    def _reached(self, points: Tensor, sample: int) -> Tensor:
        """1 where a light's sample reaches the points ``(P, 3)``, 0 in its shadow."""
        rotation, translation = self._shadow_views[sample]
        x, y, z = (rotation @ points.T + translation[:, None]).unbind(0)
        scale = self._shadow_focal[sample] / z
        middle = (_SHADOW_SIZE - 1) / 2
        column = (x * scale + middle).round().long()
        row = (y * scale + middle).round().long()
        inside = (column >= 0) & (column < _SHADOW_SIZE) & (row >= 0) & (row < _SHADOW_SIZE) & (z > 0)
        nearest = self._shadow_maps[sample][torch.where(inside, row * _SHADOW_SIZE + column, 0)]
        return ((nearest > z) | ~inside).float()


def _ground_depth(rays: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """Depth ``(H, W)`` of the ground along rays ``(H, W, 3)`` of a camera above it that does not see the horizon."""
    down = (rays @ rotation.float())[..., 2]
    height = -(rotation.T @ translation)[2].float()
    return height / (-down).clamp(min=1e-3)


def look_at(eye: Tensor, target: Tensor, roll: float = 0.0) -> tuple[Tensor, Tensor]:
    """World to camera (R ``(3, 3)``, t ``(3,)``) for a camera at ``eye`` looking at ``target``; ``roll`` in radians."""
    forward = F.normalize(target - eye, dim=0)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=eye.dtype)
    if forward[2].abs() > 0.999:
        up = torch.tensor([0.0, 1.0, 0.0], dtype=eye.dtype)
    right = F.normalize(torch.linalg.cross(forward, up), dim=0)
    down = torch.linalg.cross(forward, right)
    rotated = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    rotation = torch.stack([*rotated, forward])
    return rotation, -rotation @ eye


def corner_normals(vertices: np.ndarray, faces: np.ndarray) -> Tensor:
    """Normals at the faces' corners ``(F, 3, 3)``: mean over the faces that meet there and turn by less than 40°.

    Vertices at the same place count as one, as STL files and split edges need it.
    """
    corners = vertices[faces].astype(np.float64)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-20)
    _, place = np.unique(np.round(vertices, 7), axis=0, return_inverse=True)
    at = place.reshape(-1)[faces]
    order = np.argsort(at.ravel(), kind="stable")
    bounds = np.searchsorted(at.ravel()[order], np.arange(at.max() + 2))
    result = np.empty((len(faces), 3, 3))
    for number in range(at.max() + 1):
        own = order[bounds[number] : bounds[number + 1]]
        meeting = own // 3
        alike = normal[meeting] @ normal[meeting].T > _CREASE
        result.reshape(-1, 3)[own] = alike @ area[meeting]
    length = np.linalg.norm(result, axis=-1, keepdims=True)
    return torch.from_numpy(np.where(length > 1e-20, result / np.maximum(length, 1e-20), normal[:, None])).float()


def develop(light: Tensor, sensor: Sensor, generator: np.random.Generator) -> np.ndarray:
    """Turn linear light ``(H, W, 3)`` into an image ``(H, W, 3)`` uint8 RGB: exposure, lens, noise, sRGB."""
    grey = light.mean(-1)
    # Bright parts on a dark ground: the exposure spares them, as a camera's automatic does.
    gain = min(sensor.brightness / max(float(grey.median()), 1e-6), 0.7 / max(float(grey.quantile(0.98)), 1e-6))
    picture = light.numpy() * gain
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    radius = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
    picture = picture * (1 - sensor.vignette * radius)[..., None]
    # Highlights roll off instead of clipping hard.
    picture = np.where(picture < 0.7, picture, 0.7 + 0.3 * (1 - np.exp(-(picture - 0.7) / 0.3)))
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sensor.blur)
    deviation = np.sqrt(sensor.shot_noise**2 * np.clip(picture, 0, None) + sensor.read_noise**2)
    noise = generator.normal(0, 1, picture.shape).astype(np.float32)
    # Demosaicing ties neighbouring pixels together.
    picture = picture + deviation * cv2.GaussianBlur(noise, (0, 0), 0.6) * 1.7
    return np.round(srgb(picture) * 255).astype(np.uint8)
