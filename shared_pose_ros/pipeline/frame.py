"""What travels through the pipeline: an image with its detections, then with estimates, then with poses to publish.

Convention: metres, R_m2c in the camera's optical frame, quaternions xyzw with w >= 0, boxes (cx, cy, w, h) in pixels,
stamps in nanoseconds.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.rotations import rotation_from_quaternion

Key = tuple[int, str]
"""Of an image: stamp in ns, frame_id."""
TrackKey = tuple[str, str, str, bool]
"""Of a followed object: frame_id, id, class_id, whether its rotations are corrected for the viewing ray."""


@dataclass(frozen=True)
class Detections:
    """The usable detections of one array.

    Attributes:
        boxes: ``(B, 4)`` float32.
        object_index: ``(B,)`` int64, the network's.
        class_ids: B strings as the detector published them.
        ids: B strings, tracking ids, empty where there is none.
        rejected: for each other detection the counter's name (``counters.COUNTERS``) and the reason.
    """

    boxes: NDArray[np.float32]
    object_index: NDArray[np.int64]
    class_ids: list[str]
    ids: list[str]
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.integer], rejected: list[tuple[str, str]]) -> Detections:
        """Those of these rows; the reasons for leaving the others out are added to ``rejected``."""
        return Detections(
            self.boxes[rows],
            self.object_index[rows],
            [self.class_ids[row] for row in rows],
            [self.ids[row] for row in rows],
            self.rejected + rejected,
        )


@dataclass(frozen=True)
class PublishedPoses:
    """The poses of B objects with n hypotheses each, as published for one detection array.

    Attributes:
        stamp: of the image.
        frame_id: of the image.
        ids: B, as the detector gave them.
        class_ids: B.
        quaternions: ``(B, n, 4)`` float64, most confident first.
        positions: ``(B, n, 3)`` of the CAD origin; NaN where unknown.
        confidences: ``(B, n)``.
        covariances: ``(B, n, 6, 6)`` of (x, y, z, rotation about x, y, z), axes of the camera frame; −1 on the diagonal
            means unknown.
        centres: ``(B, 3)`` of the CAD's bounding box in the pose of the first hypothesis; NaN where unknown.
        extents: ``(B, 3)`` of that box.
        expected_errors: ``(B,)`` radians, the rotation error that the refiner expects of the first hypothesis; NaN
            where it expects none, None where the poses were read from a message.
    """

    stamp: int
    frame_id: str
    ids: list[str]
    class_ids: list[str]
    quaternions: NDArray[np.float64]
    positions: NDArray[np.float64]
    confidences: NDArray[np.floating[Any]]
    covariances: NDArray[np.float64]
    centres: NDArray[np.float64]
    extents: NDArray[np.float64]
    expected_errors: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> Key:
        """(stamp, frame_id)."""
        return self.stamp, self.frame_id

    @functools.cached_property
    def rotations(self) -> NDArray[np.float64]:
        """``(B, n, 3, 3)``, of the quaternions, so that who reads the message has the same to the last bit."""
        return np.asarray(rotation_from_quaternion(torch.from_numpy(self.quaternions)))

    @property
    def located(self) -> NDArray[np.bool_]:
        """Whether the position of each object is known, ``(B,)``."""
        return np.array(np.isfinite(self.positions[:, 0]).all(axis=1))

    def expected_error(self, row: int) -> float | None:
        """Of one object, radians; None where there is none."""
        if self.expected_errors is None or np.isnan(self.expected_errors[row]):
            return None
        return float(self.expected_errors[row])

    @property
    def names(self) -> list[str]:
        """A name for each object, unique in the array: `<class_id>_<id>`, of letters, digits and underscores.

        An object without an id is numbered within its class (from 0, in the order of the array); a name that is taken
        already gets a number behind it. So a tracked object keeps its name, and one without id may not.
        """
        names: list[str] = []
        counts: Counter[str] = Counter()
        for class_id, identity in zip(self.class_ids, self.ids):
            stem = re.sub(r"[^A-Za-z0-9_]", "_", f"{class_id}_{identity or counts[class_id]}")
            counts[class_id] += 1
            tries = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
            names.append(next(name for name in tries if name not in names))
        return names

    def first(self) -> PoseEstimate:
        """The first hypothesis of each object as an estimate with n = 1, unknown positions NaN: what drawings show."""
        return PoseEstimate(
            self.rotations[:, :1].astype(np.float32),
            self.confidences[:, :1].astype(np.float32),
            self.positions[:, 0].astype(np.float32),
            False,
        )


@dataclass(frozen=True)
class Frame:
    """One image on its way through the stages; each stage returns a frame with its part filled in.

    Attributes:
        stamp: of the image.
        frame_id: of the image.
        image: ``(H, W, 3)`` uint8 RGB.
        detections: B of them.
        camera_matrix: K ``(3, 3)``; None where it is unknown.
        depth: ``(h, w)`` metres, the same view; None without.
        estimate: poses of these detections, once they are estimated.
        tracks: B keys of the tracks that the objects continue or begin (``temporal_filter``), None for the others.
        last: ``(B, 3, 3)``, the rotation published last, NaN where there is none; None where no tracks are kept.
        published: what goes out, once it is selected.
        completed: when the pair of image and detections was complete, seconds of the worker's clock.
    """

    stamp: int
    frame_id: str
    image: NDArray[np.uint8]
    detections: Detections
    camera_matrix: NDArray[np.floating[Any]] | None = None
    depth: NDArray[np.float32] | None = None
    estimate: PoseEstimate | None = None
    tracks: tuple[TrackKey | None, ...] = ()
    last: NDArray[np.float64] | None = None
    published: PublishedPoses | None = None
    completed: float | None = None

    @property
    def estimated(self) -> PoseEstimate:
        """The estimate; ValueError before the stage that makes it."""
        if self.estimate is None:
            raise ValueError("the frame has no estimate yet: run the estimation stage before this one")
        return self.estimate

    @property
    def poses(self) -> PublishedPoses:
        """The poses to publish; ValueError before the stage that selects them."""
        if self.published is None:
            raise ValueError("the frame has no poses to publish yet: run the selection stage before this one")
        return self.published
