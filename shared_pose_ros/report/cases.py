"""Pictures of a report: zoomed best, median and worst cases, and whole frames, with both poses' outlines.

Convention: images ``(H, W, 3)`` uint8 RGB, pixel centres at integers; metres, X_cam = R X_model + t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from shared_pose_ros.evaluation.bop import BopDataset, Instance
from shared_pose_ros.evaluation.instance_scoring import Evaluation, InstanceResult
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.html_page import Picture
from shared_pose_ros.report.overlays import ESTIMATE_COLOUR, TRUTH_COLOUR, DrawnPose, draw_poses
from shared_pose_ros.report.residual_rotations import Residual, describe, residuals

CASES = {"worst": 12, "median": 6, "best": 6}
SIDE = 256  # pixels of a zoomed crop
_MARGIN = 1.3
_LARGEST = 2.0  # the estimate may widen the crop to so many times the truth's


@dataclass(frozen=True)
class ShownFrame:
    """What pictures need of an image.

    Attributes:
        image: reads it, ``(H, W, 3)`` uint8 RGB.
        camera: K ``(3, 3)``.
        truths: annotations by ``gt_id``.
    """

    image: Callable[[], np.ndarray]
    camera: np.ndarray
    truths: Mapping[int, Instance]


Frames = Mapping[tuple[int, int], ShownFrame]


def dataset_frames(dataset: BopDataset) -> Frames:
    """The frames of a dataset by (scene_id, im_id)."""
    return {
        (frame.scene_id, frame.image_id): ShownFrame(frame.image, frame.camera, {i.gt_id: i for i in frame.instances})
        for frame in dataset.frames
    }


def gallery(evaluation: Evaluation, dataset: BopDataset, scorer: PoseScorer, limit: int = 12) -> list[Picture]:
    """Frames of a dataset with the truth (green) and the first hypotheses (orange), spread over the dataset."""
    frames = dataset_frames(dataset)
    by_frame: dict[tuple[int, int], list[InstanceResult]] = {key: [] for key in frames}
    for result in evaluation.instances:
        if (result.scene_id, result.im_id) in by_frame:
            by_frame[result.scene_id, result.im_id].append(result)
    scored = [key for key, results in by_frame.items() if results]
    pictures = []
    for scene_id, im_id in (scored[i] for i in spread_over(len(scored), limit)):
        results = by_frame[scene_id, im_id]
        labels = [f"{result.class_id}: {result.rotation_deg:.0f} deg" for result in results]
        image = frame_image(frames[scene_id, im_id], results, labels, scorer)
        mean = np.mean([result.score for result in results])
        pictures.append(
            Picture(image, f"scene {scene_id}, image {im_id}: mean {evaluation.score_name} {100 * mean:.0f} %")
        )
    return pictures


def spread_over(count: int, limit: int) -> list[int]:
    """At most ``limit`` of the indices 0…count−1, the first and the last among them, evenly spread."""
    if not count:
        return []
    return sorted({round(place) for place in np.linspace(0, count - 1, min(limit, count)).tolist()})


def frame_image(
    frame: ShownFrame, results: Sequence[InstanceResult], labels: Sequence[str], scorer: PoseScorer
) -> np.ndarray:
    """A whole frame ``(H, W, 3)`` with both poses of its results; the estimates are labelled."""
    drawn = [pose for pair in zip(results, labels) for pose in _both_poses(pair[0], frame, scorer, pair[1])]
    return draw_poses(frame.image(), frame.camera, drawn, scorer.meshes, scorer.rasterizer)


def select_cases(
    results: Sequence[InstanceResult], counts: Mapping[str, int] = CASES
) -> dict[str, list[InstanceResult]]:
    """The worst, median and best results by score, equal scores by rotation error; none stands in two lists.

    Args:
        results: of an evaluation; those that a detector missed are left out.
        counts: greatest number of each of ``worst``, ``median`` and ``best``; fewer where there are few results.

    Returns:
        Lists by the same names, the worst and the best first.
    """
    answered = (result for result in results if result.detected)
    ranked = sorted(answered, key=lambda r: (r.score, -r.rotation_deg, r.scene_id, r.im_id, r.gt_id))
    third = max(len(ranked) // 3, 1)
    worst, median, best = (min(counts[name], third) for name in ("worst", "median", "best"))
    first, rest = ranked[:worst], ranked[worst:]
    last = rest[max(len(rest) - best, 0) :] if best else []
    between = rest[: len(rest) - len(last)]
    # The middle of all results, moved as far as the other lists need.
    start = min(max((len(ranked) - median) // 2 - worst, 0), max(len(between) - median, 0))
    return {"worst": first, "median": between[start : start + median], "best": last[::-1]}


def case_pictures(evaluation: Evaluation, frames: Frames, scorer: PoseScorer) -> dict[str, list[Picture]]:
    """Pictures of the worst, median and best cases: the crop as it is, and with both poses' outlines.

    Args:
        evaluation: whose cases.
        frames: the images; results of frames that are not among them are left out.
        scorer: the CAD.

    Returns:
        Pictures ``(SIDE, 2 SIDE, 3)`` by ``worst``, ``median`` and ``best``.
    """
    known = [r for r in evaluation.instances if r.gt_id in _truths(frames, r)]
    cases = select_cases(known)
    rotations = {id(r): d for chosen in cases.values() for r, d in zip(chosen, residuals(chosen, scorer.objects))}
    return {
        name: [
            Picture(
                _case_image(result, frames[result.scene_id, result.im_id], scorer),
                case_caption(result, evaluation.score_name, rotations[id(result)]),
            )
            for result in chosen
        ]
        for name, chosen in cases.items()
    }


def case_caption(result: InstanceResult, score_name: str, residual: Residual | None) -> str:
    """Object, place, score, error and its name, visibility, confidence in one line."""
    said = describe(residual) if residual else ""
    return (
        f"{result.class_id}: {score_name} {100 * result.score:.0f} %, rotation error {result.rotation_deg:.0f}°"
        f"{f' ({said})' if said else ''}, {100 * result.visib:.0f} % visible, "
        f"confidence {100 * result.confidence:.0f} %; scene {result.scene_id}, image {result.im_id}, "
        f"instance {result.gt_id}"
    )


def zoom(image: np.ndarray, camera: np.ndarray, region: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A square of an image at SIDE pixels, and the camera that sees it; outside the image it is black.

    Args:
        image: ``(H, W, 3)`` uint8.
        camera: K ``(3, 3)``.
        region: first column, first row and side of the square, pixels; it may leave the image.
    """
    x0, y0, side = region
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), dtype=np.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + side, width), min(y0 + side, height)
    if right > left and bottom > top:
        square[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    way = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    # Pixel edges, half a pixel before the centres, are what scales.
    scale = SIDE / side
    moved = np.array([[scale, 0.0, (0.5 - x0) * scale - 0.5], [0.0, scale, (0.5 - y0) * scale - 0.5], [0.0, 0.0, 1.0]])
    return cv2.resize(square, (SIDE, SIDE), interpolation=way), moved @ np.asarray(camera, dtype=np.float64)


def _case_image(result: InstanceResult, frame: ShownFrame, scorer: PoseScorer) -> np.ndarray:
    poses = _both_poses(result, frame, scorer)
    corners = [_projected(scorer.objects[pose.object_index].mesh.vertices, frame.camera, pose) for pose in poses]
    crop, camera = zoom(frame.image(), frame.camera, _region(*corners))
    drawn = draw_poses(crop, camera, poses, scorer.meshes, scorer.rasterizer)
    return np.concatenate([crop, drawn], axis=1)


def _region(truth: np.ndarray, estimate: np.ndarray) -> tuple[int, int, int]:
    """Square around the pixels ``(n, 2)`` of the truth, widened to hold the estimate's within limits."""
    low, high = truth.min(axis=0), truth.max(axis=0)
    centre, extent = (low + high) / 2.0, (high - low).max()
    reach = np.abs(estimate - centre).max() if len(estimate) else 0.0
    side = math.ceil(_MARGIN * min(max(extent, 2.0 * reach), _LARGEST * extent)) + 1
    x0, y0 = np.floor(centre - side / 2.0 + 0.5).astype(int).tolist()
    return x0, y0, side


def _projected(vertices: np.ndarray, camera: np.ndarray, pose: DrawnPose) -> np.ndarray:
    """Pixels ``(n, 2)`` of the vertices that lie in front of the camera."""
    seen = vertices.astype(np.float64) @ pose.rotation.T + pose.translation
    seen = seen[seen[:, 2] > 1e-3] @ np.asarray(camera, dtype=np.float64).T
    return np.asarray(seen[:, :2] / seen[:, 2:])


def _both_poses(result: InstanceResult, frame: ShownFrame, scorer: PoseScorer, label: str = "") -> list[DrawnPose]:
    """The truth and over it the estimate with its label, if there is one."""
    truth, index = frame.truths[result.gt_id], scorer.objects.place(result.class_id)
    rotation, translation = np.array(result.rotation).reshape(3, 3), np.array(result.translation)
    poses = [DrawnPose(index, truth.rotation, truth.translation, TRUTH_COLOUR)]
    return [*poses, DrawnPose(index, rotation, translation, ESTIMATE_COLOUR, label)] if result.detected else poses


def _truths(frames: Frames, result: InstanceResult) -> Mapping[int, Instance]:
    frame = frames.get((result.scene_id, result.im_id))
    return frame.truths if frame else {}
