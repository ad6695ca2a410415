"""What `smoothing` and `refine_memory` gain and how much they lag, in short sequences of rendered heaps.

    python benchmark/smoothing.py [--bundle models/demo_parts.pose.pt] [--objects models/parts] [--json OUT]

The sequences go through the node's stages after the estimate. Three kinds of each heap, its parts with a tracker's ids:

still   the camera stands; sensor noise and the noise of a detector's boxes change from frame to frame.
moving  the camera goes round the heap, `STEP` degrees a frame, with the same noise.
jump    still, then the camera stands a quarter turn round the heap: for the node every part has turned by 90°.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from output import emit

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.metrics import symmetric_rotation_error
from shared_pose_ros.evaluation.protocols import DetectionNoise
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline
from shared_pose_ros.pipeline.statistics import Statistics
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
KINDS = "still", "moving", "jump"
SMOOTHING = 0.0, 1e-9, 0.3, 0.6, 0.8, 0.95
"""1e-9 forgets all earlier frames, but gathers each frame's own hypotheses as fusing does."""
REFINED_SMOOTHING = 0.0, 0.6
TRIED: Sequence[Mapping[str, Any]] = (
    *({"smoothing": smoothing, "refine": 0} for smoothing in SMOOTHING),
    *(
        {"smoothing": smoothing, "refine": 1, "refine_memory": memory}
        for smoothing in REFINED_SMOOTHING
        for memory in (False, True)
    ),
)
"""Parameters of the node."""
PLAIN = len(SMOOTHING)
"""The one with refinement alone, which times are relative to."""
FIRST_STEADY = 4
FLIP = 30.0
CLOSE = 5.0


@dataclass(frozen=True)
class Shot:
    """One frame with the network's answers, and its parts as the truth has them."""

    instances: list[Instance]
    frame: Frame


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
        for number, (light, parts) in enumerate(views):
            parts = [part for part in parts if part.gt_id in kept]
            image = develop(light, self._sensor, self._generator)
            boxes = np.array([NOISE.detect(part.box, self._number, number, part.gt_id) for part in parts])
            names = [part.class_id for part in parts]
            index = np.array([estimator.object_index(name) for name in names])
            detections = Detections(boxes.astype(np.float32), index, names, [str(part.gt_id) for part in parts])
            estimate = estimator.estimate(image, boxes, index, self._camera)
            # Ten frames a second.
            stamp = 10**12 + number * 10**8
            yield Shot(parts, Frame(stamp, "camera", image, detections, self._camera, estimate=estimate))


def sequences(estimator: PoseEstimator, heap: Heap, frames: int) -> dict[str, list[Shot]]:
    """The three sequences of a heap, by kind."""
    looks = [heap.look(STEP * frame) for frame in range(frames)]
    views = {"still": looks[:1] * frames, "moving": looks, "jump": looks[:1] * frames + [heap.look(90.0)] * frames}
    return {kind: list(heap.shots(estimator, views[kind])) for kind in KINDS}


@dataclass(frozen=True)
class Followed:
    """What was published of a sequence, `(frames, parts)`, degrees; by frame the tracks that began anew, seconds."""

    error: np.ndarray
    change: np.ndarray
    from_first: np.ndarray
    turned: np.ndarray
    confidence: np.ndarray
    contradicted: np.ndarray
    seconds: np.ndarray


def follow(shots: Sequence[Shot], pipeline: PosePipeline, statistics: Statistics, tried: Mapping[str, Any]) -> Followed:
    """A sequence through the node's stages after the estimate.

    `change` is the angle to the answer before, `from_first` the error against the first frame's truth, and `turned` the
    angle between the first frame's truth and this one's; all to the nearest equivalent pose.
    """
    parameters = NodeParameters.of(tried)
    symmetries = [Symmetries.from_dict(item.symmetries) for item in pipeline.estimator.metadata.objects]
    rows: list[list[tuple[float, ...]]] = []
    published: list[torch.Tensor] = []
    contradicted, seconds = [], []
    pipeline.temporal_filter.clear()
    for shot in shots:
        frame = shot.frame
        before = statistics.snapshot()[0]["track_contradicted"]
        start = time.process_time()
        for stage in pipeline.stages[1:]:
            frame = stage(frame, parameters)
        seconds.append(time.process_time() - start)
        contradicted.append(statistics.snapshot()[0]["track_contradicted"] - before)
        best = torch.from_numpy(frame.poses.rotations[:, 0])
        rows.append([])
        for i, (part, first) in enumerate(zip(shot.instances, shots[0].instances)):
            group = symmetries[frame.detections.object_index[i]]
            before = published[-1][i] if published else best[i]
            truth, start = torch.from_numpy(part.rotation), torch.from_numpy(first.rotation)
            pairs = (best[i], truth), (best[i], before), (best[i], start), (truth, start)
            angles = [float(symmetric_rotation_error(one[None], other, group)) for one, other in pairs]
            rows[-1].append((*angles, float(frame.poses.confidences[i, 0])))
        published.append(best)
    return Followed(*np.array(rows).transpose(2, 0, 1), np.array(contradicted), np.array(seconds))


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


def time_figures(found: Mapping[str, Sequence[Followed]], plain: Mapping[str, Sequence[Followed]]) -> dict[str, float]:
    """Milliseconds for one frame, and the ratio to what the same frame took with `PLAIN`: medians."""
    taken, reference = (
        np.concatenate([f.seconds[FIRST_STEADY:] for kind in ("still", "moving") for f in one[kind]])
        for one in (found, plain)
    )
    ratio = float(np.median(taken / reference))
    return {"frame_ms": round(1e3 * float(np.median(taken)), 2), "frame_time_ratio": round(ratio, 3)}


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


def measured(
    estimator: PoseEstimator, objects: ObjectSet, heaps: range, frames: int
) -> tuple[dict[str, int], list[dict[str, list[Followed]]]]:
    """Parts by kind of sequence; and of each of `TRIED`, by kind, what was published of each heap."""
    statistics = Statistics()
    pipeline = PosePipeline(estimator, 1, statistics)
    pipeline.refinement.prepare(NodeParameters())
    found: list[dict[str, list[Followed]]] = [{kind: [] for kind in KINDS} for _ in TRIED]
    parts = dict.fromkeys(KINDS, 0)
    for number in heaps:
        for kind, shots in sequences(estimator, Heap(objects, number), frames).items():
            parts[kind] += len(shots[0].instances)
            for tried, by_kind in zip(TRIED, found):
                by_kind[kind].append(follow(shots, pipeline, statistics, tried))
    return parts, found


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
    parts, found = measured(estimator, objects, range(options.heaps), options.frames)
    results = [
        {
            **tried,
            "still": steady_figures(by_kind["still"], FIRST_STEADY),
            "moving": steady_figures(by_kind["moving"], FIRST_STEADY),
            "jump": jump_figures(by_kind["jump"], options.frames),
            **time_figures(by_kind, found[PLAIN]),
        }
        for tried, by_kind in zip(TRIED, found)
    ]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": {"processor": processor_name(), "load": round(os.getloadavg()[0], 2)},
        "torch": torch.__version__,
        "bundle": estimator.metadata.name,
        "weights_sha256": estimator.metadata.weights_sha256,
        "protocol": f"{options.heaps} heaps, {options.frames} frames a sequence ({2 * options.frames} with a jump), "
        f"figures from frame {FIRST_STEADY} on; camera at {DISTANCE} m, {STEP} degrees a frame where it moves; boxes: "
        f"{NOISE}; parts that show at least {LEAST_VISIBLE} of themselves in every frame; degrees; "
        "frame_ms: processor time of the stages after the estimate; "
        f"frame_time_ratio: to that with {dict(TRIED[PLAIN])}",
        "parts": parts,
        "results": results,
    }
    emit(result, options.json)


if __name__ == "__main__":
    main()
