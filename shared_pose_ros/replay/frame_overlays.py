"""Pictures of what was answered for a bag that has no truth to score by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.drawing import draw_estimates
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.html_page import Picture
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.replay.responses import Answers
from shared_pose_ros.replay.scoring import PICTURES
from shared_pose_ros.ros.messages.detections import Objects
from shared_pose_ros.ros.messages.poses import published_estimate


class Album:
    """Pictures spread over a bag of unknown length: every second one is dropped when there are too many."""

    def __init__(self, meshes: Sequence[DisplayMesh | None]) -> None:
        """`meshes`: by object_index; empty for none."""
        self.pictures: list[Picture] = []
        self._meshes = meshes
        self._step, self._count = 1, 0

    def show(
        self, load: Callable[[], np.ndarray], objects: Objects, message: Any, camera: np.ndarray | None, stamp: int
    ) -> None:
        """Draw a frame's estimates, if it is its turn.

        Args:
            load: gives the image ``(H, W, 3)`` uint8 RGB.
            objects: the answered ones.
            message: the Detection3DArray that answers them.
            camera: K ``(3, 3)``; None, or unknown positions: boxes and axes instead of outlines.
            stamp: of the image, ns.
        """
        if self._count % self._step == 0:
            picture = draw_estimates(
                load(), objects.boxes, objects.class_ids, published_estimate(message), objects.object_index,
                self._meshes, camera,
            )  # fmt: skip
            self.pictures.append(Picture(picture, f"frame {self._count}, stamp {stamp} ns"))
            if len(self.pictures) > PICTURES:
                self.pictures, self._step = self.pictures[::2], 2 * self._step
        self._count += 1


def answer_pictures(answers: Answers, models: Path | None) -> list[Picture]:
    """Pictures of a running node's answers, with outlines where the CAD is given."""
    names = sorted({name for frame in answers.frames for name in frame.class_ids})
    numbers = {name: number for number, name in enumerate(names)}
    meshes: list[DisplayMesh | None] = []
    if models is not None:
        objects = ObjectSet.load(models)
        places = [objects.index(name) for name in names]
        meshes = [None if place is None else display_mesh(objects[place].mesh) for place in places]
    album = Album(meshes)
    for frame, message in zip(answers.frames, answers.messages):
        index = np.array([numbers[name] for name in frame.class_ids], dtype=np.int64)
        shown = Objects(frame.boxes, index, list(frame.class_ids), list(frame.ids), [])
        album.show(frame.load, shown, message, frame.camera, frame.stamp)
    return album.pictures
