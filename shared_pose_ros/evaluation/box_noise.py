"""A detector's faults on boxes that are known exactly: jitter of centre and size, and misses.

Convention: boxes (cx, cy, w, h) in pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BoxNoise:
    """What a simulated detector does to a visible box; the same for an instance whatever else is evaluated.

    Attributes:
        centre: standard deviation of the centre's shift, in fractions of the box's width and height.
        size: standard deviation of the logarithm of the width's and of the height's factor.
        miss: probability that an instance is not detected.
        seed: of everything.

    The defaults give boxes whose intersection over union with the true box is 0.84 on average.
    """

    centre: float = 0.04
    size: float = 0.08
    miss: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("centre", "size"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"box jitter of the {name} is {getattr(self, name)}; give a fraction in 0…1")
        if not 0.0 <= self.miss < 1.0:
            raise ValueError(f"the probability of a miss is {self.miss}; give 0 or more and less than 1")

    def detect(self, box: np.ndarray, scene_id: int, image_id: int, gt_id: int) -> np.ndarray | None:
        """The box ``(4,)`` that the detector reports for an instance's visible box ``(4,)``, None for a miss."""
        key = zlib.crc32(f"{self.seed}/{scene_id}/{image_id}/{gt_id}".encode())
        generator = np.random.default_rng(key)
        # All draws are always made: with another probability of a miss the boxes stay the same.
        missed, shift, stretch = generator.random() < self.miss, generator.normal(size=2), generator.normal(size=2)
        if missed:
            return None
        box = np.asarray(box, dtype=np.float64)
        centre = box[:2] + self.centre * shift * box[2:]
        return np.concatenate([centre, box[2:] * np.exp(self.size * stretch)])

    def __str__(self) -> str:
        return (
            f"visible box of ground truth with a detector's noise: centre σ {self.centre * 100:g} % of its sides, "
            f"size σ {self.size * 100:g} %, {self.miss * 100:g} % missed and scored 0, seed {self.seed}"
        )
