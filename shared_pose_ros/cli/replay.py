"""``shared_pose replay``: a recorded bag through the estimator, or played to a running node, and what came of it."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, Recording, choose_topics, open_recording
from shared_pose_ros.evaluation.protocols import PROTOCOLS
from shared_pose_ros.evaluation.result_tables import markdown_table, write_json
from shared_pose_ros.html_page import Picture
from shared_pose_ros.replay.frame_overlays import Album, answer_pictures
from shared_pose_ros.replay.offline import Books, Reply, load_image, replay
from shared_pose_ros.replay.responses import answers_of
from shared_pose_ros.replay.results import books_text, live_text, pose_records, write_poses
from shared_pose_ros.replay.scoring import Scores, score
from shared_pose_ros.report.page import write_report
from shared_pose_ros.resources import set_dds_profile
from shared_pose_ros.ros import parameters
from shared_pose_ros.ros.pipeline import load_estimator

NODE = "shared_pose_node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "examples:\n"
        "  shared_pose replay models/demo_bag --bundle models/demo_parts.pose.pt --models models/parts --report out/b\n"
        "  shared_pose replay cell_bag --bundle mine.pose.pt --report out/cell --image /cam/color/image_raw\n"
        "  shared_pose replay cell_bag --live --rate 2 --clock --report out/live --remap /cam/image:=/image"
    )
    parser.add_argument("bag", type=Path, help="folder of a rosbag2 recording, or a single .mcap or .db3 file")
    parser.add_argument("--report", type=Path, required=True, metavar="DIR", help="folder of everything written")
    parser.add_argument("--bundle", help="NAME.pose.pt; needed without --live")
    found = parser.add_argument_group("topics of the bag (found by type where not given)")
    found.add_argument("--image", metavar="TOPIC", help="sensor_msgs/Image or CompressedImage")
    found.add_argument("--detections", metavar="TOPIC", help="vision_msgs/Detection2DArray")
    found.add_argument("--camera-info", metavar="TOPIC", help="sensor_msgs/CameraInfo; or none")
    found.add_argument(
        "--depth", metavar="TOPIC", help="sensor_msgs/Image of registered depth; without it none is used"
    )
    found.add_argument("--truth", metavar="TOPIC", help="vision_msgs/Detection3DArray of true poses; or none")
    parser.add_argument("--node", default=NODE, help=f"name of the pose node (default: {NODE})")
    offline = parser.add_argument_group("without --live")
    offline.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    offline.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the node, e.g. max_batch=8"
    )
    scores = parser.add_argument_group("scores")
    scores.add_argument("--models", type=Path, help="CAD of the objects; with it the poses are scored")
    scores.add_argument("--protocol", choices=sorted(PROTOCOLS), default="paper", help="default: paper")
    scores.add_argument("--max-faces", type=int, default=20_000, help="simplify finer CAD to this (default: 20000)")
    scores.add_argument("--bop", type=Path, metavar="ROOT", help="the truth is in this BOP dataset, not in the bag")
    scores.add_argument("--split", default="test", help="its split (default: test)")
    scores.add_argument(
        "--bop-frames", default="order", metavar="order|CSV",
        help="which image is which: order (the n-th of the bag is the n-th of the split, default), or a CSV file with "
        "the columns stamp_ns, scene_id, im_id",
    )  # fmt: skip
    live = parser.add_argument_group("--live")
    live.add_argument("--live", action="store_true", help="play the bag over DDS to a running node and time it")
    live.add_argument("--rate", type=float, default=1.0, help="times the recorded speed (default: 1)")
    live.add_argument("--loop", type=int, default=1, metavar="N", help="play the bag N times (default: 1)")
    live.add_argument("--clock", action="store_true", help="publish the recorded time on /clock")
    live.add_argument("--wait", type=float, default=30.0, metavar="S", help="for the node, seconds (default: 30)")
    live.add_argument(
        "--remap", action="append", default=[], metavar="FROM:=TO", help="publish the bag's topic FROM as TO"
    )


def run(options: argparse.Namespace) -> int:
    """Replay, print, write; 1 if a live node gave no answer, else 0."""
    _check(options)
    recording = open_recording(options.bag)
    recorded_poses = f"/{options.node.strip('/')}/poses"
    topics = choose_topics(
        recording.topics, options.image, options.detections, options.camera_info, options.truth, {recorded_poses},
        options.depth,
    )  # fmt: skip
    options.report.mkdir(parents=True, exist_ok=True)
    return _live(options, recording, topics) if options.live else _offline(options, recording, topics)


def _check(options: argparse.Namespace) -> None:
    if not options.live and not options.bundle:
        raise ValueError("no --bundle: give the model to run, or --live to play the bag to a running node")
    if not 0.01 <= options.rate <= 100.0:
        raise ValueError(f"--rate {options.rate:g} is outside 0.01 to 100 times the recorded speed; give a rate inside")
    if options.loop < 1:
        raise ValueError(f"--loop {options.loop} plays nothing; give 1 or more")
    if options.bop and not options.models:
        raise ValueError("--bop needs the CAD of the dataset's objects; name it with --models")
    if (options.report / "poses").exists():
        raise ValueError(f"{options.report / 'poses'} exists already; remove it or name another folder with --report")


def _offline(options: argparse.Namespace, recording: Recording, topics: BagTopics) -> int:
    compressed = recording.topics[topics.image] == bag_io.COMPRESSED_IMAGE
    given = {"bundle": options.bundle, "device": options.device, **_changes(options.set)}
    from_bag = {"image_transport": "compressed" if compressed else "raw", "use_depth": str(topics.depth is not None)}
    settings = parameters.from_text({**given, **from_bag})
    estimator = load_estimator(settings)
    replies, album = [], Album(estimator.meshes)
    with bag_io.BagWriter(options.report / "poses") as writer:

        def keep(reply: Reply) -> None:
            writer.write(f"/{options.node.strip('/')}/poses", reply.message, reply.time_ns)
            frame = reply.picture
            album.show(lambda: frame.image, frame.objects, reply.message, frame.camera_matrix, reply.frame.stamp)
            replies.append(Reply(reply.time_ns, reply.message, reply.frame))

        load = functools.partial(load_image, recording, topics.image)
        books, truth = replay(recording.messages(topics.names), estimator, settings, topics, keep, load)
    said = books_text(books, recording.problems)
    answers = [reply.frame for reply in replies]
    scores = score(options, recording, answers, truth, books.stamps, estimator.metadata.name)
    said += scores.notes
    facts = {
        "bundle": estimator.metadata.name,
        "weights_sha256": estimator.metadata.weights_sha256,
        "parameters": vars(settings),
        "threads": torch.get_num_threads(),
        **_books(books),
        "protocol": scores.protocol_line,
    }
    written = [options.report / "poses", *_write(options, recording, topics, replies, "offline", facts)]
    title = f"{estimator.metadata.name} on bag {options.bag.resolve().name}"
    _tell(options, title, scores, album.pictures, said, written)
    return 0


def _live(options: argparse.Namespace, recording: Recording, topics: BagTopics) -> int:
    set_dds_profile()
    try:
        live = importlib.import_module("shared_pose_ros.replay.live")
    except ImportError as error:
        raise ValueError(
            f"--live needs ROS 2 and vision_msgs, which are not here ({error}): run `make setup` or source your ROS "
            "installation (docs/how-to/install.md), or leave --live out"
        ) from error
    plan = live.Plan(options.node, options.rate, options.loop, options.clock, options.wait, _remaps(options, topics))
    outcome = live.run_live(recording, topics, plan, lambda text: print(f"replay: {text}", flush=True))
    if outcome.problem:
        print(outcome.problem)
        return 1
    with bag_io.BagWriter(options.report / "poses") as writer:
        for reply in outcome.replies:
            writer.write(f"/{options.node.strip('/')}/poses", reply.message, reply.time_ns)
    said = [f"Bag: {problem}." for problem in recording.problems]
    said += live_text(outcome.figures, outcome.counters)
    answers = answers_of(recording, topics, [reply.message for reply in outcome.replies])
    if answers.strange:
        said.append(f"Answers to detections that are not the bag's: {answers.strange}; does something else publish?")
    scores = score(
        options, recording, answers.frames, answers.truth, answers.stamps, outcome.values.get("bundle", options.node)
    )
    said += scores.notes
    facts = {
        "bundle": outcome.values.get("bundle", ""),
        "weights_sha256": outcome.values.get("weights_sha256", ""),
        "rate": options.rate,
        "loop": options.loop,
        **outcome.figures,
        "counters": outcome.counters,
        "protocol": scores.protocol_line,
    }
    written = [options.report / "poses", *_write(options, recording, topics, outcome.replies, "live", facts)]
    title = f"bag {options.bag.resolve().name} played to {options.node}"
    _tell(options, title, scores, [] if scores.pictures else answer_pictures(answers, options.models), said, written)
    return 0 if outcome.figures["answers"] else 1


def _tell(
    options: argparse.Namespace, title: str, scores: Scores, pictures: list[Picture], said: list[str],
    written: list[Path],
) -> None:  # fmt: skip
    """Print the tables, the sentences and what is written; write scores.json and report.html, at the least pictures."""
    for evaluation in scores.evaluations:
        print(markdown_table(evaluation))
    if scores.evaluations:
        written.append(options.report / "scores.json")
        write_json(scores.evaluations, written[-1])
    page = options.report / "report.html"
    written.append(write_report(page, title, scores.evaluations, scores.pictures or pictures, said))
    print("\n".join([*said, "", *map(str, written)]))


def _write(
    options: argparse.Namespace, recording: Recording, topics: BagTopics, replies: list[Reply], mode: str,
    facts: Mapping[str, Any],
) -> list[Path]:  # fmt: skip
    """poses.csv, poses.json and replay.json."""
    files = write_poses(options.report, pose_records([reply.message for reply in replies]))
    summary = options.report / "replay.json"
    content = {
        "mode": mode,
        "bag": options.bag.resolve().name,
        "topics": vars(topics),
        "problems": recording.problems,
        **facts,
    }
    summary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return [*files, summary]


def _books(books: Books) -> dict[str, Any]:
    names = ("received", "published", "counters", "reasons", "damaged", "errors")
    return {"used": books.used, **{name: getattr(books, name) for name in names}}


def _changes(given: list[str]) -> dict[str, str]:
    changes = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item!r} is not NAME=VALUE")
        changes[name] = value
    return changes


def _remaps(options: argparse.Namespace, topics: BagTopics) -> dict[str, str]:
    found = {}
    for item in options.remap:
        source, separator, target = item.partition(":=")
        if not separator or not target or source not in topics.names:
            raise ValueError(f"--remap {item!r} is not FROM:=TO with a topic of the bag ({', '.join(topics.names)})")
        found[source] = target
    return found
