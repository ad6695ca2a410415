"""The batches of a frame: as few as max_batch allows, warmed before they are needed, halved when memory is short.

No thread, no node, no messages. Shapes are those of estimator.PoseEstimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shared_pose_ros.ros.diagnostics.memory import cause, is_out_of_memory, release_cached
from shared_pose_ros.ros.diagnostics.statistics import Statistics

WARM_UP_SIZE = (480, 640)
REMEDY = "lower max_batch, free the GPU (nvidia-smi shows who holds it), or take device: cpu"


class Batches:
    """Runs an estimator whose batch sizes up to `warmed` have been warmed."""

    def __init__(self, estimator: Any, statistics: Statistics, warmed: int) -> None:
        """`estimator`: a PoseEstimator."""
        self._estimator, self._statistics = estimator, statistics
        self._warmed = warmed

    def prepare(self, max_batch: int) -> None:
        """Warm the sizes that a raised max_batch has added; a failure is counted, and the sizes are not tried again."""
        if max_batch <= self._warmed:
            return
        sizes, self._warmed, problem = range(self._warmed + 1, max_batch + 1), max_batch, ""
        # Too large a batch is no reason to lose the frames with fewer objects.
        try:
            self._estimator.warm_up(WARM_UP_SIZE, sizes)
        except Exception as error:
            problem = f"batches of {sizes[0]} to {max_batch} objects: {cause(error)}"
        if problem:
            self._statistics.count("warm_up_error", 1, problem)
            release_cached()

    def run(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        object_index: np.ndarray,
        of_the_frame: Sequence[Any],
        max_batch: int,
    ) -> Sequence[Any]:
        """PoseEstimates that together answer all objects, in their order; one, with B = 0, for none.

        A batch that memory does not suffice for is halved, and so are the frame's following ones (counter
        batch_halved); the next frame begins with max_batch again. `of_the_frame` are the further arguments of
        PoseEstimator.estimate, the same for all batches.

        Raises:
            Exception: whatever the estimator raises; for lack of memory only with a single object.
        """
        parts, start, size = [], 0, max_batch
        while not parts or start < len(boxes):
            chosen = slice(start, start + size)
            answer, problem = self._attempt(image, boxes[chosen], object_index[chosen], *of_the_frame)
            if answer is None:
                size = len(boxes[chosen]) // 2
                self._statistics.count("batch_halved", 1, f"to {size}: {problem}")
                release_cached()
                continue
            parts.append(answer)
            if len(boxes):
                self._statistics.batch(len(boxes[chosen]))
            start += size
        return parts

    def _attempt(self, image: Any, boxes: np.ndarray, *others: Any) -> tuple[Any, str]:
        """(estimate, ''), or (None, why) when memory is short for more than one object."""
        try:
            return self._estimator.estimate(image, boxes, *others), ""
        except Exception as error:
            if len(boxes) < 2 or not is_out_of_memory(error):
                raise
            return None, cause(error)
