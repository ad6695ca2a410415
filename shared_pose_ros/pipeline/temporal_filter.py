"""Temporal filtering: what is kept of each object from frame to frame, its hypotheses and the rotation published last.

The parameter `smoothing` fuses the hypotheses; `refine_memory` and `symmetric_representative: last` use the rotation.

An object is followed by what its detection says: (frame_id, id, class_id), with or without camera_info. Detections
without an id, and ids that two detections of a class share in one array, are treated frame by frame. Times are the
stamps of the images. A track ends

- after `track_timeout_seconds` without its object,
- where a frame is older than the newest one by more than `time_jump_seconds` (a bag loop): all tracks end,
- where the new frame contradicts it (`geometry.fusion`): it begins anew with that frame,
- when more than `MOST_TRACKS` are followed: the one that was seen least lately goes,
- by `clear`.

A frame that is not newer than an object's track (out of order, or a second detector's on the same image) goes through
as the network estimated it and changes nothing.

Tracks are updated in the worker's thread and cleared from others; one lock guards them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_pose_ros.bundle import BundleMetadata
from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.fusion import LEAST_AGREEMENT, fuse
from shared_pose_ros.pipeline.frame import Frame, TrackKey
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics

MOST_TRACKS = 1024


@dataclass
class Track:
    """One object: its newest stamp (ns), hypotheses (n, 3, 3) and confidences (n), the rotation published last."""

    stamp: int
    rotations: Tensor
    confidences: Tensor
    published: NDArray[np.float64] | None = None


class TemporalFilter:
    """Stage: the tracks of one node, of a bundle's objects.

    Its ``follow`` is the stage before the refinement, which may draw what was published last, and its ``remember`` the
    one after the selection.

    Args:
        metadata: of the bundle.
        symmetries: of its objects.
        statistics: gets what is counted.
    """

    def __init__(self, metadata: BundleMetadata, symmetries: SymmetryTable, statistics: Statistics) -> None:
        self._symmetries = symmetries
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float64)
        self._statistics = statistics
        self._tracks: OrderedDict[TrackKey, Track] = OrderedDict()
        self._newest: int | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tracks)

    def clear(self) -> int:
        """End all tracks; returns how many there were."""
        with self._lock:
            ended = len(self._tracks)
            self._tracks.clear()
            self._newest = None
            return ended

    def follow(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """Stage: fill in tracks and last; without a parameter that needs them, end all tracks."""
        last_pose = parameters.refine_memory or parameters.symmetric_representative == "last"
        if parameters.smoothing == 0.0 and not last_pose:
            self.clear()
            return frame
        with self._lock:
            self._end_old(frame.stamp, parameters)
            keys, last = self._find(frame)
        return dataclasses.replace(frame, tracks=keys, last=last)

    def __call__(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """Continue the tracks with the frame; its hypotheses are fused with theirs where `smoothing` is above 0.

        Replaces the estimate. Positions hold the centre of the CAD's bounding box.
        """
        if not frame.tracks:
            return frame
        with self._lock:
            known = {row: self._tracks[key] for row, key in enumerate(frame.tracks) if key and key in self._tracks}
            estimate = frame.estimated
            if known and parameters.smoothing > 0.0:
                estimate = self._fused(known, frame, parameters.smoothing)
            self._store(frame.stamp, estimate, frame.tracks)
        return dataclasses.replace(frame, estimate=estimate)

    def remember(self, frame: Frame, parameters: NodeParameters) -> Frame:
        """Stage: note what is published of each object that has a track."""
        if not frame.tracks:
            return frame
        with self._lock:
            for key, rotations in zip(frame.tracks, frame.poses.rotations):
                if key is not None and key in self._tracks:
                    self._tracks[key].published = rotations[0]
        return frame

    def _end_old(self, stamp: int, parameters: NodeParameters) -> None:
        if self._newest is not None and stamp < self._newest - int(parameters.time_jump_seconds * 1e9):
            self._tracks.clear()
            self._newest = None
        self._newest = stamp if self._newest is None else max(stamp, self._newest)
        oldest = stamp - int(parameters.track_timeout_seconds * 1e9)
        for key in [key for key, track in self._tracks.items() if track.stamp < oldest]:
            del self._tracks[key]

    def _find(self, frame: Frame) -> tuple[tuple[TrackKey | None, ...], NDArray[np.float64]]:
        """Keys and rotations published last of all objects."""
        detections, count = frame.detections, self._statistics.count
        keys: list[TrackKey | None] = [None] * len(detections)
        last = np.full((len(detections), 3, 3), np.nan)
        named = Counter(zip(detections.ids, detections.class_ids))
        for number, name in enumerate(zip(detections.ids, detections.class_ids)):
            if not name[0]:
                continue
            if named[name] > 1:
                count("shared_id", 1, f"id '{name[0]}' names {named[name]} detections of '{name[1]}'")
                continue
            key = (frame.frame_id, *name, frame.estimated.ray_corrected)
            track = self._tracks.get(key)
            if track is not None and track.published is not None:
                last[number] = track.published
            if track is not None and frame.stamp <= track.stamp:
                count("not_newer", 1, f"id '{name[0]}': {(track.stamp - frame.stamp) / 1e9:g} s older")
                continue
            keys[number] = key
        return tuple(keys), last

    def _fused(self, known: dict[int, Track], frame: Frame, forgetting: float) -> PoseEstimate:
        detections, estimate = frame.detections, frame.estimated
        rows, tracks = list(known), list(known.values())
        centres = self._centres[detections.object_index[rows]]
        rotations, confidences = np.array(estimate.rotations), np.array(estimate.confidences)
        own = rotations[rows, 0].astype(np.float64)
        found, shares, agreement = fuse(
            torch.stack([track.rotations for track in tracks]),
            torch.stack([track.confidences for track in tracks]),
            torch.from_numpy(rotations[rows]),
            torch.from_numpy(confidences[rows]),
            forgetting,
            self._symmetries.take(torch.from_numpy(detections.object_index[rows])),
        )
        rotations[rows], confidences[rows] = found.numpy(), shares.numpy()
        translations = estimate.translations
        if translations is not None:
            translations = np.array(translations)
            translations[rows] += np.einsum("bij,bj->bi", own - rotations[rows, 0], centres)
        for row, value in zip(rows, agreement.tolist()):
            if value < LEAST_AGREEMENT:
                self._statistics.count("track_contradicted", 1, f"id '{detections.ids[row]}': agreement {value:.3f}")
        return dataclasses.replace(estimate, rotations=rotations, confidences=confidences, translations=translations)

    def _store(self, stamp: int, estimate: PoseEstimate, keys: tuple[TrackKey | None, ...]) -> None:
        rotations = torch.from_numpy(np.asarray(estimate.rotations)).double()
        confidences = torch.from_numpy(np.asarray(estimate.confidences)).double()
        confidences = confidences / confidences.sum(dim=1, keepdim=True)
        for number, key in enumerate(keys):
            if key is not None:
                old = self._tracks.pop(key, None)
                published = None if old is None else old.published
                self._tracks[key] = Track(stamp, rotations[number], confidences[number], published)
        while len(self._tracks) > MOST_TRACKS:
            self._tracks.popitem(last=False)
