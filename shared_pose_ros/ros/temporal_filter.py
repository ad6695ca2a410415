"""What is remembered of each object from frame to frame: its hypotheses, and the orientation published last.

An object is followed by what its detection says: (frame_id, id, class_id), with or without camera_info. Detections
without an id, and ids that two detections of a class share in one array, are answered frame by frame. Times are the
stamps of the images. A track ends

- after `track_timeout_seconds` without its object,
- where a frame is older than the newest one by more than `time_jump_seconds` (a bag loop): all tracks end,
- where the new frame contradicts it (`geometry.fusion`): it begins anew with that frame,
- when more than `MOST_TRACKS` are followed: the one that was seen least lately goes,
- by `clear`.

A frame that is not newer than an object's track (out of order, or a second detector's on the same image) is answered as
the network answered it and changes nothing.

Tracks are updated in the worker's thread and cleared from others; one lock guards them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.fusion import LEAST_AGREEMENT, fuse
from shared_pose_ros.ros.messages.detections import Objects, nanoseconds

Key = tuple[str, str, str, bool]
MOST_TRACKS = 1024


@dataclass
class Track:
    """One object: its newest stamp (ns), hypotheses (n, 3, 3) and confidences (n), the rotation published last."""

    stamp: int
    rotations: Tensor
    confidences: Tensor
    published: Optional[np.ndarray] = None


@dataclass(frozen=True)
class Tracked:
    """How a frame's B objects hang together with the tracks.

    Attributes:
        keys: (B) of the tracks that the frame continues or begins, None for the other objects.
        last: the rotation published last ``(B, 3, 3)``, NaN where there is none.
        notes: counters with reasons.
    """

    keys: list[Optional[Key]]
    last: np.ndarray
    notes: list[tuple[str, str]]

    @property
    def followed(self) -> bool:
        """Whether any object has a track, so that `Tracks.remember` has something to note."""
        return any(key is not None for key in self.keys)


class Tracks:
    """The tracks of one node, of a bundle's objects."""

    def __init__(self, metadata: Any) -> None:
        """`metadata`: of the bundle."""
        self._symmetries = SymmetryTable.from_dicts([item.symmetries for item in metadata.objects])
        self._centres = np.array([item.centre for item in metadata.objects], dtype=np.float64)
        self._tracks: OrderedDict[Key, Track] = OrderedDict()
        self._newest: Optional[int] = None
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

    def update(self, header: Any, objects: Objects, estimate: Any, settings: SimpleNamespace) -> tuple[Any, Tracked]:
        """Continue the tracks with a frame; its hypotheses are fused with theirs where `smoothing` is above 0.

        Args:
            header: the image's.
            objects: B usable detections.
            estimate: the PoseEstimate of these objects.
            settings: the node's parameters smoothing, track_timeout_seconds, time_jump_seconds and
                symmetric_representative.

        Returns:
            The estimate to publish, and what it has to do with the tracks. Positions hold the centre of the CAD's box.
        """
        tracked = Tracked([None] * len(objects.ids), np.full((len(objects.ids), 3, 3), np.nan), [])
        if settings.smoothing == 0.0 and settings.symmetric_representative != "last":
            self.clear()
            return estimate, tracked
        with self._lock:
            stamp = nanoseconds(header)
            self._end_old(stamp, settings)
            known = self._find(header.frame_id, stamp, objects, estimate.ray_corrected, tracked)
            if known and settings.smoothing > 0.0:
                estimate = self._fused(known, objects, estimate, settings.smoothing, tracked)
            self._store(stamp, estimate, tracked)
        return estimate, tracked

    def remember(self, tracked: Tracked, rotations: np.ndarray) -> None:
        """Note what was published of a frame: the rotation of each object's first hypothesis ``(B, 3, 3)``."""
        with self._lock:
            for key, rotation in zip(tracked.keys, rotations):
                if key in self._tracks:
                    self._tracks[key].published = rotation

    def _end_old(self, stamp: int, settings: SimpleNamespace) -> None:
        if self._newest is not None and stamp < self._newest - int(settings.time_jump_seconds * 1e9):
            self._tracks.clear()
            self._newest = None
        self._newest = stamp if self._newest is None else max(stamp, self._newest)
        oldest = stamp - int(settings.track_timeout_seconds * 1e9)
        for key in [key for key, track in self._tracks.items() if track.stamp < oldest]:
            del self._tracks[key]

    def _find(
        self, frame_id: str, stamp: int, objects: Objects, ray_corrected: bool, tracked: Tracked
    ) -> dict[int, Track]:
        """The tracks that the frame continues, by number of the object; fills keys, last and notes."""
        known = {}
        names = Counter(zip(objects.ids, objects.class_ids))
        for number, name in enumerate(zip(objects.ids, objects.class_ids)):
            if not name[0]:
                continue
            if names[name] > 1:
                tracked.notes.append(("shared_id", f"id '{name[0]}' names {names[name]} detections of '{name[1]}'"))
                continue
            key = (frame_id, *name, ray_corrected)
            track = self._tracks.get(key)
            if track is not None and track.published is not None:
                tracked.last[number] = track.published
            if track is not None and stamp <= track.stamp:
                tracked.notes.append(("not_newer", f"id '{name[0]}': {(track.stamp - stamp) / 1e9:g} s older"))
                continue
            tracked.keys[number] = key
            if track is not None:
                known[number] = track
        return known

    def _fused(
        self, known: dict[int, Track], objects: Objects, estimate: Any, forgetting: float, tracked: Tracked
    ) -> Any:
        rows, tracks = list(known), list(known.values())
        centres = self._centres[objects.object_index[rows]]
        rotations, confidences = np.array(estimate.rotations), np.array(estimate.confidences)
        own = rotations[rows, 0].astype(np.float64)
        found, shares, agreement = fuse(
            torch.stack([track.rotations for track in tracks]),
            torch.stack([track.confidences for track in tracks]),
            torch.from_numpy(rotations[rows]),
            torch.from_numpy(confidences[rows]),
            forgetting,
            self._symmetries.take(torch.from_numpy(objects.object_index[rows])),
        )
        rotations[rows], confidences[rows] = found.numpy(), shares.numpy()
        translations = estimate.translations
        if translations is not None:
            translations = np.array(translations)
            translations[rows] += np.einsum("bij,bj->bi", own - rotations[rows, 0], centres)
        for row, value in zip(rows, agreement.tolist()):
            if value < LEAST_AGREEMENT:
                tracked.notes.append(("track_contradicted", f"id '{objects.ids[row]}': agreement {value:.3f}"))
        changes = {"rotations": rotations, "confidences": confidences, "translations": translations}
        return dataclasses.replace(estimate, **changes)

    def _store(self, stamp: int, estimate: Any, tracked: Tracked) -> None:
        rotations = torch.from_numpy(np.asarray(estimate.rotations)).double()
        confidences = torch.from_numpy(np.asarray(estimate.confidences)).double()
        confidences = confidences / confidences.sum(dim=1, keepdim=True)
        for number, key in enumerate(tracked.keys):
            if key is not None:
                old = self._tracks.pop(key, None)
                published = None if old is None else old.published
                self._tracks[key] = Track(stamp, rotations[number], confidences[number], published)
        while len(self._tracks) > MOST_TRACKS:
            self._tracks.popitem(last=False)
