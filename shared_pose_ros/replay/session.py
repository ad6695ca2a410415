"""A replay from bag to report: offline or live, poses and figures written, poses scored where there is a truth."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.result_tables import write_json
from shared_pose_ros.html_page import Picture
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import load_estimator
from shared_pose_ros.replay.frame_overlays import Album, response_pictures
from shared_pose_ros.replay.offline import OfflineResponse, Response, frame_response, replay
from shared_pose_ros.replay.responses import match_responses
from shared_pose_ros.replay.results import accounting_text, live_text, pose_records, write_poses
from shared_pose_ros.replay.scoring import Scores, ScoreSettings, score
from shared_pose_ros.replay.truth import FrameResponse
from shared_pose_ros.report.page import write_report
from shared_pose_ros.ros.messages.poses import PosesWriter

if TYPE_CHECKING:
    from shared_pose_ros.replay.live import Plan


@dataclass(frozen=True)
class Session:
    """What is replayed and where the results go.

    Attributes:
        recording: the bag.
        topics: which of its messages is what.
        node: name of the pose node, for the topic of the poses that are written.
        report: folder of all that is written.
        scoring: what to score with.
    """

    recording: Recording
    topics: BagTopics
    node: str
    report: Path
    scoring: ScoreSettings

    @property
    def poses_topic(self) -> str:
        """Of the written poses."""
        return f"/{self.node.strip('/')}/poses"


@dataclass
class Outcome:
    """What a replay says.

    Attributes:
        sentences: on what came, what became of it, and what could not be scored.
        evaluations: empty without truth or CAD.
        written: files and folders.
        responses: how many arrays of poses came.
    """

    sentences: list[str] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    responses: int = 0


def run_offline(session: Session, parameters: NodeParameters) -> Outcome:
    """The bag through the pipeline in this process.

    Raises:
        BundleError, ValueError, MemoryError: of ``load_estimator``.
    """
    recording, topics = session.recording, session.topics
    estimator = load_estimator(parameters)
    frames: list[FrameResponse] = []
    responses: list[Response] = []
    album, writer = Album(estimator.meshes), PosesWriter(bag_io.message_types().types)
    with bag_io.BagWriter(session.report / "poses") as bag:

        def keep(response: OfflineResponse) -> None:
            frame, poses = response.frame, response.poses
            bag.write(session.poses_topic, writer.write(poses), response.time_ns)
            detections = frame.detections
            album.show(lambda: frame.image, detections.boxes, detections.object_index, poses, frame.camera_matrix)
            frames.append(frame_response(response, recording, topics.image))
            responses.append(Response(response.time_ns, poses))

        accounting, truth = replay(recording.messages(topics.names), estimator, parameters, topics, keep)
    outcome = Outcome(accounting_text(accounting, recording.problems), responses=len(responses))
    metadata = estimator.metadata
    facts = {
        "bundle": metadata.name,
        "weights_sha256": metadata.weights_sha256,
        "parameters": dataclasses.asdict(parameters),
        "threads": torch.get_num_threads(),
        **{key: value for key, value in dataclasses.asdict(accounting).items() if key != "stamps"},
    }
    title = f"{metadata.name} on bag {recording.path.resolve().name}"
    scored = score(session.scoring, recording, frames, truth, accounting.stamps, metadata.name)
    _write(session, outcome, responses, "offline", facts, scored, lambda: album.pictures, title)
    return outcome


def run_live(session: Session, plan: Plan, live: ModuleType, say: Callable[[str], None]) -> Outcome:
    """The bag played to a running node.

    Args:
        session: what is replayed.
        plan: how to play.
        live: the module ``replay.live``, which needs ROS.
        say: gets the progress.

    Returns:
        The outcome; one with a sentence and nothing written if there is nobody to play to.
    """
    recording, topics = session.recording, session.topics
    run = live.run_live(recording, topics, plan, say)
    if run.problem:
        return Outcome([run.problem])
    writer = PosesWriter(bag_io.message_types().types)
    with bag_io.BagWriter(session.report / "poses") as bag:
        for response in run.responses:
            bag.write(session.poses_topic, writer.write(response.poses), response.time_ns)
    sentences = [f"Bag: {problem}." for problem in recording.problems] + live_text(run.figures, run.counters)
    matched = match_responses(recording, topics, [response.poses for response in run.responses])
    if matched.strange:
        sentences.append(
            f"Responses to detections that are not the bag's: {matched.strange}; does something else publish?"
        )
    outcome = Outcome(sentences, responses=run.figures["responses"])
    system = run.values.get("bundle", session.node)
    facts = {
        "bundle": run.values.get("bundle", ""),
        "weights_sha256": run.values.get("weights_sha256", ""),
        "rate": plan.rate,
        "loop": plan.loop,
        **run.figures,
        "counters": run.counters,
    }
    title = f"bag {recording.path.resolve().name} played to {session.node}"
    scored = score(session.scoring, recording, matched.frames, matched.truth, matched.stamps, system)
    drawn = functools.partial(response_pictures, matched.frames, session.scoring.models)
    _write(session, outcome, run.responses, "live", facts, scored, drawn, title)
    return outcome


def _write(
    session: Session,
    outcome: Outcome,
    responses: Sequence[Response],
    mode: str,
    facts: Mapping[str, Any],
    scored: Scores,
    drawn: Callable[[], list[Picture]],
    title: str,
) -> None:
    """poses.csv, poses.json, replay.json, scores.json and report.html; adds to the outcome."""
    outcome.sentences += scored.notes
    outcome.evaluations = scored.evaluations
    summary = session.report / "replay.json"
    content = {
        "mode": mode,
        "bag": session.recording.path.resolve().name,
        "topics": vars(session.topics),
        "problems": session.recording.problems,
        **facts,
        "protocol": scored.protocol_line,
    }
    records = pose_records([response.poses for response in responses])
    outcome.written += [session.report / "poses", *write_poses(session.report, records), summary]
    summary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if scored.evaluations:
        outcome.written.append(session.report / "scores.json")
        write_json(scored.evaluations, outcome.written[-1])
    page = session.report / "report.html"
    pictures = scored.pictures or drawn()
    outcome.written.append(write_report(page, title, scored.evaluations, pictures, outcome.sentences))
