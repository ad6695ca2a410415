"""What `smoothing` gains and how much it lags: short sequences of rendered heaps through the node's own memory.

    python benchmark/smoothing.py [--bundle models/demo_parts.pose.pt] [--objects models/parts] [--json OUT]

Three kinds of sequence of each heap, the parts told apart by ids as a tracker would:

still   the camera stands; sensor noise and the noise of a detector's boxes change from frame to frame.
moving  the camera goes round the heap, `STEP` degrees a frame, with the same noise.
jump    still, then the camera stands a quarter turn round the heap: for the node every part has turned by 90°.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimate, PoseEstimator
from shared_pose_ros.evaluation import scenes
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.box_noise import BoxNoise
from shared_pose_ros.evaluation.scene_images import Studio, develop, look_at
from shared_pose_ros.evaluation.scene_layout import HeapBuilder
from shared_pose_ros.evaluation.scene_textures import GROUNDS
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.rasterizer import make_rasterizer

# Every view is taken: a part is followed where it shows as much as this in all frames.
SETTINGS = scenes.SceneSettings(visibility=(0.0, 0.0), seed=20261124)
LEAST_VISIBLE = 0.3
DISTANCE, ELEVATION = 0.68, 55.0
STEP = 3.0
NOISE = BoxNoise(miss=0.0)


@dataclass(frozen=True)
class Shot:
    """One frame: its parts as the truth has them, and the network's answer for each."""

    instances: list[Instance]
    estimate: PoseEstimate


class Heap:
    """A lit heap with a camera on a circle round it."""

    def __init__(self, objects: ObjectSet, number: int) -> None:
        self._objects, self._number = objects, number
        self._generator = np.random.default_rng([SETTINGS.seed, number])
        dice = torch.Generator().manual_seed(int(self._generator.integers(2**31)))
        chosen = self._generator.permutation(len(objects))[: SETTINGS.parts[0] + number % 3]
        self._parts = HeapBuilder(objects, radius=SETTINGS.radius).build(chosen, dice, None)
        ground = list(GROUNDS.values())[number % len(GROUNDS)](self._generator)
        bodies = scenes._bodies(objects, self._parts, None, self._generator)
        self._studio = Studio(bodies, ground, scenes._draw_lights((4, 16), self._generator), make_rasterizer())
        self._middle = np.mean([part.translation for part in self._parts], axis=0)
        self._sensor = scenes._draw_sensor(self._generator)
        self._camera = scenes._camera_matrix(SETTINGS)

    def look(self, azimuth: float) -> tuple[torch.Tensor, list[Instance]]:
        """Light `(H, W, 3)` and parts, from `azimuth` degrees; raises ValueError where a part is cut off."""
        a, e = math.radians(azimuth), math.radians(ELEVATION)
        away = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        pose = look_at(torch.from_numpy(self._middle + DISTANCE * away), torch.from_numpy(self._middle))
        view = scenes._look(self._objects, self._parts, self._studio, pose, SETTINGS)
        if view is None:
            raise ValueError(f"heap {self._number}: a part is cut off at {azimuth} degrees; raise DISTANCE")
        light = self._studio.photograph(*pose, torch.from_numpy(self._camera), SETTINGS.size)
        return light, list(view.instances)

    def shots(self, estimator: PoseEstimator, views: list[tuple[torch.Tensor, list[Instance]]]) -> Iterator[Shot]:
        """A frame of each view, with new noise each."""
        kept = set.intersection(*({i.gt_id for i in parts if i.visibility >= LEAST_VISIBLE} for _, parts in views))
        for frame, (light, parts) in enumerate(views):
            parts = [part for part in parts if part.gt_id in kept]
            image = develop(light, self._sensor, self._generator)
            boxes = [NOISE.detect(part.box, self._number, frame, part.gt_id) for part in parts]
            index = [estimator.object_index(part.class_id) for part in parts]
            yield Shot(parts, estimator.estimate(image, np.array(boxes), np.array(index), self._camera))


def sequences(estimator: PoseEstimator, objects: ObjectSet, heap: Heap, frames: int) -> dict[str, list[Shot]]:
    """The three sequences of a heap, by kind."""
    looks = [heap.look(STEP * frame) for frame in range(frames)]
    turned = heap.look(90.0)
    views = {"still": [looks[0]] * frames, "moving": looks, "jump": [looks[0]] * frames + [turned] * frames}
    return {kind: list(heap.shots(estimator, chosen)) for kind, chosen in views.items()}
