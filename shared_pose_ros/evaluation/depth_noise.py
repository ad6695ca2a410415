"""What a depth camera makes of an exact depth image: correlated noise, holes at edges and elsewhere, millimetre steps.

Convention: metres, 0 where nothing is measured.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

REFERENCE_DISTANCE = 0.7
"""Metres at which the noise has its σ; it grows with the square of the distance, as that of a stereo camera."""
CORRELATION = 2.0
"""σ of the Gaussian, pixels, that neighbouring pixels' noise is correlated by."""
EDGE = 0.05
"""Change of depth over two pixels, metres (Sobel's operator), from which a pixel lies on an edge."""


@dataclass(frozen=True)
class DepthNoise:
    """A depth camera.

    Attributes:
        sigma: standard deviation at ``REFERENCE_DISTANCE``, metres; 0 leaves the depth image exact in every way.
        edge_holes: share of the pixels on edges that measure nothing.
        holes: share of all pixels.
        step: depths are multiples of it, metres.
        seed: of the randomness.
    """

    sigma: float = 0.0
    edge_holes: float = 0.7
    holes: float = 0.05
    step: float = 0.001
    seed: int = 0

    def measured(self, depth: NDArray[np.float32], *place: int) -> NDArray[np.float32]:
        """What the camera measures of a depth image ``(h, w)``; ``place`` (numbers of the image) decides the noise."""
        if self.sigma <= 0.0:
            return depth
        random = np.random.default_rng(zlib.crc32(repr((self.seed, *place)).encode()))
        noise = cv2.GaussianBlur(random.normal(size=depth.shape), (0, 0), CORRELATION)
        sigma = self.sigma * (depth / REFERENCE_DISTANCE) ** 2
        found = depth + sigma * noise / noise.std()
        slope = np.hypot(*(cv2.Sobel(depth, cv2.CV_64F, *order) for order in ((1, 0), (0, 1))))
        lost = ((slope > EDGE) & (random.random(depth.shape) < self.edge_holes)) | (
            random.random(depth.shape) < self.holes
        )
        found = np.where(lost | (depth <= 0.0), 0.0, np.round(found / self.step) * self.step)
        return found.astype(np.float32)

    def __str__(self) -> str:
        return f"noise of σ {1e3 * self.sigma:g} mm at {REFERENCE_DISTANCE} m with holes" if self.sigma > 0 else "exact"
