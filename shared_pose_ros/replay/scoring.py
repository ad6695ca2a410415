"""The poses of a replayed bag against the truth in the bag or in a BOP folder, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from shared_pose_ros.bags.recording import Recording
from shared_pose_ros.evaluation.bop import BopDataset, BopFrame, load_bop
from shared_pose_ros.evaluation.bop_models import dataset_objects
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.html_page import Picture
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.replay.bag_frames import Conditions, picture_frames, score_frames
from shared_pose_ros.replay.truth import (
    FrameResponse,
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


@dataclass(frozen=True)
class ScoreSettings:
    """What to score with.

    Attributes:
        models: folder of the CAD; None for no scores.
        protocol: name of an evaluation protocol.
        max_faces: finer CAD is simplified to this.
        bop: root of a BOP dataset that holds the truth, None where the bag does.
        split: its split.
        bop_frames: "order", or a CSV file, see ``truth.frames_from_table``.
    """

    models: Path | None
    protocol: str = "paper"
    max_faces: int = 20_000
    bop: Path | None = None
    split: str = "test"
    bop_frames: str = "order"


def score(
    settings: ScoreSettings,
    recording: Recording,
    responses: Sequence[FrameResponse],
    truth: Sequence[Any],
    stamps: Sequence[int],
    system: str,
) -> Scores:
    """Score what the settings ask for.

    Args:
        settings: of the command.
        recording: the bag.
        responses: of the replay.
        truth: ground-truth messages of the bag.
        stamps: of all images of the bag.
        system: name of the bundle.
    """
    if settings.bop is None and not truth:
        return Scores()
    if settings.models is None:
        return Scores(notes=["The bag's ground truth was not scored: give the CAD with --models."])
    corrected = any(response.camera is not None for response in responses)
    if settings.bop is None:
        objects = ObjectSet.load(settings.models)
        matched = match_topic(responses, truth, objects)
    else:
        dataset = load_bop(settings.bop, settings.split)
        objects = dataset_objects(dataset, settings.models)
        frames = _bop_frames(settings.bop_frames, dataset, recording, stamps)
        matched = match_bop(responses, frames, objects, corrected)
    scorer = PoseScorer(objects, settings.max_faces)
    conditions = Conditions(corrected, BY_ID if settings.bop is None else BY_BOX, matched.skipped)
    protocol, data = get_protocol(settings.protocol), f"bag {recording.path.resolve().name}"
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
    drawn = [frame for frame in matched.frames if frame.boxes]
    return Scores([evaluation], picture_frames(drawn, evaluation, scorer, PICTURES))


def _bop_frames(which: str, dataset: BopDataset, recording: Recording, stamps: Sequence[int]) -> dict[int, BopFrame]:
    """The dataset's frame of each image of the bag, by its stamp."""
    if which == "order":
        return frames_by_order(dataset, stamps, recording.damaged)
    return frames_from_table(dataset, which)
