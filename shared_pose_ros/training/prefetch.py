"""What every training loop shares: a step's randomness, and batches made one step ahead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The randomness of one step, whichever run or thread makes it, so that a resumed run repeats nothing."""
    return torch.Generator(device).manual_seed(seed * 1_000_000_007 + step)


def prefetched(make: Callable[[int], Batch], first: int) -> Generator[Batch, None, None]:
    """``make(first)``, ``make(first + 1)``, … without end, each made while the caller works on the one before.

    The thread of its own gains time because torch and Warp release the GIL while they compute. Close the iterator
    (``contextlib.closing``) to end the thread.
    """
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as ahead:
        upcoming = ahead.submit(make, first)
        for step in itertools.count(first + 1):
            batch = upcoming.result()
            upcoming = ahead.submit(make, step)
            yield batch
