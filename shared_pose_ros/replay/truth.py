"""Which truth belongs to which pose of a replayed bag: a ground-truth topic's by id, a BOP folder's by class and box.

Convention: metres, R_m2c, boxes (cx, cy, w, h) in pixels, stamps in nanoseconds. A part of the truth is matched once.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, Instance
from shared_pose_ros.evaluation.instance_scoring import Candidates
from shared_pose_ros.geometry.boxes import box_iou
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.pipeline.frame import Key, PublishedPoses
from shared_pose_ros.replay.bag_frames import BagFrame, candidates, read_truth
from shared_pose_ros.ros.messages.detections import image_key

LEAST_OVERLAP = 0.5
"""Intersection over union from which a detection is taken for a part of a BOP image."""


@dataclass(frozen=True)
class FrameResponse:
    """The poses of one detection array on an image of a bag.

    Attributes:
        poses: of the B detections.
        boxes: theirs, ``(B, 4)``.
        size: of the image, (height, width).
        camera: K ``(3, 3)`` that the rotations are corrected with, None where they are not.
        load: decodes the image, ``(H, W, 3)`` uint8 RGB.
    """

    poses: PublishedPoses
    boxes: NDArray[np.float32]
    size: tuple[int, int]
    camera: NDArray[np.floating[Any]] | None
    load: Callable[[], NDArray[np.uint8]]


@dataclass
class Matched:
    """Frames to score with ``bag_frames.score_frames``.

    Attributes:
        frames: with truth.
        poses: hypotheses by stamp and id.
        skipped: detections without a truth to score them by, by reason.
    """

    frames: list[BagFrame] = field(default_factory=list)
    poses: dict[int, dict[str, Candidates]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        group: Sequence[FrameResponse],
        truth: Mapping[str, Instance],
        pairs: Mapping[str, tuple[FrameResponse, int]],
        **scene: Any,
    ) -> None:
        """One image: ``pairs`` gives by truth id the (response, index) that belongs to it."""
        first = group[0]
        self.skipped["without_truth"] += sum(len(response.poses) for response in group) - len(pairs)
        boxes = {name: response.boxes[index] for name, (response, index) in pairs.items()}
        self.poses[first.poses.stamp] = {
            name: candidates(response.poses, index) for name, (response, index) in pairs.items()
        }
        self.frames.append(
            BagFrame(stamp=first.poses.stamp, size=first.size, boxes=boxes, truth=truth, load=first.load, **scene)
        )


def match_topic(responses: Sequence[FrameResponse], messages: Sequence[Any], objects: ObjectSet) -> Matched:
    """Match by detection id with ground-truth messages (Detection3DArray) of the same stamp and frame_id.

    Args:
        responses: in any order.
        messages: the topic's; a result's score is the part's visible fraction.
        objects: the CAD, for the names of classes.
    """
    truths: dict[Key, dict[str, Instance]] = {}
    for message in messages:
        truths.setdefault(image_key(message), {}).update(
            {name or f"truth {i}": t for i, (name, t) in enumerate(read_truth(message))}
        )
    matched = Matched()
    for number, (key, group) in enumerate(_by_image(responses)):
        count = sum(len(response.poses) for response in group)
        camera = group[0].camera
        if key not in truths or camera is None:
            matched.skipped["without_truth" if key not in truths else "without_camera_info"] += count
            continue
        pairs: dict[str, tuple[FrameResponse, int]] = {}
        for response in group:
            for index, (name, class_id) in enumerate(zip(response.poses.ids, response.poses.class_ids)):
                known = truths[key].get(name)
                if known is not None and name not in pairs and _same(objects, known.class_id, class_id):
                    pairs[name] = response, index
        truth = {
            name: replace(instance, box=pairs[name][0].boxes[pairs[name][1]] if name in pairs else None)
            for name, instance in truths[key].items()
        }
        matched.add(group, truth, pairs, camera=np.asarray(camera, dtype=np.float64), place=(0, number))
    return matched


def match_bop(
    responses: Sequence[FrameResponse], frames: Mapping[int, BopFrame], objects: ObjectSet, with_camera: bool = True
) -> Matched:
    """Match each detection with the instance of its class whose visible box it covers best, at least ``LEAST_OVERLAP``.

    Args:
        responses: in any order.
        frames: the BOP image by the image's stamp (``frames_by_order``, ``frames_from_table``).
        objects: the CAD, for the names of classes.
        with_camera: take the responses that had a camera_info (true) or those that had none.
    """
    matched = Matched()
    for (stamp, _), group in _by_image(responses):
        count = sum(len(response.poses) for response in group)
        frame = frames.get(stamp)
        if frame is None or (group[0].camera is not None) != with_camera:
            matched.skipped["without_truth" if frame is None else "without_camera_info"] += count
            continue
        truth, overlaps = {}, []
        for instance in frame.instances:
            box = frame.visible_box(instance.gt_id)
            truth[str(instance.gt_id)] = replace(instance, box=box)
            if box is None:
                continue
            for response in group:
                for index, class_id in enumerate(response.poses.class_ids):
                    overlap = box_iou(response.boxes[index], box)
                    if overlap >= LEAST_OVERLAP and _same(objects, instance.class_id, class_id):
                        overlaps.append((overlap, str(instance.gt_id), response, index))
        pairs: dict[str, tuple[FrameResponse, int]] = {}
        taken, overlap_of = set(), {}
        for overlap, name, response, index in sorted(overlaps, key=lambda entry: -entry[0]):
            if name not in pairs and (id(response), index) not in taken:
                pairs[name], overlap_of[name] = (response, index), overlap
                taken.add((id(response), index))
        place = frame.scene_id, frame.image_id
        matched.add(group, truth, pairs, camera=frame.camera, place=place, depth=frame.depth)
        poses = matched.poses[stamp]
        matched.poses[stamp] = {name: replace(poses[name], box_iou=overlap_of[name]) for name in poses}
    return matched


def frames_by_order(dataset: BopDataset, stamps: Sequence[int], cut: bool = False) -> dict[int, BopFrame]:
    """The n-th image of the bag, by stamp, is the n-th of the split, by scene and image number.

    Args:
        dataset: annotated images.
        stamps: of all images of the bag, with or without detections.
        cut: the bag is damaged and may hold fewer images.

    Raises:
        ValueError: the numbers of images differ, so that the order says nothing.
    """
    ordered = sorted(set(stamps))
    if len(ordered) > len(dataset.frames) or (len(ordered) < len(dataset.frames) and not cut):
        raise ValueError(
            f"the bag has {len(ordered)} images, {dataset.root}/{dataset.split} has {len(dataset.frames)}: the order "
            "does not tell which is which; give a table of stamp_ns, scene_id, im_id with --bop-frames"
        )
    return dict(zip(ordered, dataset.frames))


def frames_from_table(dataset: BopDataset, path: str | Path) -> dict[int, BopFrame]:
    """The images named in a CSV file with the columns stamp_ns, scene_id, im_id.

    Raises:
        ValueError: a column is missing, a cell is no number, or the split has no such image.
    """
    known = {(frame.scene_id, frame.image_id): frame for frame in dataset.frames}
    found = {}
    with Path(path).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                place = int(row["scene_id"]), int(row["im_id"])
                found[int(row["stamp_ns"])] = known[place]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: row {row} does not name an image of {dataset.root}/{dataset.split} ({error!r}); "
                    "give stamp_ns, scene_id, im_id"
                ) from error
    return found


def _by_image(responses: Sequence[FrameResponse]) -> list[tuple[Key, list[FrameResponse]]]:
    """The responses of each image, in order of stamps; several detectors may have looked at one image."""
    groups: dict[Key, list[FrameResponse]] = {}
    for response in responses:
        groups.setdefault(response.poses.key, []).append(response)
    return sorted(groups.items())


def _same(objects: ObjectSet, one: str, other: str) -> bool:
    """Whether two class ids name the same object, by the CAD's aliases where it knows them."""
    index = objects.index(one)
    return one == other or (index is not None and index == objects.index(other))
