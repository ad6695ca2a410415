"""``shared_pose replay``: a recorded bag through the estimator, or played to a running node, and what came of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, choose_topics, open_recording
from shared_pose_ros.cli.common import import_live
from shared_pose_ros.evaluation.protocols import PROTOCOLS
from shared_pose_ros.evaluation.result_tables import markdown_table
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.replay.scoring import ScoreSettings
from shared_pose_ros.replay.session import Outcome, Session, run_live, run_offline
from shared_pose_ros.resources import set_dds_profile

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
    """Replay, print, write; 1 if a live node gave no response, else 0."""
    _check(options)
    recording = open_recording(options.bag)
    recorded_poses = f"/{options.node.strip('/')}/poses"
    topics = choose_topics(
        recording.topics, options.image, options.detections, options.camera_info, options.truth, {recorded_poses},
        options.depth,
    )  # fmt: skip
    options.report.mkdir(parents=True, exist_ok=True)
    scoring = ScoreSettings(
        options.models, options.protocol, options.max_faces, options.bop, options.split, options.bop_frames
    )
    session = Session(recording, topics, options.node, options.report, scoring)
    if options.live:
        outcome = _live(options, session)
    else:
        outcome = run_offline(session, _parameters(options, session))
    for evaluation in outcome.evaluations:
        print(markdown_table(evaluation))
    print("\n".join([*outcome.sentences, *(["", *map(str, outcome.written)] if outcome.written else [])]))
    return 1 if options.live and not outcome.responses else 0


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


def _parameters(options: argparse.Namespace, session: Session) -> NodeParameters:
    """The node's, as the options and the bag's topics ask for."""
    compressed = session.recording.topics[session.topics.image] == bag_io.COMPRESSED_IMAGE
    given = {"bundle": options.bundle, "device": options.device, **_changes(options.set)}
    use_depth = str(session.topics.depth is not None)
    from_bag = {"image_transport": "compressed" if compressed else "raw", "use_depth": use_depth}
    return NodeParameters.from_text({**given, **from_bag})


def _live(options: argparse.Namespace, session: Session) -> Outcome:
    set_dds_profile()
    live = import_live("shared_pose_ros.replay.live", "--live", "leave --live out")
    remaps = _remaps(options.remap, session.topics)
    plan = live.Plan(options.node, options.rate, options.loop, options.clock, options.wait, remaps)
    return run_live(session, plan, live, lambda text: print(f"replay: {text}", flush=True))


def _changes(given: list[str]) -> dict[str, str]:
    changes = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"--set {item!r} is not NAME=VALUE")
        changes[name] = value
    return changes


def _remaps(given: list[str], topics: BagTopics) -> dict[str, str]:
    found = {}
    for item in given:
        source, separator, target = item.partition(":=")
        if not separator or not target or source not in topics.names:
            raise ValueError(f"--remap {item!r} is not FROM:=TO with a topic of the bag ({', '.join(topics.names)})")
        found[source] = target
    return found
