"""What `smoothing` gains and how much it lags: short sequences of rendered heaps through the node's memory.

    python benchmark/smoothing.py [--bundle models/demo_parts.pose.pt] [--objects models/parts] [--json OUT]

Three kinds of sequence of each heap, the parts told apart by ids as a tracker would:

still   the camera stands; sensor noise and the noise of a detector's boxes change from frame to frame.
moving  the camera goes round the heap, `STEP` degrees a frame, with the same noise.
jump    still, then the camera stands a quarter turn round the heap: for the node every part has turned by 90°.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from output import emit

from shared_pose_ros.estimator import PoseEstimate, PoseEstimator
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.metrics import symmetric_rotation_error
from shared_pose_ros.evaluation.protocols import DetectionNoise
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.pipeline.temporal_filter import TemporalFilter
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.scenes import clutter
from shared_pose_ros.scenes.layout import SceneBuilder
from shared_pose_ros.scenes.renderer import Studio, develop, look_at
from shared_pose_ros.scenes.textures import GROUNDS
from shared_pose_ros.training.provenance import processor_name

# Every view is taken: a part is followed where it shows as much as this in all frames.
SETTINGS = clutter.SceneSettings(visibility=(0.0, 0.0), seed=20261125)
LEAST_VISIBLE = 0.3
DISTANCE, ELEVATION = 0.68, 55.0
STEP = 3.0
NOISE = DetectionNoise(miss=0.0)
NO_IMAGE = np.zeros((1, 1, 3), np.uint8)
KINDS = "still", "moving", "jump"
SMOOTHING = 0.0, 1e-9, 0.3, 0.6, 0.8, 0.95
"""1e-9 forgets all earlier frames, but gathers each frame's own hypotheses as fusing does."""
FIRST_STEADY = 4
FLIP = 30.0
CLOSE = 5.0


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
        self._parts = SceneBuilder(objects, radius=SETTINGS.radius).build(chosen, dice, None)
        ground = list(GROUNDS.values())[number % len(GROUNDS)](self._generator)
        bodies = clutter._bodies(objects, self._parts, None, self._generator)
        self._studio = Studio(bodies, ground, clutter._draw_lights((4, 16), self._generator), make_rasterizer())
        self._middle = np.mean([part.translation for part in self._parts], axis=0)
        self._sensor = clutter._draw_sensor(self._generator)
        self._camera = clutter._camera_matrix(SETTINGS)

    def look(self, azimuth: float) -> tuple[torch.Tensor, list[Instance]]:
        """Light `(H, W, 3)` and parts, from `azimuth` degrees; raises ValueError where a part is cut off."""
        a, e = math.radians(azimuth), math.radians(ELEVATION)
        away = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        pose = look_at(torch.from_numpy(self._middle + DISTANCE * away), torch.from_numpy(self._middle))
        view = clutter._look(self._objects, self._parts, self._studio, pose, SETTINGS)
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


def sequences(estimator: PoseEstimator, heap: Heap, frames: int) -> dict[str, list[Shot]]:
    """The three sequences of a heap, by kind."""
    looks = [heap.look(STEP * frame) for frame in range(frames)]
    views = {"still": looks[:1] * frames, "moving": looks, "jump": looks[:1] * frames + [heap.look(90.0)] * frames}
    return {kind: list(heap.shots(estimator, views[kind])) for kind in KINDS}


@dataclass(frozen=True)
class Followed:
    """What was published of a sequence, `(frames, parts)`, degrees; tracks that began anew by frame."""

    error: np.ndarray
    change: np.ndarray
    from_first: np.ndarray
    turned: np.ndarray
    confidence: np.ndarray
    contradicted: np.ndarray


def follow(shots: Sequence[Shot], estimator: PoseEstimator, smoothing: float) -> Followed:
    """A sequence through the temporal filter of the node, at ten frames a second.

    `change` is the angle to the answer before, `from_first` the error against the first frame's truth, and `turned` the
    angle between the first frame's truth and this one's; all to the nearest equivalent pose.
    """
    statistics, parameters = Statistics(), NodeParameters(smoothing=smoothing)
    groups = [item.symmetries for item in estimator.metadata.objects]
    temporal_filter = TemporalFilter(estimator.metadata, SymmetryTable.from_dicts(groups), statistics)
    symmetries = [Symmetries.from_dict(group) for group in groups]
    rows: list[list[tuple[float, ...]]] = []
    published: list[torch.Tensor] = []
    contradicted = []
    for number, shot in enumerate(shots):
        names = [part.class_id for part in shot.instances]
        index = np.array([estimator.object_index(name) for name in names])
        ids = [str(part.gt_id) for part in shot.instances]
        detections = Detections(np.zeros((len(names), 4), np.float32), index, names, ids)
        frame = Frame(10**12 + number * 10**8, "camera", NO_IMAGE, detections, estimate=shot.estimate)
        before = statistics.snapshot()[0]["track_contradicted"]
        estimate = temporal_filter(frame, parameters).estimate
        contradicted.append(statistics.snapshot()[0]["track_contradicted"] - before)
        best = torch.from_numpy(estimate.rotations[:, 0]).double()
        rows.append([])
        for i, (part, first) in enumerate(zip(shot.instances, shots[0].instances)):
            group, before = symmetries[index[i]], published[-1][i] if published else best[i]
            truth, start = torch.from_numpy(part.rotation), torch.from_numpy(first.rotation)
            pairs = (best[i], truth), (best[i], before), (best[i], start), (truth, start)
            angles = [float(symmetric_rotation_error(one[None], other, group)) for one, other in pairs]
            rows[-1].append((*angles, float(estimate.confidences[i, 0])))
        published.append(best)
    return Followed(*np.array(rows).transpose(2, 0, 1), np.array(contradicted))


def steady_figures(found: Sequence[Followed], first: int) -> dict[str, float]:
    """Of all parts and frames from the `first` on."""
    error, change, confidence = (
        np.concatenate([getattr(f, name)[first:].ravel() for f in found]) for name in ("error", "change", "confidence")
    )
    return {
        "median_error": round(float(np.median(error)), 2),
        "under_15": round(float((error < 15).mean()), 4),
        "flips": round(float((change > FLIP).mean()), 4),
        "median_change": round(float(np.median(change)), 2),
        "mean_confidence": round(float(confidence.mean()), 3),
        "contradicted": int(sum(f.contradicted[first:].sum() for f in found)),
    }


def jump_figures(found: Sequence[Followed], frames: int) -> dict[str, object]:
    """Of the parts that look different by more than 45° after the jump, which is at frame `frames`."""
    parts = [f.turned[-1] > 45.0 for f in found]
    error = np.concatenate([f.error[:, chosen] for f, chosen in zip(found, parts)], axis=1)
    old = np.concatenate([f.from_first[:, chosen] for f, chosen in zip(found, parts)], axis=1)
    medians = np.median(error, axis=1)
    steady = float(np.median(error[frames + FIRST_STEADY :]))
    lag = int(np.argmax(medians[frames:] <= steady + CLOSE))
    return {
        "parts": error.shape[1],
        "median_error_by_frame": [round(float(value), 1) for value in medians[frames - 1 :]],
        "steady_error": round(steady, 2),
        "lag_frames": lag,
        "contradicted": int(sum(f.contradicted[frames] for f in found)),
        "nearer_to_old_pose": [round(float(value), 3) for value in (old < error)[frames : frames + 3].mean(axis=1)],
    }


def main() -> None:
    """Render, estimate, follow, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo_parts.pose.pt"))
    parser.add_argument("--objects", type=Path, default=Path("models/parts"))
    parser.add_argument("--heaps", type=int, default=12)
    parser.add_argument("--frames", type=int, default=10, help="of a sequence; twice as many with a jump")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    estimator, objects = PoseEstimator.load(options.bundle, "cpu"), ObjectSet.load(options.objects)
    made = [sequences(estimator, Heap(objects, number), options.frames) for number in range(options.heaps)]
    results = []
    for smoothing in SMOOTHING:
        found = {kind: [follow(heap[kind], estimator, smoothing) for heap in made] for kind in KINDS}
        results.append(
            {
                "smoothing": smoothing,
                "still": steady_figures(found["still"], FIRST_STEADY),
                "moving": steady_figures(found["moving"], FIRST_STEADY),
                "jump": jump_figures(found["jump"], options.frames),
            }
        )
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": {"processor": processor_name(), "load": round(os.getloadavg()[0], 2)},
        "torch": torch.__version__,
        "bundle": estimator.metadata.name,
        "weights_sha256": estimator.metadata.weights_sha256,
        "protocol": f"{options.heaps} heaps, {options.frames} frames a sequence ({2 * options.frames} with a jump), "
        f"figures from frame {FIRST_STEADY} on; camera at {DISTANCE} m, {STEP} degrees a frame where it moves; boxes: "
        f"{NOISE}; parts that show at least {LEAST_VISIBLE} of themselves in every frame; degrees",
        "parts": {kind: sum(len(heap[kind][0].instances) for heap in made) for kind in KINDS},
        "results": results,
    }
    emit(result, options.json)


if __name__ == "__main__":
    main()
