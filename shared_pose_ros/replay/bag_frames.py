"""Frames of a bag with ground truth: poses in, figures out. The demo and the replay of any bag score with it.

A demo bag holds, for each image, camera_info, the detections (visible boxes, exact) and the ground truth of all parts
in the scene, detected or not, all with the image's stamp and frame. Ids tie detections to the truth; the score of a
truth is its visible fraction.

Convention: metres, R_m2c, boxes (cx, cy, w, h) in pixels, images ``(H, W, 3)`` uint8 RGB, stamps in nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.bags import bag_io
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.bundle_evaluation import RENDERED_DEPTH, SENSOR_DEPTH
from shared_pose_ros.evaluation.instance_scoring import (
    Candidates,
    Evaluation,
    InstanceResult,
    RandomRotationBaseline,
    score_instance,
)
from shared_pose_ros.evaluation.pose_scorer import PoseScorer, View
from shared_pose_ros.evaluation.protocols import Protocol
from shared_pose_ros.html_page import Picture
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.report.cases import Frames, ShownFrame, frame_image, spread_over
from shared_pose_ros.ros.messages.detections import axis_aligned_box, image_key
from shared_pose_ros.ros.messages.images import rgb_from_compressed
from shared_pose_ros.ros.messages.poses import read_poses
from shared_pose_ros.scenes.clutter import SceneFrame

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
    """One image of a bag and what belongs to it; pixels are decoded when asked for.

    Attributes:
        stamp: nanoseconds.
        size: (height, width).
        camera: K ``(3, 3)``.
        boxes: box ``(4,)`` by id, of the detected parts.
        truth: every part of the scene by id.
        load: decodes the image, ``(H, W, 3)`` uint8 RGB.
        place: (scene, image) number, of results and of the random rotations.
        depth: reads the sensor's depth ``(H, W)`` in metres; without it, or where it gives None, the truth is rendered.
        messages: the image's, camera_info's and detections' messages as recorded, by topic.
    """

    stamp: int
    size: tuple[int, int]
    camera: np.ndarray
    boxes: Mapping[str, np.ndarray]
    truth: Mapping[str, Instance]
    load: Callable[[], np.ndarray]
    place: tuple[int, int]
    depth: Callable[[], np.ndarray | None] | None = None
    messages: Mapping[str, bag_io.BagMessage] = field(default_factory=dict)

    @property
    def image(self) -> np.ndarray:
        """The image ``(H, W, 3)`` uint8 RGB."""
        return self.load()

    def view(self, scorer: PoseScorer) -> tuple[View, str]:
        """What the frame is scored in, and where its depth comes from."""
        depth = self.depth() if self.depth is not None else None
        if depth is not None:
            return View(self.camera, self.size, depth), SENSOR_DEPTH
        rendered = scorer.depth(list(self.truth.values()), self.camera, self.size)
        return View(self.camera, self.size, rendered), f"{RENDERED_DEPTH} of all parts"


@dataclass(frozen=True)
class Conditions:
    """What evaluation conditions must say of a bag.

    Attributes:
        corrected: whether orientations are corrected for the viewing ray.
        boxes: where ids and boxes come from; None is the truth.
        skipped: detections left out before scoring, by reason.
    """

    corrected: bool = True
    boxes: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


def write_scenes(path: str | Path, frames: Iterable[SceneFrame]) -> int:
    """Record scenes as a 10 Hz bag (mcap); returns the number of images. Raises BagError if the folder exists."""
    count = 0
    with bag_io.BagWriter(path) as writer:
        for count, frame in enumerate(frames, start=1):
            stamp = _START_NS + count * _PERIOD_NS
            height, width = frame.image.shape[:2]
            names = [f"heap {frame.scene_id} part {instance.gt_id}" for instance in frame.instances]
            seen = [
                bag_io.Detection(instance.class_id, name, box=instance.box)
                for name, instance in zip(names, frame.instances)
            ]
            known = [
                bag_io.Detection(i.class_id, name, i.visibility, rotation=i.rotation, translation=i.translation)
                for name, i in zip(names, frame.instances)
            ]
            image = bag_io.compressed_image_message(frame.image, stamp, FRAME_ID, quality=JPEG_QUALITY)
            info = bag_io.camera_info_message(frame.camera, (height, width), stamp, FRAME_ID)
            writer.write(CAMERA_INFO_TOPIC, info, stamp)
            writer.write(IMAGE_TOPIC, image, stamp)
            writer.write(DETECTIONS_TOPIC, bag_io.detections_2d_message(seen, stamp, FRAME_ID), stamp)
            writer.write(TRUTH_TOPIC, bag_io.detections_3d_message(known, stamp, FRAME_ID), stamp)
    return count


def read_frames(path: str | Path) -> list[BagFrame]:
    """All images of a bag that has detections, camera_info and ground truth for them, in order.

    Raises:
        BagError: not a readable bag, or one without these topics.
    """
    needed = (IMAGE_TOPIC, CAMERA_INFO_TOPIC, DETECTIONS_TOPIC, TRUTH_TOPIC)
    missing = [topic for topic in needed if topic not in bag_io.bag_topics(path)]
    if missing:
        raise bag_io.BagError(f"{path} has no {', '.join(missing)}; give a bag written by tools/make_demo_bag.py")
    by_stamp: dict[int, dict[str, tuple[bag_io.BagMessage, Any]]] = {}
    for record in bag_io.read_bag(path, needed):
        message = record.message()
        by_stamp.setdefault(image_key(message)[0], {})[record.topic] = record, message
    complete = {stamp: found for stamp, found in sorted(by_stamp.items()) if len(found) == len(needed)}
    if not complete:
        raise bag_io.BagError(f"{path}: no image has camera_info, detections and truth of its stamp; record it anew")
    return [_read_frame(number, stamp, found) for number, (stamp, found) in enumerate(complete.items())]


def candidates(poses: PublishedPoses, row: int) -> Candidates:
    """The hypotheses of one object, in the order published."""
    return Candidates(
        poses.rotations[row],
        poses.positions[row],
        float(poses.confidences[row, 0]),
        expected_error=poses.expected_error(row),
    )


def by_id(poses: PublishedPoses) -> dict[str, Candidates]:
    """The hypotheses of each object by its id."""
    return {name: candidates(poses, row) for row, name in enumerate(poses.ids)}


def read_truth(message: Any) -> list[tuple[str, Instance]]:
    """(id, part) of a ground-truth Detection3DArray: the first result's pose; its score is the visible fraction."""
    truth = read_poses(message, most=1)
    return [
        (name, Instance(class_id, number, rotation, translation, visibility, None))
        for number, (name, class_id, rotation, translation, visibility) in enumerate(
            zip(
                truth.ids,
                truth.class_ids,
                truth.rotations[:, 0],
                truth.positions[:, 0],
                truth.confidences[:, 0].tolist(),
            )
        )
    ]


def score_frames(
    frames: Sequence[BagFrame],
    poses: Mapping[int, Mapping[str, Candidates]],
    scorer: PoseScorer,
    protocol: Protocol,
    system: str,
    data: str,
    baseline: RandomRotationBaseline | None = None,
    progress: Callable[[int, int], None] | None = None,
    conditions: Conditions | None = None,
) -> Evaluation:
    """Score poses of a bag's detections against its ground truth.

    Args:
        frames: of ``read_frames``, or made by ``bag_truth``.
        poses: hypotheses by stamp and id, best first.
        scorer: the CAD.
        protocol: with the translation from ground truth, the hypotheses' own are not looked at.
        system: what was evaluated.
        data: the bag's name, for the evaluation conditions.
        baseline: the random rotations; 20 per instance by default.
        progress: called with (frames done, frames).
        conditions: where boxes and ids come from; those of a demo bag by default.

    Raises:
        ValueError: no detection has poses.
    """
    baseline, conditions = baseline or RandomRotationBaseline(), conditions or Conditions()
    results: list[InstanceResult] = []
    skipped: Counter[str] = Counter(conditions.skipped)
    depths: Counter[str] = Counter()
    for number, frame in enumerate(frames, start=1):
        published = poses.get(frame.stamp, {})
        wanted = _wanted(frame, published, scorer, protocol, skipped)
        if wanted:
            view, source = frame.view(scorer)
            depths[source] += 1
            for name in wanted:
                results += score_instance(
                    scorer, view, frame.truth[name], frame.place, [published[name]], protocol, baseline
                )
        if progress:
            progress(number, len(frames))
    if not results:
        raise ValueError(f"nothing to score in {data}: detections left out: {dict(skipped)}")
    data_line = f"{data}, {len(frames)} images"
    depth = " / ".join(depths)
    line = protocol.conditions(data_line, conditions.corrected, depth, scorer.cad, str(baseline), conditions.boxes)
    return Evaluation(system, protocol.name, protocol.score, line, conditions.corrected, tuple(results), dict(skipped))


def _wanted(
    frame: BagFrame, published: Mapping[str, Candidates], scorer: PoseScorer, protocol: Protocol, skipped: Counter[str]
) -> list[str]:
    """Ids of the frame's detections that can be scored; the others are counted by reason."""
    wanted = []
    for name in frame.boxes:
        truth = frame.truth[name]
        if truth.visibility < protocol.visibility_min:
            skipped["outside_protocol"] += 1
        elif name not in published:
            skipped["without_poses"] += 1
        elif scorer.objects.index(truth.class_id) is None:
            skipped["without_cad"] += 1
        else:
            wanted.append(name)
    return wanted


def picture_frames(
    frames: Sequence[BagFrame], evaluation: Evaluation, scorer: PoseScorer, limit: int = 10
) -> list[Picture]:
    """Frames spread over the bag with the truth (green) and the first hypotheses (orange) drawn over them."""
    pictures = []
    for number in spread_over(len(frames), limit):
        results = [r for r in evaluation.instances if (r.scene_id, r.im_id) == frames[number].place]
        labels = [f"{result.class_id} {result.rotation_deg:.0f}" for result in results]
        image = frame_image(_shown(frames[number]), results, labels, scorer)
        mean = np.mean([result.score for result in results]) if results else float("nan")
        angles = ", ".join(f"{result.class_id} {result.rotation_deg:.0f}°" for result in results)
        caption = f"frame {number}: mean {evaluation.score_name} {100 * mean:.0f} %; rotation errors {angles}"
        pictures.append(Picture(image, caption))
    return pictures


def shown_frames(frames: Sequence[BagFrame]) -> Frames:
    """The frames of a bag as the report's cases ask for them, by the (scene_id, im_id) of ``score_frames``."""
    return {frame.place: _shown(frame) for frame in frames}


def _shown(frame: BagFrame) -> ShownFrame:
    return ShownFrame(frame.load, frame.camera, {truth.gt_id: truth for truth in frame.truth.values()})


def _read_frame(number: int, stamp: int, found: Mapping[str, tuple[bag_io.BagMessage, Any]]) -> BagFrame:
    boxes = {detection.id: axis_aligned_box(detection) for detection in found[DETECTIONS_TOPIC][1].detections}
    truth = {name: replace(instance, box=boxes.get(name)) for name, instance in read_truth(found[TRUTH_TOPIC][1])}
    unknown = sorted(set(boxes) - set(truth))
    if unknown:
        raise bag_io.BagError(
            f"detections {', '.join(unknown)} at {stamp} ns have no ground truth; record the bag anew"
        )
    info = found[CAMERA_INFO_TOPIC][1]
    return BagFrame(
        stamp=stamp,
        size=(info.height, info.width),
        camera=np.array(info.k, dtype=np.float64).reshape(3, 3),
        boxes=boxes,
        truth=truth,
        load=partial(_load, found[IMAGE_TOPIC][0]),
        place=(0, number),
        messages={topic: found[topic][0] for topic in (CAMERA_INFO_TOPIC, IMAGE_TOPIC, DETECTIONS_TOPIC)},
    )


def _load(record: bag_io.BagMessage) -> np.ndarray:
    return rgb_from_compressed(record.message())
