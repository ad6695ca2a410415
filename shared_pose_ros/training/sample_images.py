"""Pictures of objects and of a training: shaded views, rows of hypotheses beside their crop, grids of crops.

Convention: pictures ``(H, W, 3)`` uint8 RGB; rotations R_m2c; meshes normalised (half the largest extent is 100).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer, make_rasterizer, pack_meshes
from shared_pose_ros.rendering.shading import Lighting, shade
from shared_pose_ros.training.config import TrainingConfig
from shared_pose_ros.training.losses import LOSS_DISTANCE
from shared_pose_ros.training.synthesis import Synthesizer, TrainingBatch
from shared_pose_ros.training.validation import CORRECT, SampleErrors

TILE = 96  # side of a tile, pixels
VIEWS, LARGE_TILE = 6, 160  # of an object, and their sides, pixels
STRIP = 16  # height of the line of text under it
WHITE, GREEN, ORANGE = (235, 235, 235), (110, 230, 120), (255, 170, 90)
_FILL = 0.95  # of a tile, by the sphere around the object
_BACKGROUND, _STRIP_GREY = 20, 40


@torch.no_grad()
def shaded_views(
    meshes: PackedMeshes, object_index: Tensor, rotations: Tensor, size: int, rasterizer: Rasterizer
) -> np.ndarray:
    """Objects alone under one lamp, each as large as the sphere around it lets it be; no randomness.

    Args:
        meshes: normalised meshes.
        object_index: ``(B,)``.
        rotations: ``(B, 3, 3)``.
        size: side of a view, pixels.
        rasterizer: the backend.

    Returns:
        ``(B, size, size)`` uint8 grey.
    """
    count, device, fine = len(object_index), rotations.device, 2 * size
    translation = torch.tensor([0.0, 0.0, LOSS_DISTANCE], device=device).expand(count, 3)
    sine = torch.tensor(_radii(meshes), device=device)[object_index] / (_FILL * LOSS_DISTANCE)
    camera = torch.zeros(count, 3, 3, device=device)
    camera[:, 0, 0] = camera[:, 1, 1] = fine / 2 / torch.tan(torch.asin(sine))
    camera[:, :2, 2] = (fine - 1) / 2
    camera[:, 2, 2] = 1
    rotations = rotations.contiguous()
    face_id = rasterizer.rasterize(meshes, object_index, rotations, translation, camera, (fine, fine))
    # At the upper left, with a little gloss and dark crevices.
    lamp = torch.tensor([-500.0, -700.0, 0.0], device=device).repeat(count, 1)
    studio = Lighting.one_lamp(lamp, strength=0.8, ambient=0.2, specular=0.1, shininess=10.0, crevice=0.5)
    shaded = shade(face_id, meshes, rotations, translation, camera, studio, 2)
    light = 255 * (0.15 * shaded.coverage + 0.85 * shaded.intensity) + _BACKGROUND * (1 - shaded.coverage)
    return light.round().to(torch.uint8).cpu().numpy()


def hypothesis_rows(
    truth: TrainingBatch,
    samples: SampleErrors,
    class_ids: Sequence[str],
    meshes: PackedMeshes,
    rasterizer: Rasterizer,
) -> list[np.ndarray]:
    """A row per sample: the crop, the truth, then every hypothesis by falling confidence.

    Under a hypothesis stand its confidence and its symmetric rotation error in degrees, green below 15°.

    Args:
        truth: B crops with their rotations.
        samples: what the network made of the same B.
        class_ids: names of the objects, in the network's order.
        meshes: normalised meshes.
        rasterizer: the backend.

    Returns:
        B pictures ``(TILE + STRIP, (2 + n)·TILE, 3)``.
    """
    count, n = samples.errors.shape
    guesses = torch.from_numpy(samples.rotations).to(truth.rotations)
    everything = torch.cat([truth.rotations[:, None], guesses], dim=1).reshape(-1, 3, 3)
    index = truth.object_index.repeat_interleave(1 + n)
    views = shaded_views(meshes, index, everything, TILE, rasterizer).reshape(count, 1 + n, TILE, TILE)
    rows = []
    for number, (crop, shown) in enumerate(zip(crop_images(truth.crops), truth.object_index.tolist())):
        tiles = [tile(crop, class_ids[shown]), tile(views[number, 0], "truth")]
        for view, share, error in zip(views[number, 1:], samples.confidences[number], samples.errors[number]):
            tiles.append(tile(view, f"{share:.2f}  {error:.1f} deg", GREEN if error < CORRECT else ORANGE))
        rows.append(np.concatenate(tiles, axis=1))
    return rows


def crop_grid(crops: Iterable[np.ndarray], labels: Sequence[str], columns: int, side: int = TILE) -> np.ndarray:
    """Labelled crops, row by row, ``(rows·(side + STRIP), columns·side, 3)``; the last row is filled with black."""
    tiles = [tile(crop, label, side=side) for crop, label in zip(crops, labels)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def object_rows(objects: ObjectSet) -> np.ndarray:
    """A row per object, ``(k·160, 6·160, 3)`` uint8 RGB; the first view has R = identity."""
    views = random_rotations(VIEWS, torch.Generator().manual_seed(0))
    views[0] = torch.eye(3)
    index = torch.arange(len(objects)).repeat_interleave(VIEWS)
    meshes = pack_meshes([model.normalized() for model in objects])
    tiles = shaded_views(meshes, index, views.repeat(len(objects), 1, 1), LARGE_TILE, make_rasterizer())
    blocks = tiles.reshape(len(objects), VIEWS, LARGE_TILE, LARGE_TILE).transpose(0, 2, 1, 3)
    rows = blocks.reshape(-1, VIEWS * LARGE_TILE)
    picture = np.repeat(rows[:, :, None], 3, axis=2)
    for row, model in enumerate(objects):
        place = (6, row * LARGE_TILE + 18)
        cv2.putText(picture, model.class_id, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 220, 120), 1, cv2.LINE_AA)
    return picture


def batch_grid(
    objects: ObjectSet, config: TrainingConfig, rows: int, columns: int, backgrounds: Path | None = None
) -> np.ndarray:
    """Training crops at full difficulty over their class ids, as the network sees them (normalised).

    Args:
        objects: the set.
        config: of the training; its seed decides the picture.
        rows: of the grid.
        columns: of the grid.
        backgrounds: folder of photographs, None for procedural pictures.

    Returns:
        ``(rows·112, columns·96, 3)`` uint8 RGB.
    """
    synthesizer = Synthesizer(
        objects, config.synthesis, config.augmentation, config.crop_size, make_rasterizer(), torch.device("cpu"),
        backgrounds, config.seed,
    )  # fmt: skip
    # Occluders and neighbours are other parts of the batch: a batch as large as the training's has its variety.
    count = max(rows * columns, config.batch_size)
    batch = synthesizer.batch(count, torch.Generator().manual_seed(config.seed))
    labels = [objects.class_ids[index] for index in batch.object_index.tolist()]
    shown = rows * columns
    return crop_grid(crop_images(batch.crops)[:shown], labels[:shown], columns)


def crop_images(crops: Tensor) -> np.ndarray:
    """Normalised crops ``(B, 3, S, S)`` as ``(B, S, S, 3)`` uint8; the normalisation leaves them in [0, 1]."""
    return (crops.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def tile(image: np.ndarray, text: str, colour: tuple[int, int, int] = WHITE, side: int = TILE) -> np.ndarray:
    """A grey ``(S, S)`` or colour ``(S, S, 3)`` image at ``side`` pixels over a line of text."""
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[0] != side:
        shrinking = image.shape[0] > side
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST)
    strip = np.full((STRIP, side, 3), _STRIP_GREY, np.uint8)
    scale = min(0.38, 0.38 * (side - 6) / max(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)[0][0], 1))
    cv2.putText(strip, text, (3, STRIP - 5), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return np.concatenate([image, strip])


def _radii(meshes: PackedMeshes) -> list[float]:
    """Of the spheres about the origin around every object."""
    ends = meshes.face_offsets.tolist()
    distance = meshes.vertices.norm(dim=1)
    return [distance[meshes.faces[a:b].long()].max().item() for a, b in zip(ends, ends[1:])]
