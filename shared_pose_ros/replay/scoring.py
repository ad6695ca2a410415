"""The poses of a replayed bag against the truth in the bag or in a BOP folder, where there is one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from shared_pose_ros.bags.recording import Recording
from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.html_page import Picture
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.replay.bag_frames import Conditions, picture_frames, score_frames
from shared_pose_ros.replay.truth import (
    AnsweredFrame,
    Matched,
    frames_by_order,
    frames_from_table,
    match_bop,
    match_topic,
)

PICTURES = 8
BY_ID = "object ids and boxes of the bag's detections, matched with its truth by id"
BY_BOX = "object ids and boxes of the bag's detections, matched with the truth by class and overlap ≥ 0.5"


@dataclass
class Scores:
    """Evaluations (none without truth or CAD), pictures of them, and sentences on what could not be scored."""

    evaluations: list[Evaluation] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def protocol_line(self) -> str | None:
        """Of the evaluation; None without one."""
        return self.evaluations[0].protocol_line if self.evaluations else None


def score(
    options: argparse.Namespace,
    recording: Recording,
    answers: Sequence[AnsweredFrame],
    truth: Sequence[Any],
    stamps: Sequence[int],
    system: str,
) -> Scores:
    """Score what the options ask for.

    Args:
        options: of the command.
        recording: the bag.
        answers: of the replay.
        truth: ground-truth messages of the bag.
        stamps: of all images of the bag.
        system: name of the bundle.
    """
    if options.bop is None and not truth:
        return Scores()
    if options.models is None:
        return Scores(notes=["The bag's ground truth was not scored: give the CAD with --models."])
    corrected = any(answer.camera is not None for answer in answers)
    if options.bop is None:
        objects = ObjectSet.load(options.models)
        matched = match_topic(answers, truth, objects)
    else:
        matched, objects = _matched_with_bop(options, recording, answers, stamps, corrected)
    scorer = PoseScorer(objects, options.max_faces)
    conditions = Conditions(corrected, BY_ID if options.bop is None else BY_BOX, matched.skipped)
    protocol, data = get_protocol(options.protocol), f"bag {options.bag.resolve().name}"
    if protocol.translation == "estimated" and not corrected:
        return Scores(notes=["Not scored: without camera_info no positions are estimated; take the protocol paper."])
    # Renders of single parts: threads would only wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        evaluation = score_frames(matched.frames, matched.poses, scorer, protocol, system, data, conditions=conditions)
    # A bag with nothing to score is reported, not fatal.
    except ValueError as error:
        return Scores(notes=[f"Not scored: {error}."])
    finally:
        torch.set_num_threads(threads)
    shown = [frame for frame in matched.frames if frame.boxes]
    return Scores([evaluation], picture_frames(shown, evaluation, scorer, PICTURES))


def _matched_with_bop(
    options: argparse.Namespace,
    recording: Recording,
    answers: Sequence[AnsweredFrame],
    stamps: Sequence[int],
    corrected: bool,
) -> tuple[Matched, ObjectSet]:
    """The matches, and the CAD of the objects that the dataset shows."""
    dataset = load_bop(options.bop, options.split)
    if options.bop_frames == "order":
        frames = frames_by_order(dataset, stamps, recording.damaged)
    else:
        frames = frames_from_table(dataset, options.bop_frames)
    objects = dataset_objects(dataset, options.models)
    return match_bop(answers, frames, objects, corrected), objects
