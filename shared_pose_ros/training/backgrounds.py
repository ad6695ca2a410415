"""Backgrounds of training crops: photographs of a folder, or procedural pictures where there is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

SIDE = 256  # every background is kept at this size; crops take random windows of it
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


def load_backgrounds(folder: Path | None, seed: int, count: int = 192) -> Tensor:
    """A bank of background pictures.

    Args:
        folder: photographs, searched recursively; None makes procedural pictures instead.
        seed: of the procedural pictures.
        count: number of procedural pictures; photographs are all taken.

    Returns:
        ``(N, SIDE, SIDE, 3)`` uint8 RGB.

    Raises:
        ValueError: the folder holds no readable picture.
    """
    if folder is None:
        generator = np.random.default_rng(seed)
        return torch.from_numpy(np.stack([procedural_background(generator) for _ in range(count)]))
    pictures = []
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is not None:
                pictures.append(_square(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)))
    if not pictures:
        raise ValueError(f"no readable picture in {folder}; give a folder of photographs or leave --backgrounds out")
    return torch.from_numpy(np.stack(pictures))


def procedural_background(generator: np.random.Generator) -> np.ndarray:
    """One ``(SIDE, SIDE, 3)`` uint8 picture: cloudy or streaky noise of several octaves, plus edges of random shapes.

    Mostly muted colours, as of tables, mats and boxes; now and then anything.
    """
    muted = generator.random() < 0.75
    base = _colour(generator, muted)
    picture = np.broadcast_to(base, (SIDE, SIDE, 3)).astype(np.float32).copy()
    strength = generator.uniform(3, 30) if muted else generator.uniform(5, 70)
    stretch = generator.choice([1, 1, 4, 16])  # streaks, as of wood and brushed metal
    for cells in (2, 4, 8, 16, 64, 256):
        channels = 1 if muted or generator.random() < 0.6 else 3
        noise = generator.normal(0, 1, (cells, max(cells // stretch, 1), channels)).astype(np.float32)
        cloud = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        picture += strength * cloud.reshape(SIDE, SIDE, channels)
        strength *= generator.uniform(0.3, 0.9)
    for _ in range(generator.integers(0, 12)):
        _draw_shape(picture, generator, muted)
    if generator.random() < 0.5:
        picture = picture.transpose(1, 0, 2)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _colour(generator: np.random.Generator, muted: bool) -> np.ndarray:
    """A colour ``(3,)`` in 0…255; a muted one lies near the greys."""
    if not muted:
        return generator.uniform(0, 255, 3)
    return generator.uniform(20, 240) * (1 + generator.uniform(0, 0.35) * generator.uniform(-1, 1, 3))


def sample_backgrounds(bank: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random windows of random pictures, ``(count, 3, size, size)`` float32 in [0, 1], on the bank's device.

    A window covers a quarter to all of its picture and may be mirrored.
    """
    device = bank.device
    picture = torch.randint(0, bank.shape[0], (count,), generator=generator, device=device)
    random = torch.rand(count, 5, generator=generator, device=device)
    side = SIDE * (0.25 + 0.75 * random[:, 0])
    start_x, start_y = random[:, 1] * (SIDE - side), random[:, 2] * (SIDE - side)
    steps = torch.arange(size, device=device) / size
    mirrored = torch.where(random[:, 3:4] < 0.5, steps, steps.flip(0))
    x = (start_x[:, None] + side[:, None] * mirrored).long().clamp(0, SIDE - 1)
    y = (start_y[:, None] + side[:, None] * steps).long().clamp(0, SIDE - 1)
    flat = (picture[:, None, None] * SIDE + y[:, :, None]) * SIDE + x[:, None, :]
    window = bank.reshape(-1, 3)[flat.reshape(-1)].reshape(count, size, size, 3)
    return window.permute(0, 3, 1, 2).float() / 255.0


def _square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return cv2.resize(picture[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _draw_shape(picture: np.ndarray, generator: np.random.Generator, muted: bool) -> None:
    colour = tuple(float(c) for c in _colour(generator, muted))
    kind = generator.integers(0, 3)
    a, b = (tuple(int(c) for c in generator.integers(-40, SIDE + 40, 2)) for _ in range(2))
    if kind == 0:
        cv2.line(picture, a, b, colour, int(generator.integers(1, 8)), cv2.LINE_AA)
    elif kind == 1:
        axes = tuple(int(c) for c in generator.integers(5, 70, 2))
        cv2.ellipse(picture, a, axes, float(generator.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints((a, tuple(generator.uniform(10, 140, 2).tolist()), float(generator.uniform(0, 90))))
        cv2.fillConvexPoly(picture, corners.astype(np.int32), colour, cv2.LINE_AA)
