"""A bag over a real DDS to the running node: the poses are the offline replay's to the last bit; times are measured."""

from __future__ import annotations

import json
import re

import harness
import pytest
import recorded_bag as made
from bundle_facts import make_meshes, make_metadata

from shared_pose_ros.bags.recording import choose_topics, open_recording
from shared_pose_ros.bundle import RefinerFacts, export_bundle, pack_refiner
from shared_pose_ros.cli.main import main
from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.replay import live
from shared_pose_ros.replay.player import Player, Sent, header_key
from shared_pose_ros.replay.results import Timing
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.messages.detections import image_key

FRAMES = 8
POSES = "/shared_pose_node/poses"
LOST = [name for name, info in COUNTERS.items() if info.stream == "detections"]


@pytest.fixture(scope="module")
def refining_bundle(tiny_network, tmp_path_factory):
    """The tiny bundle with a refiner."""
    path = tmp_path_factory.mktemp("refining") / "tiny.pose.pt"
    refiner = pack_refiner(PoseRefiner().eval(), RefinerFacts(samples=0, objects="", commit=""))
    export_bundle(tiny_network, make_metadata(), path, make_meshes(), refiner=refiner)
    return path


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def live_run(request, tiny_bundle, refining_bundle, tmp_path_factory):
    """(bag, options of the replay) with a node that listens to the bag's topics; raw images come with depth.

    With "refined" they are raw and the node has the other bundle.
    """
    folder, raw = tmp_path_factory.mktemp("live"), request.param != "jpeg"
    recorded = made.ordinary(folder / "bag", FRAMES, transport="raw" if raw else "jpeg", with_depth=raw)
    remaps = {"image": made.IMAGE, "camera_info": made.INFO, "detections": made.DETECTIONS, "depth": made.DEPTH}
    transport = {"image_transport": "raw" if raw else "compressed", "use_depth": "true" if raw else "false"}
    bundle = refining_bundle if request.param == "refined" else tiny_bundle
    process = harness.NodeProcess(folder / "log.txt", remaps, bundle=bundle, device="cpu", max_batch=4, **transport)
    yield recorded, ["--image", made.IMAGE, "--depth", made.DEPTH] if raw else []
    assert process.end() == 0, process.log


def poses(folder):
    return json.loads((folder / "poses.json").read_text())


def test_live_and_offline_poses_are_equal_to_the_last_bit(live_run, tiny_bundle, tmp_path, capsys):
    """Every rotation, translation and score; frames of 1 to 6 objects, so that some are split into two batches."""
    (recorded, options), out = live_run, str(tmp_path / "live")
    assert main(["replay", str(recorded), *options, "--live", "--report", out, "--rate", "0.5", "--clock"]) == 0
    said = capsys.readouterr().out
    given = ["--bundle", str(tiny_bundle), "--device", "cpu", "--set", "max_batch=4"]
    assert main(["replay", str(recorded), *options, *given, "--report", str(tmp_path / "offline")]) == 0
    came, expected = poses(tmp_path / "live"), poses(tmp_path / "offline")
    assert [entry["stamp_ns"] for entry in expected] == [made.stamp(number) for number in range(FRAMES)]
    assert [len(entry["detections"]) for entry in expected] == [1 + number % 6 for number in range(FRAMES)]
    assert all(len(d["hypotheses"]) == 4 and d["hypotheses"][0]["position"] for e in expected for d in e["detections"])
    # A busy machine may cost a frame or two; what came must be equal.
    stamps = {entry["stamp_ns"] for entry in came}
    assert len(came) == len(stamps) >= FRAMES - 2
    assert came == [entry for entry in expected if entry["stamp_ns"] in stamps]
    # All that is published, covariances and boxes too, read from the two bags.
    both = []
    for name in ("live", "offline"):
        messages = [record.message() for record in open_recording(tmp_path / name / "poses").messages([POSES])]
        both.append({image_key(message): repr(message) for message in messages})
    assert both[0] == {key: text for key, text in both[1].items() if key[0] in stamps}
    books = json.loads((tmp_path / "offline" / "replay.json").read_text())
    assert books["parameters"]["use_depth"] == bool(options)
    if options:
        assert books["used"]["depth"] == books["received"]["depth"] == FRAMES - 1 and books["counters"]["no_depth"] == 1
        assert books["counters"]["depth_rejected"] < sum(len(entry["detections"]) for entry in expected) / 2
    found = json.loads((tmp_path / "live" / "replay.json").read_text())
    assert (found["responses"], found["images_published"]) == (len(came), FRAMES)
    assert found["drops"] == FRAMES - len(came) == sum(found["counters"][name] for name in LOST)
    assert 0 < found["latency_ms"]["min"] <= found["latency_ms"]["p50"] <= found["latency_ms"]["max"] < 10_000
    assert found["bundle"] == "tiny"
    assert f"Responses: {len(came)}, drops {found['drops']}" in said and "published to poses received: min" in said


@pytest.mark.parametrize("live_run", ["refined"], indirect=True)
def test_with_memory_live_and_offline_are_equal_too(live_run, refining_bundle, tmp_path):
    """Ids go through all frames. A frame that a busy machine loses changes those after it: the bag is played again."""
    recorded, topics = live_run
    given = {"smoothing": 0.6, "symmetric_representative": "last", "refine_memory": True}
    bundle = ["--bundle", str(refining_bundle), "--device", "cpu", "--set", "max_batch=4"]
    assert main(["replay", str(recorded), *topics, *bundle, "--report", str(tmp_path / "plain")]) == 0
    changes = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    assert main(["replay", str(recorded), *topics, *bundle, *changes, "--report", str(tmp_path / "offline")]) == 0
    with harness.peer() as peer:
        for name, value in given.items():
            assert peer.set_parameter(name, value).successful
        for attempt in range(5):
            peer.reset()
            out = tmp_path / f"live {attempt}"
            assert main(["replay", str(recorded), *topics, "--live", "--report", str(out), "--rate", "0.5"]) == 0
            if len(poses(out)) == FRAMES:
                break
    assert poses(out) == poses(tmp_path / "offline") and len(poses(out)) == FRAMES
    forgetful = [*changes, "--set", "refine_memory=false"]
    assert main(["replay", str(recorded), *topics, *bundle, *forgetful, "--report", str(tmp_path / "forgetful")]) == 0
    assert poses(tmp_path / "plain") != poses(tmp_path / "forgetful") != poses(tmp_path / "offline")


def test_a_looped_bag_is_answered_anew(live_run, tmp_path):
    """The bag is longer than the time jump; what is lost where it begins anew is a drop with a name."""
    recorded, topics = live_run
    options = ["--live", "--loop", "2", "--rate", "0.5", "--report", str(tmp_path / "out")]
    assert main(["replay", str(recorded), *topics, *options]) == 0
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert found["pairs_published"] == 2 * FRAMES and found["responses"] > FRAMES
    # One more if the node has seen the bag before.
    assert found["counters"]["time_jumps"] in (1, 2)
    lost = sum(found["counters"][name] for name in LOST)
    assert found["drops"] == 2 * FRAMES - found["responses"] == lost


def test_what_the_node_does_not_hear_is_named(live_run, tmp_path, capsys):
    """And where it listens, by another topic, another name and another type."""
    recorded, topics = live_run
    options = ["replay", str(recorded), *topics, "--live", "--report", str(tmp_path / "out")]

    def told(wanted: str, *more: str) -> str:
        """What is said, waiting longer each time: a busy machine finds out later where the node listens."""
        for seconds in (1, 2, 4, 8, 16):
            assert main([*options, "--wait", f"{seconds}", *more]) == 1
            said = capsys.readouterr().out
            if re.search(wanted.format(seconds), said):
                return said
        pytest.fail(f"not {wanted} but {said}")

    elsewhere = ["--remap", f"{made.IMAGE}:=/other"]
    said = told("nobody listened on /other in {} s; (the node|somebody) listens on ", *elsewhere)
    assert made.IMAGE in said and made.DETECTIONS not in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Player, "_inputs", lambda _: [])
        said = told("nobody listened on /other in {} s; somebody listens on ", *elsewhere)
    assert made.IMAGE in said and made.DETECTIONS not in said
    told("nobody published /another/poses in {} s: take --node shared_pose_node", "--node", "another")
    kinds = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
    [wrong] = kinds - {open_recording(recorded).topics[made.IMAGE]}
    with harness.spinning(lambda context: Player(context, {made.IMAGE: wrong})) as player:
        wanted = f"{made.IMAGE} is {wrong} in the bag and "
        harness.wait_for(lambda: player.missing([made.IMAGE], 1.0).startswith(wanted), "the other type")
        assert player.missing([made.IMAGE], 1.0).endswith("set the node's image_transport")
    assert not any((tmp_path / "out").iterdir())


def test_diagnostics_propose_a_topic_of_the_same_type(live_run):
    recorded, _ = live_run
    elsewhere = {"/elsewhere/image": open_recording(recorded).topics[made.IMAGE]}
    with harness.spinning(lambda context: Player(context, elsewhere)) as player:
        said = f"nothing on '{made.IMAGE}': nobody publishes there, but the same type is on '/elsewhere/image': remap"
        harness.wait_for(lambda: player.status is not None and said in player.status.message, "the proposal")


def test_without_a_node_nothing_comes_back(tmp_path, capsys):
    recorded = made.ordinary(tmp_path / "bag", 1)
    options = ["--live", "--wait", "0.2", "--node", "elsewhere/pose_node", "--report", str(tmp_path / "out")]
    assert main(["replay", str(recorded), *options, "--remap", f"{made.IMAGE}:=/other"]) == 1
    said = capsys.readouterr().out
    assert "nobody published /elsewhere/pose_node/poses in 0.2 s: " in said
    # So that the corrected command may write there.
    assert not any((tmp_path / "out").iterdir())


def test_headers_are_read_from_the_wire(tmp_path):
    recording = open_recording(made.ordinary(tmp_path / "bag", 2))
    for record in recording.messages(choose_topics(recording.topics).names):
        message = record.message()
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert header_key(record.data) == (stamp, message.header.frame_id)
        with pytest.raises(ValueError, match="no message with a header"):
            header_key(record.data[:14])


def test_answers_belong_to_the_latest_publication_of_their_stamp():
    def data(stamp):
        seconds, rest = divmod(stamp, 10**9)
        return bytes([0, 1, 0, 0]) + seconds.to_bytes(4, "little") + rest.to_bytes(4, "little") + b"\x02\0\0\0c\0"

    sent = [
        Sent(topic, (stamp, "c"), loop * 10.0 + stamp + delay, loop)
        for loop in range(2)
        for stamp in (1, 2)
        for topic, delay in (("image", 0.0), ("boxes", 0.25))
    ]
    answers = [(1.5, data(1)), (11.5, data(1)), (11.6, data(1)), (11.7, data(7)), (12.75, data(2)), (1.0, data(2))]
    found = live.match(sent, answers, "image", "boxes")
    assert found == [
        Timing(1.0, 1.25, 1.5),
        Timing(11.0, 11.25, 11.5),
        Timing(12.0, 12.25, 12.75),
    ]
