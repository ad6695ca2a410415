"""Drawings of the poses published for a bag that has no truth to score by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.drawing import draw_estimates
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.html_page import Picture
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay.scoring import PICTURES
from shared_pose_ros.replay.truth import FrameResponse


class Album:
    """Drawings spread over a bag of unknown length: every second one is dropped when there are too many.

    Args:
        meshes: by ``object_index``; empty for none.
    """

    def __init__(self, meshes: Sequence[DisplayMesh | None]) -> None:
        self.pictures: list[Picture] = []
        self._meshes = meshes
        self._step, self._count = 1, 0

    def show(
        self,
        load: Callable[[], NDArray[np.uint8]],
        boxes: NDArray[np.float32],
        object_index: NDArray[np.int64],
        poses: PublishedPoses,
        camera: NDArray[np.floating[Any]] | None,
    ) -> None:
        """Draw a frame's poses, if it is one of those to show.

        Args:
            load: gives the image ``(H, W, 3)`` uint8 RGB.
            boxes: ``(B, 4)``.
            object_index: ``(B,)``, of the meshes.
            poses: of the B objects.
            camera: K ``(3, 3)``; None, or unknown positions: boxes and axes instead of outlines.
        """
        if self._count % self._step == 0:
            picture = draw_estimates(load(), boxes, poses.class_ids, poses.first(), object_index, self._meshes, camera)
            self.pictures.append(Picture(picture, f"frame {self._count}, stamp {poses.stamp} ns"))
            if len(self.pictures) > PICTURES:
                self.pictures, self._step = self.pictures[::2], 2 * self._step
        self._count += 1


def response_pictures(frames: Sequence[FrameResponse], models: Path | None) -> list[Picture]:
    """Drawings of a running node's responses, with outlines where the CAD is given."""
    names = sorted({name for frame in frames for name in frame.poses.class_ids})
    numbers = {name: number for number, name in enumerate(names)}
    meshes: list[DisplayMesh | None] = []
    if models is not None:
        objects = ObjectSet.load(models)
        places = [objects.index(name) for name in names]
        meshes = [None if place is None else display_mesh(objects[place].mesh) for place in places]
    album = Album(meshes)
    for frame in frames:
        index = np.array([numbers[name] for name in frame.poses.class_ids], dtype=np.int64)
        album.show(frame.load, frame.boxes, index, frame.poses, frame.camera)
    return album.pictures
