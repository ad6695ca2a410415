"""``shared_pose demo``: the node on a recorded camera stream, scored and shown; exits 0 only if nothing was lost."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from shared_pose_ros.bags.bag_io import read_bag
from shared_pose_ros.bags.recording import BagTopics
from shared_pose_ros.cli.common import import_live
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import load_estimator
from shared_pose_ros.replay.bag_frames import (
    CAMERA_INFO_TOPIC,
    DETECTIONS_TOPIC,
    IMAGE_TOPIC,
    BagFrame,
    by_id,
    picture_frames,
    read_frames,
    score_frames,
    shown_frames,
)
from shared_pose_ros.replay.demo_results import Recording, notes, problems, summary, text_table
from shared_pose_ros.replay.offline import OfflineResponse, replay
from shared_pose_ros.report.cases import case_pictures
from shared_pose_ros.report.page import write_report
from shared_pose_ros.resources import share_folder

BUNDLE = "demo_parts.pose.pt"
PICTURES = 8
# Half of an evaluation's draws: the demo has hundreds of instances and little time.
BASELINE = RandomRotationBaseline(draws=10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    models = share_folder() / "models"
    parser.epilog = (
        "examples:\n"
        "  shared_pose demo --out out/demo\n"
        "  shared_pose demo --out out/mine --bundle mine.pose.pt --rate 30\n"
        "  shared_pose demo --out out/demo --offline      # no ROS: the bag through the node's pipeline"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of summary.json, report.html and node.log")
    parser.add_argument("--bundle", type=Path, default=models / BUNDLE, help="default: models/demo_parts.pose.pt")
    parser.add_argument("--bag", type=Path, default=models / "demo_bag", help="default: models/demo_bag")
    parser.add_argument("--objects", type=Path, default=models / "parts", help="the parts' CAD (default: models/parts)")
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second (default: 10)")
    parser.add_argument("--offline", action="store_true", help="run the node's pipeline here, without ROS")


def run(options: argparse.Namespace) -> int:
    """Play, score, print, write; 0 if every frame and object got its poses and the node lost nothing, else 1."""
    if not 0.1 <= options.rate <= 1000.0:
        raise ValueError(f"--rate {options.rate:g} is outside 0.1 to 1000 frames per second; give a rate inside")
    if not options.bundle.is_file():
        raise ValueError(f"no bundle at {options.bundle}; give one with --bundle, made by shared_pose train and export")
    # A terminated demo must take its node along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    live = None
    if not options.offline:
        live = import_live("shared_pose_ros.replay.demo_live", "the demo", "score the bag without ROS by --offline")
        live.prepare_environment()
    frames = read_frames(options.bag)
    if live is None:
        recording = _run_offline(frames, options.bundle, options.bag)
    else:
        recording = live.run_live(frames, options.bundle, options.rate, options.out / "node.log", _say)
    found = problems(recording)
    if recording.poses:
        _report(recording, frames, options, found)
    for problem in found:
        print(f"shared_pose demo: {problem}", file=sys.stderr)
    return 1 if found else 0


def _run_offline(frames: Sequence[BagFrame], bundle: Path, bag: Path) -> Recording:
    parameters = NodeParameters.of({"bundle": str(bundle), "image_transport": "compressed"})
    estimator, poses = load_estimator(parameters), {}
    topics = BagTopics(IMAGE_TOPIC, DETECTIONS_TOPIC, CAMERA_INFO_TOPIC, None)

    def keep(response: OfflineResponse) -> None:
        poses[response.poses.stamp] = by_id(response.poses)

    accounting, _ = replay(read_bag(bag, topics.names), estimator, parameters, topics, keep)
    return Recording(
        frames_in=len(frames),
        poses=poses,
        requests={frame.stamp: tuple(frame.boxes) for frame in frames},
        counters=accounting.counters,
        bundle=estimator.metadata.name,
        weights_sha256=estimator.metadata.weights_sha256,
    )


def _report(recording: Recording, frames: Sequence[BagFrame], options: argparse.Namespace, found: list[str]) -> None:
    # Renders of single parts: threads would only wait for each other.
    torch.set_num_threads(1)
    scorer = PoseScorer(ObjectSet.load(options.objects))
    protocol = get_protocol("paper")
    name = f"bag {options.bag.name}"
    _say("scoring")
    with tqdm(total=len(frames), unit="frame", disable=None) as bar:
        evaluation = score_frames(
            frames, recording.poses, scorer, protocol, recording.bundle, name, BASELINE,
            progress=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    print(text_table(recording, evaluation))
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "summary.json"
    target.write_text(json.dumps(summary(recording, evaluation), indent=1) + "\n", encoding="utf-8")
    said = [*(f"Problem: {problem}." for problem in found), *notes(recording)]
    pictures = picture_frames(frames, evaluation, scorer, PICTURES)
    cases = case_pictures(evaluation, shown_frames(frames), scorer)
    report = write_report(options.out, "shared_pose demo", [evaluation], pictures, said, cases, scorer.objects)
    print(f"\n{target}\n{report}")


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)
