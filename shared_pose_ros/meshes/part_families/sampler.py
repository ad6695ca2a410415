"""Random numbers for shapes, the same on every machine and with every release of numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


class Sampler:
    """Draws that use only the generator's uniform doubles, whose stream numpy keeps.

    Args:
        *seeds: non-negative integers; each tuple has a stream of its own.
    """

    def __init__(self, *seeds: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds)))

    def between(self, low: float, high: float) -> float:
        """Uniform number in [low, high), rounded so that no last bit of a sum decides a shape."""
        return round(low + (high - low) * float(self._generator.random()), 3)

    def log_between(self, low: float, high: float) -> float:
        """Number in [low, high) whose logarithm is uniform; both positive."""
        return round(float(low * (high / low) ** self._generator.random()), 3)

    def count(self, low: int, high: int) -> int:
        """Integer in low … high, both included."""
        return low + int((high - low + 1) * float(self._generator.random()))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._generator.random()) < probability

    def sign(self) -> int:
        """1 or −1."""
        return 1 if self.chance(0.5) else -1

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options."""
        return options[self.count(0, len(options) - 1)]
