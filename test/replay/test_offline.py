"""The node's pipeline on a recorded bag: every message ends in an output or under a counter, whatever is in the bag."""

import dataclasses

import numpy as np
import pytest
import recorded_bag as made
from evaluation_scene import CAMERA, SIZE
from hypothesis import HealthCheck, given
from hypothesis import settings as trial
from hypothesis import strategies as st

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import BagTopics, choose_topics, open_recording
from shared_pose_ros.pipeline.pose_pipeline import load_estimator
from shared_pose_ros.replay.offline import load_image, replay
from shared_pose_ros.replay.results import pose_records
from shared_pose_ros.ros.diagnostics.counters import COUNTERS

TOPICS = BagTopics(made.IMAGE, made.DETECTIONS, made.INFO, None, made.DEPTH)


@pytest.fixture(scope="module")
def estimator(tiny_bundle):
    return load_estimator(made.settings(tiny_bundle))


@pytest.fixture
def run(estimator, tiny_bundle):
    """Replay (topic, message, time) triples; returns responses and accounting, whose balance is checked."""

    def run_(messages, transport="raw", **changes):
        store = bag_io.message_types()
        records = [
            bag_io.BagMessage(topic, m.__msgtype__, time, bytes(store.serialize_cdr(m, m.__msgtype__)), store)
            for topic, m, time in messages
        ]
        responses = []
        settings = made.settings(tiny_bundle, transport, **changes)
        accounting, _ = replay(records, estimator, settings, TOPICS, responses.append)
        check_balance(accounting, responses)
        return responses, accounting

    return run_


def check_balance(accounting, responses):
    lost = {
        stream: sum(number for name, number in accounting.counters.items() if COUNTERS[name].stream == stream)
        for stream in ("image", "detections", "object", "depth")
    }
    assert accounting.received["images"] == accounting.used["images"] + lost["image"]
    assert accounting.received["depth"] == accounting.used["depth"] + lost["depth"]
    assert accounting.received["detections"] == accounting.published["poses"] + lost["detections"]
    assert accounting.published["poses"] == len(responses)
    assert accounting.published["objects"] == sum(len(response.poses) for response in responses)
    assert set(accounting.counters) == set(COUNTERS)


def grown(accounting):
    return {name: number for name, number in accounting.counters.items() if number}


def pair(number, count=1, image=None):
    when = made.stamp(number)
    return [
        (made.INFO, made.info(number), when),
        (made.IMAGE, image or made.picture(number), when),
        (made.DETECTIONS, made.boxes_message(count, number), when + 10),
    ]


EVENTS = st.tuples(
    st.sampled_from(
        ["image", "boxes", "info", "depth", "bad image", "bad depth", "other frame", "empty box", "unknown class"]
        + ["no class"]
    ),
    st.integers(0, 5),
    st.integers(0, 3_000_000_000),
)


def event_message(kind, number):
    boxes = made.boxes_message(2, number)
    if kind == "image":
        return made.IMAGE, made.picture(number)
    if kind == "info":
        return made.INFO, made.info(number)
    if kind in ("depth", "bad depth"):
        return made.DEPTH, made.depth(number, "16UC1" if kind == "depth" else "rgb8")
    if kind == "bad image":
        return made.IMAGE, dataclasses.replace(made.picture(number), encoding="yuv422")
    if kind == "other frame":
        boxes.header.frame_id = "elsewhere"
    elif kind == "empty box":
        boxes.detections[0].bbox.size_x = 0.0
    elif kind == "unknown class":
        boxes.detections[1].results[0].hypothesis.class_id = "spoon"
    elif kind == "no class":
        boxes.detections[1].results = []
    return made.DETECTIONS, boxes


@trial(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=14))
@pytest.mark.slow
def test_every_message_ends_in_an_output_or_a_counter(run, events):
    timed = sorted(events, key=lambda event: event[2])
    messages = [(*event_message(kind, number), made.START + when) for kind, number, when in timed]
    _, accounting = run(messages, use_depth="true")
    assert accounting.received["depth"] == sum(topic == made.DEPTH for topic, _, _ in messages)
    assert accounting.received["images"] == sum(topic == made.IMAGE for topic, _, _ in messages)
    assert accounting.received["detections"] == sum(topic == made.DETECTIONS for topic, _, _ in messages)
    assert accounting.received["camera_info"] == sum(topic == made.INFO for topic, _, _ in messages)
    assert accounting.errors == [] and accounting.damaged == {}


def test_poses_are_the_estimator_s_in_batches_of_at_most_max_batch(run, estimator):
    (response,), accounting = run(pair(0, count=6))
    boxes = np.stack([d.box for d in made.found(6)]).astype(np.float32)
    index = np.array([0, 1, 2, 0, 1, 2])
    first, rest = (estimator.estimate(made.noise(0), boxes[s], index[s], CAMERA) for s in (np.s_[:4], np.s_[4:]))
    np.testing.assert_array_equal(response.frame.estimate.rotations, np.concatenate([first.rotations, rest.rotations]))
    assert response.poses.ids == [f"track {i}" for i in range(6)]
    np.testing.assert_allclose(response.poses.rotations, np.concatenate([first.rotations, rest.rotations]), atol=1e-6)
    assert grown(accounting) == {} and response.poses.stamp == made.stamp(0) and response.time_ns == made.stamp(0) + 10


def test_depth_decides_the_poses_where_it_is_there(run, estimator):
    when = made.stamp(0)
    both = [*pair(0, count=6)[:2], (made.DEPTH, made.depth(0), when + 1), pair(0, count=6)[2]]
    (plain,), _ = run(pair(0, count=6))
    (deep,), accounting = run(both, use_depth="true")
    assert accounting.used == {"images": 1, "depth": 1}
    boxes = np.stack([d.box for d in made.found(6)]).astype(np.float32)
    metres = (made.depth(0).data.view(np.uint16).reshape(SIZE) * 1e-3).astype(np.float32)
    index = np.array([0, 1, 2, 0, 1, 2])
    parts = [estimator.estimate(made.noise(0), boxes[s], index[s], CAMERA, metres) for s in (np.s_[:4], np.s_[4:])]
    estimate = deep.frame.estimate
    aligned = ~np.isnan(estimate.deviations)
    # Two objects are of the class without a mesh; of the others the plane explains some.
    assert aligned.any() and not aligned[[2, 5]].any()
    counts = {"no_mesh": 2, "alignment_rejected": 4 - aligned.sum()}
    assert {name: accounting.counters[name] for name in counts} == counts
    assert set(grown(accounting)) <= {"depth_rejected", *counts}
    for name in ("rotations", "translations", "position_covariances"):
        expected, found = np.concatenate([getattr(part, name) for part in parts]), getattr(estimate, name)
        np.testing.assert_array_equal(found[~aligned], expected[~aligned])
        assert (found[aligned] != expected[aligned]).reshape(aligned.sum(), -1).any(axis=1).all()
    assert (estimate.translations != plain.frame.estimate.translations).any(axis=1)[aligned].all()
    assert grown(run(pair(0), use_depth="true")[1]) == {"no_depth": 1}


def test_each_loss_has_its_name(run):
    ordinary = pair(0)
    assert grown(run(ordinary[:2])[1]) == {"unmatched_image": 1}
    assert grown(run(ordinary[2:])[1]) == {"unmatched_detection": 1}
    assert grown(run(ordinary[1:])[1]) == {"no_camera_info": 1}
    late = made.stamp(0) + 2_000_000_000
    assert grown(run([*ordinary[:2], (*ordinary[2][:2], late)])[1]) == {"unmatched_image": 1, "late_detection": 1}
    assert grown(run([*ordinary, ordinary[2]])[1]) == {"duplicate_detection": 1}
    assert grown(run([ordinary[1], *ordinary])[1]) == {"duplicate_image": 1}
    cut = dataclasses.replace(made.picture(0), data=made.picture(0).data[:100])
    assert grown(run(pair(0, 3, cut))[1]) == {"truncated_image": 1, "lost_with_frame": 3}
    jpeg = made.picture(0, "jpeg")
    no_end = dataclasses.replace(jpeg, data=jpeg.data[:200])
    assert grown(run(pair(0, 2, no_end), "compressed")[1]) == {"truncated_image": 1, "lost_with_frame": 2}
    nothing = dataclasses.replace(jpeg, data=np.arange(50, dtype=np.uint8))
    assert grown(run(pair(0, 2, nothing), "compressed")[1]) == {"undecodable_image": 1, "lost_with_frame": 2}


def test_a_bag_that_begins_anew_is_a_time_jump(run):
    once = [message for number in range(25) for message in pair(number)]
    again = [(topic, m, time + 25 * made.PERIOD) for topic, m, time in once]
    responses, accounting = run([*once, *again])
    assert len(responses) == 50 and accounting.counters["time_jumps"] == 1


def test_parameters_of_the_node_count(run):
    ordinary = pair(0, 2)
    shifted = [*ordinary[:2], (made.DETECTIONS, made.boxes_message(2, 0), ordinary[2][2])]
    shifted[2][1].header.stamp.nanosec += 5_000_000
    assert grown(run(shifted)[1]) == {"unmatched_image": 1, "unmatched_detection": 1}
    assert grown(run(shifted, pairing_slop_seconds="0.01")[1]) == {}
    assert run(ordinary, score_threshold="0.95")[1].counters["low_score"] == 2
    (response,), _ = run(ordinary, hypotheses="2")
    assert response.poses.rotations.shape == (2, 2, 3, 3)


def test_temporal_filtering_counts_and_is_the_same_again(run):
    """Objects keep their ids from frame to frame; frames out of order are answered by themselves."""
    messages = [message for number in (0, 1, 3, 2, 4) for message in pair(number, count=3)]
    messages = [(topic, m, made.START + 1000 * i) for i, (topic, m, _) in enumerate(messages)]
    plain, _ = run(messages)
    smooth, accounting = run(messages, smoothing="0.6")
    again, _ = run(messages, smoothing="0.6")
    plain, smooth, again = (
        pose_records([response.poses for response in responses]) for responses in (plain, smooth, again)
    )
    assert smooth == again and [entry["stamp_ns"] for entry in smooth] == [made.stamp(i) for i in range(5)]
    assert [one == other for one, other in zip(plain, smooth)] == [True, False, True, False, False]
    assert accounting.counters["not_newer"] == 3
    for entry in smooth:
        for detection in entry["detections"]:
            scores = [hypothesis["score"] for hypothesis in detection["hypotheses"]]
            assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1.0, abs=1e-6)


def test_damaged_messages_are_counted_and_the_rest_answered(estimator, tiny_bundle):
    store, good = bag_io.message_types(), pair(0)
    records = [
        bag_io.BagMessage(topic, m.__msgtype__, time, bytes(store.serialize_cdr(m, m.__msgtype__)), store)
        for topic, m, time in good
    ]
    broken = dataclasses.replace(records[2], data=records[2].data[:40])
    responses = []
    accounting, _ = replay([broken, *records], estimator, made.settings(tiny_bundle), TOPICS, responses.append)
    assert accounting.damaged == {made.DETECTIONS: 1} and len(responses) == 1
    check_balance(accounting, responses)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("transport", ["raw", "png"])
def test_storage_and_transport_make_no_difference(tmp_path, estimator, tiny_bundle, storage, transport):
    """PNG loses nothing, so all four bags must give the bits of the first."""
    found = []
    for number, (kind, form) in enumerate([("mcap", "raw"), (storage, transport)]):
        recording = open_recording(made.ordinary(tmp_path / str(number), storage=kind, transport=form))
        topics = choose_topics(recording.topics)
        settings = made.settings(tiny_bundle, "raw" if form == "raw" else "compressed")
        responses = []
        accounting, _ = replay(recording.messages(topics.names), estimator, settings, topics, responses.append)
        check_balance(accounting, responses)
        assert len(responses) == 4 and grown(accounting) == {}
        found.append(pose_records([response.poses for response in responses]))
        again = load_image(recording, topics.image, (made.stamp(2), made.FRAME), made.stamp(2) + 1)
        np.testing.assert_array_equal(again, made.noise(2))
        assert again.shape == (*SIZE, 3)
    assert found[0] == found[1]
