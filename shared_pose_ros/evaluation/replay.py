"""A bag with ground truth: frames in, figures out. The demo scores the node's poses with it, live or without ROS.

A bag for it holds, for each image, camera_info, the detections (visible boxes, exact) and the ground truth of all parts
in the scene, detected or not, all with the image's stamp and frame. Ids tie detections to the truth; the score of a
truth is its visible fraction.

Convention: metres, R_m2c, boxes (cx, cy, w, h) in pixels, images ``(H, W, 3)`` uint8 RGB, stamps in nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation import bag
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.evaluate import (
    RENDERED_DEPTH,
    Candidates,
    Chance,
    Evaluation,
    InstanceResult,
    score_instance,
)
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.evaluation.report import ESTIMATE_COLOUR, TRUTH_COLOUR, DrawnPose, draw_poses
from shared_pose_ros.evaluation.report_cases import Frames, ShownFrame
from shared_pose_ros.evaluation.scenes import SceneFrame
from shared_pose_ros.evaluation.scoring import PoseScorer, View
from shared_pose_ros.geometry.rotations import rotation_from_quaternion
from shared_pose_ros.html_page import Picture

IMAGE_TOPIC = "/camera/image/compressed"
CAMERA_INFO_TOPIC = "/camera/camera_info"
DETECTIONS_TOPIC = "/detections"
TRUTH_TOPIC = "/ground_truth"
FRAME_ID = "camera_optical_frame"
JPEG_QUALITY = 90
_START_NS = 1_767_225_600_000_000_000  # of recorded stamps: 1 January 2026, 0:00 UTC
_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class BagFrame:
    """One image of a bag and what belongs to it.

    Attributes:
        stamp: nanoseconds.
        image: ``(H, W, 3)`` uint8 RGB.
        camera: K ``(3, 3)``.
        boxes: visible box ``(4,)`` by id, of the detected parts.
        truth: every part of the scene by id.
        messages: the image's, camera_info's and detections' messages as recorded, by topic.
    """

    stamp: int
    image: np.ndarray
    camera: np.ndarray
    boxes: Mapping[str, np.ndarray]
    truth: Mapping[str, Instance]
    messages: Mapping[str, bag.BagMessage]


def write_scenes(path: str | Path, frames: Iterable[SceneFrame]) -> int:
    """Record scenes as a 10 Hz bag (mcap); returns the number of images. Raises BagError if the folder exists."""
    count = 0
    with bag.BagWriter(path) as writer:
        for count, frame in enumerate(frames, start=1):
            stamp = _START_NS + count * _PERIOD_NS
            height, width = frame.image.shape[:2]
            names = [f"heap {frame.scene_id} part {instance.gt_id}" for instance in frame.instances]
            seen = [
                bag.Detection(instance.class_id, name, box=instance.box)
                for name, instance in zip(names, frame.instances)
            ]
            known = [
                bag.Detection(i.class_id, name, i.visibility, rotation=i.rotation, translation=i.translation)
                for name, i in zip(names, frame.instances)
            ]
            info = bag.camera_info_message(frame.camera, (height, width), stamp, FRAME_ID)
            writer.write(CAMERA_INFO_TOPIC, info, stamp)
            writer.write(IMAGE_TOPIC, _jpeg_message(frame.image, stamp), stamp)
            writer.write(DETECTIONS_TOPIC, bag.detections_2d_message(seen, stamp, FRAME_ID), stamp)
            writer.write(TRUTH_TOPIC, bag.detections_3d_message(known, stamp, FRAME_ID), stamp)
    return count


def read_frames(path: str | Path) -> list[BagFrame]:
    """All images of a bag that has detections, camera_info and ground truth for them, in order.

    Raises:
        BagError: not a readable bag, or one without these topics.
    """
    needed = (IMAGE_TOPIC, CAMERA_INFO_TOPIC, DETECTIONS_TOPIC, TRUTH_TOPIC)
    missing = [topic for topic in needed if topic not in bag.bag_topics(path)]
    if missing:
        raise bag.BagError(f"{path} has no {', '.join(missing)}; give a bag written by tools/make_demo_bag.py")
    by_stamp: dict[int, dict[str, tuple[bag.BagMessage, Any]]] = {}
    for record in bag.read_bag(path, needed):
        message = record.message()
        by_stamp.setdefault(bag.stamp_ns(message), {})[record.topic] = record, message
    complete = {stamp: found for stamp, found in sorted(by_stamp.items()) if len(found) == len(needed)}
    if not complete:
        raise bag.BagError(f"{path}: no image has camera_info, detections and truth of its stamp; record it anew")
    return [_read_frame(stamp, found) for stamp, found in complete.items()]


def estimate_frames(estimator: PoseEstimator, frames: Sequence[BagFrame]) -> dict[int, dict[str, Candidates]]:
    """What the node would publish, by stamp and id, computed here; classes that the bundle lacks are left out."""
    found: dict[int, dict[str, Candidates]] = {}
    for frame in frames:
        known = {name: estimator.object_index(frame.truth[name].class_id) for name in frame.boxes}
        names = [name for name, index in known.items() if index is not None]
        boxes = np.array([frame.boxes[name] for name in names]).reshape(-1, 4)
        indices = np.array([known[name] for name in names], dtype=np.int64)
        estimate = estimator.estimate(frame.image, boxes, indices, frame.camera)
        found[frame.stamp] = {
            name: Candidates(
                estimate.rotations[i].astype(np.float64),
                np.broadcast_to(estimate.translations[i], (estimate.rotations.shape[1], 3)),
                float(estimate.confidences[i, 0]),
            )
            for i, name in enumerate(names)
        }
    return found


def score_frames(
    frames: Sequence[BagFrame],
    poses: Mapping[int, Mapping[str, Candidates]],
    scorer: PoseScorer,
    protocol: Protocol,
    system: str,
    data: str,
    chance: Chance | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score poses of a bag's detections against its ground truth.

    Args:
        frames: of ``read_frames``.
        poses: hypotheses by stamp and id, best first.
        scorer: the CAD.
        protocol: with the translation from ground truth, the hypotheses' own are not looked at.
        system: what was evaluated.
        data: the bag's name, for the protocol line.
        chance: the random rotations; 20 an instance by default.
        progress: called with (frames done, frames).

    Raises:
        ValueError: no detection has poses.
    """
    chance = chance or Chance()
    results: list[InstanceResult] = []
    skipped: Counter[str] = Counter()
    for number, frame in enumerate(frames):
        size = frame.image.shape[:2]
        view = View(frame.camera, size, scorer.depth(list(frame.truth.values()), frame.camera, size))
        answers = poses.get(frame.stamp, {})
        for name in frame.boxes:
            truth = frame.truth[name]
            if truth.visibility < protocol.visibility_min:
                skipped["outside_protocol"] += 1
            elif name not in answers:
                skipped["without_poses"] += 1
            else:
                results += score_instance(scorer, view, truth, (0, number), [answers[name]], protocol, chance)
        if progress:
            progress(number + 1, len(frames))
    if not results:
        raise ValueError(f"nothing to score in {data}: detections left out: {dict(skipped)}")
    data_line = f"{data}, {len(frames)} images"
    line = protocol.line(data_line, True, f"{RENDERED_DEPTH} of all parts", scorer.cad, str(chance))
    return Evaluation(system, protocol.name, protocol.score, line, True, tuple(results), dict(skipped))


def picture_frames(
    frames: Sequence[BagFrame], evaluation: Evaluation, scorer: PoseScorer, limit: int = 10
) -> list[Picture]:
    """Frames spread over the bag with the truth (green) and the first hypotheses (orange) drawn over them."""
    picks = np.unique(np.linspace(0, len(frames) - 1, min(limit, len(frames))).round().astype(int))
    pictures = []
    for number in picks.tolist():
        frame = frames[number]
        truths = {truth.gt_id: truth for truth in frame.truth.values()}
        results = [result for result in evaluation.instances if result.im_id == number]
        drawn = []
        for result in results:
            truth, index = truths[result.gt_id], scorer.objects.index(result.class_id)
            estimate = Candidates(np.array(result.rotation).reshape(1, 3, 3), np.array([result.translation]), 1.0)
            label = f"{result.class_id} {result.rotation_deg:.0f}"
            drawn.append(DrawnPose(index, truth.rotation, truth.translation, TRUTH_COLOUR))
            drawn.append(DrawnPose(index, estimate.rotations[0], estimate.translations[0], ESTIMATE_COLOUR, label))
        image = draw_poses(frame.image, frame.camera, drawn, scorer.meshes, scorer.rasterizer)
        mean = np.mean([result.score for result in results]) if results else float("nan")
        angles = ", ".join(f"{result.class_id} {result.rotation_deg:.0f}°" for result in results)
        caption = f"frame {number}: mean {evaluation.score_name} {100 * mean:.0f} %; rotation errors {angles}"
        pictures.append(Picture(image, caption))
    return pictures


def shown_frames(frames: Sequence[BagFrame]) -> Frames:
    """The frames of a bag as the report's cases ask for them, by the (scene_id, im_id) of ``score_frames``."""
    return {
        (0, number): ShownFrame(
            lambda frame=frame: frame.image, frame.camera, {t.gt_id: t for t in frame.truth.values()}
        )
        for number, frame in enumerate(frames)
    }


def _jpeg_message(image: np.ndarray, stamp: int) -> Any:
    done, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise bag.BagError(f"an image of shape {image.shape} cannot be encoded as JPEG; give (H, W, 3) uint8")
    message = bag.message_types().types[bag.COMPRESSED_IMAGE]
    return message(bag.header(stamp, FRAME_ID), "rgb8; jpeg compressed bgr8", data.ravel())


def _read_frame(stamp: int, found: Mapping[str, tuple[bag.BagMessage, Any]]) -> BagFrame:
    boxes = {}
    for detection in found[DETECTIONS_TOPIC][1].detections:
        box, centre = detection.bbox, detection.bbox.center.position
        boxes[detection.id] = np.array([centre.x, centre.y, box.size_x, box.size_y])
    truth = {}
    for number, detection in enumerate(found[TRUTH_TOPIC][1].detections):
        result = detection.results[0]
        position, q = result.pose.pose.position, result.pose.pose.orientation
        truth[detection.id] = Instance(
            class_id=result.hypothesis.class_id,
            gt_id=number,
            rotation=rotation_from_quaternion(torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64)).numpy(),
            translation=np.array([position.x, position.y, position.z]),
            visibility=float(result.hypothesis.score),
            box=boxes.get(detection.id),
        )
    unknown = sorted(set(boxes) - set(truth))
    if unknown:
        raise bag.BagError(f"detections {', '.join(unknown)} at {stamp} ns have no ground truth; record the bag anew")
    return BagFrame(
        stamp=stamp,
        image=bag.decode_image(found[IMAGE_TOPIC][1]),
        camera=np.array(found[CAMERA_INFO_TOPIC][1].k, dtype=np.float64).reshape(3, 3),
        boxes=boxes,
        truth=truth,
        messages={topic: found[topic][0] for topic in (CAMERA_INFO_TOPIC, IMAGE_TOPIC, DETECTIONS_TOPIC)},
    )
