"""What demo scenes stand on: procedural wood, brushed metal, cardboard, cloth, rubber mat. Independent of training's.

Convention: a texture is a square picture ``(TEXELS, TEXELS, 3)`` float32, linear reflectance in 0…1, of a table
``TEXTURE_SIDE`` metres wide; all randomness comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

TEXTURE_SIDE = 2.4
TEXELS = 1536
_PER_METRE = TEXELS / TEXTURE_SIDE


@dataclass(frozen=True)
class Ground:
    """A table top: its texture and how much it shines (specular weight, exponent)."""

    texture: np.ndarray
    specular: float
    shininess: float


def linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values in 0…1 (IEC 61966-2-1)."""
    srgb = np.clip(srgb, 0.0, 1.0).astype(np.float32)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def srgb(light: np.ndarray) -> np.ndarray:
    """Inverse of ``linear``; values are clipped to 0…1."""
    light = np.clip(light, 0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def wood(generator: np.random.Generator) -> Ground:
    """Boards with fibres, rings and dark joints."""
    light, dark = _either(
        generator,
        ((0.74, 0.60, 0.45), (0.53, 0.38, 0.25)),
        ((0.62, 0.43, 0.28), (0.36, 0.22, 0.13)),
        ((0.84, 0.73, 0.57), (0.66, 0.52, 0.36)),
    )
    along, across = np.meshgrid(np.arange(TEXELS) / _PER_METRE, np.arange(TEXELS) / _PER_METRE)
    width = generator.uniform(0.09, 0.2)
    board = np.floor((across + generator.uniform(0, width)) / width).astype(int)
    shift = generator.uniform(0, 50, board.max() + 1)[board]
    tone = generator.normal(0, 0.07, board.max() + 1)[board]
    warp = _noise(generator, 24, 5) * 0.012 + _noise(generator, 60, 10) * 0.004
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * ((across + warp) * generator.uniform(50, 90) + shift + 0.8 * along))
    fibres = _noise(generator, 1000, 30) * 0.6 + _noise(generator, 400, 8) * 0.4
    mixed = np.clip(0.3 * rings**3 + 0.13 * fibres + tone + 0.25, 0, 1)[..., None]
    colour = np.array(light) * (1 - mixed) + np.array(dark) * mixed
    edge = np.abs((across + generator.uniform(0, width)) / width - board - 0.5)
    colour = colour * np.where(np.abs(edge - 0.5) < 0.0012 / width, 0.45, 1.0)[..., None]
    return Ground(linear(colour), 0.06, 25.0)


def metal(generator: np.random.Generator) -> Ground:
    """A brushed sheet with a few scratches."""
    grey = generator.uniform(0.42, 0.62)
    brushed = _noise(generator, 2000, 12) * 0.022 + _noise(generator, 700, 5) * 0.016
    value = grey + brushed + 0.03 * _noise(generator, 6, 6)
    scratches = np.zeros((TEXELS, TEXELS), np.float32)
    for _ in range(generator.integers(15, 60)):
        start = generator.uniform(0, TEXELS, 2)
        bend = generator.normal(0, 60, 2)
        points = np.stack([start, start + bend, start + 2 * bend + generator.normal(0, 12, 2)]).astype(np.int32)
        cv2.polylines(scratches, [points], False, float(generator.uniform(-0.1, 0.12)), 1, cv2.LINE_AA)
    tint = np.array([0.98, 1.0, 1.02]) + generator.normal(0, 0.01, 3)
    return Ground(linear((value + scratches)[..., None] * tint), 0.35, 14.0)


def cardboard(generator: np.random.Generator) -> Ground:
    """Corrugated board with fibres and stains; now and then a strip of tape."""
    base = np.array([0.74, 0.60, 0.44]) + generator.normal(0, 0.025, 3)
    rows = np.arange(TEXELS)[:, None] / _PER_METRE
    flutes = 0.014 * np.sin(2 * np.pi * rows / generator.uniform(0.006, 0.008))
    value = 1 + flutes + 0.022 * _noise(generator, 1600, 1100) + 0.014 * _noise(generator, 500, 900)
    value = value + 0.03 * _noise(generator, 5, 5)
    colour = base * value[..., None]
    if generator.random() < 0.5:
        middle, half = generator.uniform(0.3, 0.7) * TEXELS, 0.024 * _PER_METRE
        tape = np.abs(np.arange(TEXELS) - middle) < half
        colour[:, tape] = 0.55 * colour[:, tape] + 0.45 * np.array([0.62, 0.48, 0.30])
    return Ground(linear(_turned(colour, generator)), 0.02, 8.0)


def cloth(generator: np.random.Generator) -> Ground:
    """Woven fabric with uneven threads and soft folds."""
    base = np.array(_either(generator, (0.28, 0.36, 0.50), (0.33, 0.45, 0.37), (0.56, 0.55, 0.52), (0.50, 0.33, 0.30)))
    rows, columns = np.arange(TEXELS)[:, None], np.arange(TEXELS)[None]
    pitch = generator.uniform(4.0, 5.5)
    warp = np.sin(2 * np.pi * (rows + 1.5 * _noise(generator, 8, 60)) / pitch)
    weft = np.sin(2 * np.pi * (columns + 1.5 * _noise(generator, 60, 8)) / pitch)
    threads = generator.normal(0, 0.035, (TEXELS, 1)) + generator.normal(0, 0.035, (1, TEXELS))
    slope = cv2.Sobel(_noise(generator, 7, 5).astype(np.float32), cv2.CV_32F, 1, 1, ksize=5)
    folds = slope / max(float(np.abs(slope).max()), 1e-6)
    value = 1 + 0.07 * warp * weft + threads + 0.13 * folds + 0.05 * _noise(generator, 12, 12)
    return Ground(linear(_turned(base * value[..., None], generator)), 0.0, 1.0)


def mat(generator: np.random.Generator) -> Ground:
    """A rubber or plastic bench mat with fine grain and wear."""
    base = np.array(_either(generator, (0.22, 0.23, 0.24), (0.24, 0.36, 0.48), (0.34, 0.43, 0.38), (0.47, 0.48, 0.50)))
    value = 1 + 0.05 * _noise(generator, 1000, 1000) + 0.05 * _noise(generator, 300, 300)
    value = value + 0.06 * _noise(generator, 9, 9)
    specks = (generator.random((TEXELS, TEXELS)) < 0.004).astype(np.float32)
    value = value + 0.25 * cv2.GaussianBlur(specks, (0, 0), 0.8)
    return Ground(linear(base * value[..., None]), 0.08, 10.0)


GROUNDS: Mapping[str, Callable[[np.random.Generator], Ground]] = {
    "wood": wood,
    "cardboard": cardboard,
    "metal": metal,
    "cloth": cloth,
    "mat": mat,
}


def _noise(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Smooth noise ``(TEXELS, TEXELS)``, mean 0, deviation 1, with so many bumps down and across."""
    coarse = generator.normal(0, 1, (rows, columns)).astype(np.float32)
    fine = cv2.resize(coarse, (TEXELS, TEXELS), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / fine.std()


def _either(generator: np.random.Generator, *choices: tuple[Any, ...]) -> tuple[Any, ...]:
    return choices[generator.integers(len(choices))]


def _turned(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.rot90(picture) if generator.random() < 0.5 else picture
