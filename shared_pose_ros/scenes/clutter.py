"""Cluttered scenes of an object set with ground truth, for demonstration and evaluation, never for training.

Parts on top of each other on a table, each scene photographed from several places by a camera that looks down at them.
Layout, light, materials, grounds, sensor and seeds are independent of training's synthesis.

Convention: metres; R_m2c in the OpenCV camera frame; boxes (cx, cy, w, h) of the visible pixels, pixel centres at
integers; images ``(H, W, 3)`` uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.geometry.boxes import box_from_mask
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.scenes.layout import PlacedPart, SceneBuilder, Tray
from shared_pose_ros.scenes.renderer import Body, Lights, Material, Sensor, Studio, develop, look_at
from shared_pose_ros.scenes.textures import GROUNDS, linear

_BORDER = 4  # pixels that parts keep from the image's edge
_ATTEMPTS = 30  # at a view
_HEAPS_TRIED = 10


@dataclass(frozen=True)
class SceneSettings:
    """What scenes are drawn; ranges are (low, high), uniform.

    Attributes:
        scenes: number of scenes.
        views: images of each.
        parts: parts in a scene; fewer where no views would show them all.
        radius: parts are let down within this distance of the heap's middle, metres.
        size: (height, width) of the images.
        camera: fx, fy, cx, cy in pixels.
        distance: camera to the heap's middle, metres.
        elevation: of the camera above the table, degrees.
        visibility: views in which a part shows less than the first fraction, or more than a fifth of the parts less
            than the second, are not taken.
        tray: probability that the scene lies in a tray.
        light_samples: samples of each area light, and of the dome.
        seed: of everything.
    """

    scenes: int = 15
    views: int = 4
    parts: tuple[int, int] = (6, 10)
    radius: float = 0.115
    size: tuple[int, int] = (480, 640)
    camera: tuple[float, float, float, float] = (611.4, 611.9, 321.7, 238.2)
    distance: tuple[float, float] = (0.5, 0.7)
    elevation: tuple[float, float] = (33.0, 75.0)
    visibility: tuple[float, float] = (0.25, 0.5)
    tray: float = 0.35
    light_samples: tuple[int, int] = (9, 24)
    seed: int = 20260731


@dataclass(frozen=True)
class SceneFrame:
    """One image of a scene with everything known about it.

    Attributes:
        scene_id: number of the scene.
        image_id: number of the view in the scene.
        image: ``(H, W, 3)`` uint8 RGB.
        depth: ``(H, W)`` float32 metres, of parts, tray and table.
        camera: K ``(3, 3)`` float64.
        instances: the parts; gt_id is the same for a part in all views of a scene.
        silhouettes: ``(N, H, W)`` bool, each part as if it were alone.
        masks: ``(N, H, W)`` bool, its visible pixels.
    """

    scene_id: int
    image_id: int
    image: np.ndarray
    depth: np.ndarray
    camera: np.ndarray
    instances: tuple[Instance, ...]
    silhouettes: np.ndarray
    masks: np.ndarray


def generate_frames(objects: ObjectSet, settings: SceneSettings) -> Iterator[SceneFrame]:
    """All frames, scene by scene; the same for the same objects and settings.

    Raises:
        ValueError: no views keep even one part in the image and visible; the message says what to change.
    """
    rasterizer = make_rasterizer()
    builder = SceneBuilder(objects, radius=settings.radius)
    classes = _class_sequence(len(objects), np.random.default_rng([settings.seed, 1]))
    for scene in range(settings.scenes):
        # Every scene has its own generator, so that one can be changed without the others.
        generator = np.random.default_rng([settings.seed, 2, scene])
        chosen = [next(classes) for _ in range(generator.integers(settings.parts[0], settings.parts[1] + 1))]
        tray = Tray(half_width=0.21) if generator.random() < settings.tray else None
        ground = list(GROUNDS.values())[scene % len(GROUNDS)](generator)
        dice = torch.Generator().manual_seed(int(generator.integers(2**31)))
        lights = _draw_lights(settings.light_samples, generator)
        views = None
        # Where a large part hides the small ones however they are heaped, a smaller heap must do.
        for count in _part_counts(len(chosen)):
            parts = builder.build(chosen[:count], dice, tray)
            studio = Studio(_bodies(objects, parts, tray, generator), ground, lights, rasterizer)
            views = _choose_views(objects, parts, studio, settings, generator)
            if views is not None:
                break
        if views is None:
            raise ValueError(
                f"scene {scene}: no view shows even one part whole; take a greater distance or a lower visibility"
            )
        for number, view in enumerate(views):
            light = studio.photograph(*view.pose, torch.from_numpy(_camera_matrix(settings)), settings.size)
            image = develop(light, _draw_sensor(generator), generator)
            known = view.depth, _camera_matrix(settings), view.instances, view.silhouettes, view.masks
            yield SceneFrame(scene, number, image, *known)


@dataclass(frozen=True)
class _View:
    """A camera's pose (world to camera) and what it sees, as in ``SceneFrame``."""

    pose: tuple[torch.Tensor, torch.Tensor]
    depth: np.ndarray
    instances: tuple[Instance, ...]
    silhouettes: np.ndarray
    masks: np.ndarray


def _part_counts(wanted: int) -> Iterator[int]:
    """Sizes of the heaps to try: as wanted many times, then ever smaller ones a few times each."""
    yield from [wanted] * _HEAPS_TRIED
    while wanted > 1:
        wanted = (2 * wanted) // 3
        yield from [wanted] * 3


def _choose_views(
    objects: ObjectSet,
    parts: Sequence[PlacedPart],
    studio: Studio,
    settings: SceneSettings,
    generator: np.random.Generator,
) -> list[_View] | None:
    """Good views from all around the heap, None if some side has none."""
    middle = np.mean([studio.bodies[i].vertices.mean(axis=0) for i in range(len(parts))], axis=0)
    start = generator.uniform(0, 2 * math.pi)
    views: list[_View] = []
    for number in range(settings.views):
        for attempt in range(_ATTEMPTS):
            # The camera goes around the heap, a good way from one view to the next.
            azimuth = start + 2 * math.pi * (number + generator.uniform(-0.3, 0.3)) / settings.views
            pose = _camera_pose(middle, azimuth, attempt / _ATTEMPTS, settings, generator)
            view = _look(objects, parts, studio, pose, settings)
            if view is not None:
                views.append(view)
                break
        else:
            return None
    return views


def _camera_matrix(settings: SceneSettings) -> np.ndarray:
    fx, fy, cx, cy = settings.camera
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


def _camera_pose(
    middle: np.ndarray, azimuth: float, patience: float, settings: SceneSettings, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """World to camera; the longer no view is found (patience 0…1), the farther away and steeper."""
    low, high = settings.distance
    distance = generator.uniform(low + (high - low) * patience, high)
    low, high = settings.elevation
    elevation = math.radians(generator.uniform(low + (high - low) * patience, high))
    target = middle + generator.normal(0, 0.012, 3)
    direction = [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)]
    eye = torch.from_numpy(target + distance * np.array(direction))
    return look_at(eye, torch.from_numpy(target), math.radians(generator.normal(0, 6)))


def _look(
    objects: ObjectSet,
    parts: Sequence[PlacedPart],
    studio: Studio,
    pose: tuple[torch.Tensor, torch.Tensor],
    settings: SceneSettings,
) -> _View | None:
    """What a camera sees; None if a part is cut off or too much is hidden."""
    rotation, translation = pose
    height, width = settings.size
    k = torch.from_numpy(_camera_matrix(settings))
    bodies = studio.bodies[: len(parts)]
    projected = [(torch.from_numpy(b.vertices).double() @ rotation.T + translation) @ k.T for b in bodies]
    pixels = torch.cat([p[:, :2] / p[:, 2:] for p in projected])
    limit = torch.tensor([width - 1 - _BORDER, height - 1 - _BORDER])
    if bool((pixels < _BORDER).any() or (pixels > limit).any()):
        return None
    face, depth = studio.see(rotation, translation, k, settings.size)
    owner = torch.where(face >= 0, studio.body_of_face[face.clamp(min=0)], -1).numpy()
    masks = np.stack([owner == number for number in range(len(parts))])
    silhouettes = studio.silhouettes(len(parts), rotation, translation, k, settings.size)
    visible = masks.sum(axis=(1, 2)) / np.maximum(silhouettes.sum(axis=(1, 2)), 1)
    if visible.min() < settings.visibility[0] or (visible < settings.visibility[1]).mean() > 0.2:
        return None
    r, t = rotation.double().numpy(), translation.double().numpy()
    instances = tuple(
        Instance(
            class_id=objects[part.object_index].class_id,
            gt_id=number,
            rotation=r @ part.rotation,
            translation=r @ part.translation + t,
            visibility=float(visible[number]),
            box=box_from_mask(masks[number]),
        )
        for number, part in enumerate(parts)
    )
    return _View(pose, depth.numpy().astype(np.float32), instances, silhouettes, masks)


def _class_sequence(count: int, generator: np.random.Generator) -> Iterator[int]:
    """Object indices without end: every class once in random order, then again, so that all come equally often."""
    while True:
        yield from generator.permutation(count).tolist()


def _bodies(
    objects: ObjectSet, parts: Sequence[PlacedPart], tray: Tray | None, generator: np.random.Generator
) -> list[Body]:
    bodies = []
    for part in parts:
        mesh = objects[part.object_index].mesh
        vertices = mesh.vertices.astype(np.float64) @ part.rotation.T + part.translation
        bodies.append(Body(vertices, mesh.faces, _draw_material(generator)))
    if tray is not None:
        colour = linear(np.array([(0.20, 0.32, 0.52), (0.45, 0.46, 0.48), (0.62, 0.25, 0.2)][generator.integers(3)]))
        bodies.append(Body(*_tray_mesh(tray), Material(colour, 0.0, 0.25, 20.0, 0.05)))
    return bodies


def _tray_mesh(tray: Tray) -> tuple[np.ndarray, np.ndarray]:
    """Four walls as boxes."""
    inner, outer = tray.half_width, tray.half_width + tray.thickness
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads], dtype=np.int32)
    vertices: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    for low, high in (
        ((-outer, -outer), (outer, -inner)),
        ((-outer, inner), (outer, outer)),
        ((-outer, -inner), (-inner, inner)),
        ((inner, -inner), (outer, inner)),
    ):
        faces.append(triangles + 8 * len(vertices))
        vertices.append(np.array([*low, 0.0]) + corners * (np.array([*high, tray.height]) - np.array([*low, 0.0])))
    return np.concatenate(vertices), np.concatenate(faces)


def _draw_material(generator: np.random.Generator) -> Material:
    """Machined steel, cast aluminium, zinc, off-white or grey plastic, with a light tint."""
    kind = generator.integers(5)
    grey = generator.uniform(*[(0.62, 0.74), (0.72, 0.84), (0.68, 0.80), (0.82, 0.92), (0.55, 0.72)][kind])
    tint = [(1.0, 1.0, 1.01), (1.0, 1.0, 1.0), (0.97, 1.0, 1.04), (1.02, 1.0, 0.93), (1.0, 1.0, 1.0)][kind]
    colour = linear(grey * np.array(tint) * (1 + generator.normal(0, 0.02, 3)))
    metallic = [generator.uniform(0.3, 0.55), generator.uniform(0.1, 0.3), generator.uniform(0.2, 0.4), 0.0, 0.0][kind]
    specular = generator.uniform(*[(0.3, 0.6), (0.1, 0.25), (0.2, 0.5), (0.05, 0.25), (0.05, 0.2)][kind])
    shininess = generator.uniform(*[(20, 60), (6, 15), (15, 40), (15, 50), (10, 40)][kind])
    return Material(colour, float(metallic), float(specular), float(shininess), float(generator.uniform(0.02, 0.1)))


def _draw_lights(samples: tuple[int, int], generator: np.random.Generator) -> Lights:
    """Three area lights (a window, two lamps) and a dome."""
    positions, colours = [], []
    azimuth = generator.uniform(0, 2 * math.pi)
    for strength in (1.2, generator.uniform(0.15, 0.5), generator.uniform(0.1, 0.3)):
        elevation = math.radians(generator.uniform(35, 75))
        distance = generator.uniform(1.2, 2.2)
        middle = distance * np.array(
            [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)]
        )
        across = np.cross(middle, [0.0, 0.0, 1.0])
        along = np.cross(across, middle)
        sides = [v / np.linalg.norm(v) * generator.uniform(0.2, 0.7) for v in (across, along)]
        grid = round(math.sqrt(samples[0]))
        steps = (np.stack(np.meshgrid(range(grid), range(grid)), axis=-1).reshape(-1, 2) + 0.5) / grid - 0.5
        jitter = generator.uniform(-0.5, 0.5, steps.shape) / grid
        positions.append(middle + (steps + jitter) @ np.stack(sides))
        warmth = generator.uniform(-0.12, 0.12)
        colours.append(strength * np.array([1 + warmth, 1.0, 1 - warmth]))
        azimuth += generator.uniform(1.5, 2.8)
    # Points spread evenly over the half sphere (a golden spiral), brighter towards the zenith.
    number = np.arange(samples[1]) + 0.5
    z = 1 - number / samples[1] * 0.95
    angle = number * (math.pi * (3 - math.sqrt(5))) + generator.uniform(0, 2 * math.pi)
    radius = np.sqrt(1 - z * z)
    dome = 2.0 * np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    total = generator.uniform(0.25, 0.5)
    share = (0.6 + 0.4 * z) / ((0.6 + 0.4 * z) * z).sum()
    sky = total * share[:, None] * np.array([0.97, 1.0, 1.04])
    return Lights(
        *(
            torch.from_numpy(np.asarray(v, dtype=np.float32))
            for v in (np.stack(positions), np.stack(colours), dome, sky)
        )
    )


def _draw_sensor(generator: np.random.Generator) -> Sensor:
    return Sensor(
        brightness=generator.uniform(0.18, 0.32),
        blur=generator.uniform(0.35, 0.75),
        shot_noise=generator.uniform(0.008, 0.018),
        read_noise=generator.uniform(0.0015, 0.004),
        vignette=generator.uniform(0.0, 0.15),
    )
