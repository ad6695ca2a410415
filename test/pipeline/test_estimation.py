"""The estimation stage: batches split, warmed ahead, halved when memory is short, with the allocators' real errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.memory import cause, gpu_mib, is_out_of_memory, resident_mib
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import Estimation
from shared_pose_ros.pipeline.statistics import Statistics

IMAGE = np.zeros((8, 8, 3), np.uint8)


def allocate_with_torch() -> None:
    torch.empty(2**46, dtype=torch.uint8)


def allocate_in_torchscript() -> None:
    module = torch.jit.CompilationUnit("def take(n: int):\n    return torch.zeros([n]).sum()\n")
    module.take(2**46)


def allocate_with_numpy() -> None:
    np.empty(2**60, np.uint8)


def allocate_with_opencv() -> None:
    cv2.resize(np.zeros((1, 1, 3), np.uint8), (2**20, 2**20))


def as_on_a_gpu() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


ALLOCATIONS = [allocate_with_torch, allocate_in_torchscript, allocate_with_numpy, allocate_with_opencv, as_on_a_gpu]


@pytest.mark.parametrize("allocate", ALLOCATIONS)
def test_every_allocators_error_is_known(allocate: Callable[[], None]) -> None:
    with pytest.raises(Exception, match=r"(?i)memory|allocate") as raised:
        allocate()
    assert is_out_of_memory(raised.value)
    told = cause(raised.value)
    assert "\n" not in told and ("memory" in told.lower() or "allocate" in told)


@pytest.mark.parametrize("error", [ValueError("boxes must be finite"), RuntimeError("CUDA error: device-side assert")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_resident_memory_follows_an_allocation() -> None:
    before = resident_mib()
    block = np.ones(64 * 2**20, np.uint8)
    assert resident_mib() - before > 32 and block[0] == 1
    assert gpu_mib(torch.device("cpu")) == gpu_mib(None) == (None, None)


class ShortOfMemory:
    """An estimator that has memory for `room` objects; each answers with its own index."""

    def __init__(self, room: int, fail: Callable[[], None] = allocate_with_torch) -> None:
        self.room, self.fail = room, fail
        self.tried: list[int] = []
        self.warmed: list[int] = []

    def estimate(
        self, image: Any, boxes: np.ndarray, object_index: np.ndarray, camera_matrix: Any, depth: Any
    ) -> PoseEstimate:
        self.tried.append(len(boxes))
        if len(boxes) > self.room:
            self.fail()
        rotations = np.ones((len(boxes), 1, 3, 3), np.float32) * object_index[:, None, None, None]
        return PoseEstimate(rotations, np.ones((len(boxes), 1), np.float32), None, False)

    def warm_up(self, size: tuple[int, int], sizes: range) -> None:
        for number in sizes:
            if number > self.room:
                self.fail()
            self.warmed.append(number)


def frame(count: int) -> Frame:
    names = [str(number) for number in range(count)]
    return Frame(0, "camera", IMAGE, Detections(np.ones((count, 4), np.float32), np.arange(count), names, names))


def run(estimator: ShortOfMemory, count: int, max_batch: int) -> tuple[list[int], dict[str, int]]:
    """Indices in the order of the estimates, and the counters."""
    statistics = Statistics()
    estimate = Estimation(estimator, statistics, max_batch)(frame(count), NodeParameters(max_batch=max_batch)).estimate
    return estimate.rotations[:, 0, 0, 0].astype(int).tolist(), statistics.snapshot()[0]


@pytest.mark.parametrize("fail", ALLOCATIONS)
def test_a_batch_is_halved_once_and_the_frame_answered(fail: Callable[[], None]) -> None:
    estimator = ShortOfMemory(4, fail)
    assert run(estimator, 8, 8) == (list(range(8)), {"batch_halved": 1})
    assert estimator.tried == [8, 4, 4]


@pytest.mark.parametrize(
    ("count", "max_batch", "room", "tried"),
    [
        (0, 8, 0, [0]),
        (5, 8, 2, [5, 2, 2, 1]),
        (8, 8, 1, [8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1]),
        (6, 4, 3, [4, 2, 2, 2]),
        (5, 4, 3, [4, 2, 2, 1]),
    ],
)
def test_halving_goes_down_to_one_object(count: int, max_batch: int, room: int, tried: list[int]) -> None:
    estimator = ShortOfMemory(room)
    assert run(estimator, count, max_batch)[0] == list(range(count))
    assert estimator.tried == tried


def test_without_room_for_one_object_the_error_comes_out() -> None:
    estimator = ShortOfMemory(0)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run(estimator, 256, 256)
    # At most log2(256) halvings.
    assert estimator.tried == [256, 128, 64, 32, 16, 8, 4, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    def fail() -> None:
        raise ValueError("boxes must be finite")

    estimator = ShortOfMemory(1, fail)
    with pytest.raises(ValueError, match="boxes"):
        run(estimator, 4, 4)
    assert estimator.tried == [4]


def test_a_raised_max_batch_warms_what_it_adds_once() -> None:
    estimator, statistics = ShortOfMemory(6), Statistics()
    estimation = Estimation(estimator, statistics, 2)
    for max_batch in (2, 1, 4, 4, 3):
        estimation.prepare(max_batch)
    assert estimator.warmed == [3, 4] and not statistics.snapshot()[0]
    for _ in range(2):
        estimation.prepare(8)
    counters, reasons = statistics.snapshot()
    assert estimator.warmed == [3, 4, 5, 6] and counters == {"warm_up_error": 1}
    assert "5 to 8 objects" in reasons["warm_up_error"] and "can't allocate memory" in reasons["warm_up_error"]


def test_batch_sizes_are_kept_for_diagnostics() -> None:
    statistics = Statistics()
    assert statistics.batches() == (None, None, None)
    estimation = Estimation(ShortOfMemory(9), statistics, 4)
    for count in (4, 0, 5):
        estimation(frame(count), NodeParameters(max_batch=4))
    assert statistics.batches() == (1, 3.0, 4)
