"""Responses of a node are put beside the bag's detections as the offline replay, which knows them, has them."""

import copy
import dataclasses

import numpy as np
import pytest
import recorded_bag as made

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import choose_topics, open_recording
from shared_pose_ros.pipeline.pose_pipeline import load_estimator
from shared_pose_ros.replay.frame_overlays import response_pictures
from shared_pose_ros.replay.offline import frame_response, replay
from shared_pose_ros.replay.responses import match_responses

FRAMES = 4


@pytest.fixture(scope="module")
def replayed(tiny_bundle, tmp_path_factory):
    """(recording, its topics, the offline replies)."""
    recording = open_recording(made.ordinary(tmp_path_factory.mktemp("matched") / "bag", FRAMES))
    topics, replies, settings = choose_topics(recording.topics), [], made.settings(tiny_bundle)
    replay(recording.messages(topics.names), load_estimator(settings), settings, topics, replies.append)
    return recording, topics, replies


def same(found, expected):
    assert (found.poses.key, found.size) == (expected.poses.key, expected.size)
    assert (found.poses.ids, found.poses.class_ids) == (expected.poses.ids, expected.poses.class_ids)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.camera, expected.camera)
    np.testing.assert_array_equal(found.load(), expected.load())
    np.testing.assert_array_equal(found.poses.rotations, expected.poses.rotations)


def take(poses, rows):
    """The poses of these objects."""
    lists = {name: [getattr(poses, name)[row] for row in rows] for name in ("ids", "class_ids")}
    names = ("quaternions", "positions", "confidences", "covariances", "centres", "extents")
    return dataclasses.replace(poses, **lists, **{name: getattr(poses, name)[rows] for name in names})


def test_they_are_those_of_the_offline_replay(replayed):
    recording, topics, replies = replayed
    matched = match_responses(recording, topics, [reply.poses for reply in replies])
    assert matched.stamps == [made.stamp(number) for number in range(FRAMES)] and matched.strange == 0
    for found, reply in zip(matched.frames, replies, strict=True):
        same(found, frame_response(reply, recording, topics.image))
    pictures = response_pictures(matched.frames, None)
    assert len(pictures) == FRAMES and all(picture.image.shape == (*made.SIZE, 3) for picture in pictures)


def test_left_out_objects_second_loops_and_strangers(replayed):
    recording, topics, replies = replayed
    kept = [0, 2, 3]
    partial = take(replies[3].poses, kept)
    foreign = dataclasses.replace(replies[1].poses, frame_id="elsewhere")
    renamed = dataclasses.replace(replies[2].poses, ids=["nobody", *replies[2].poses.ids[1:]])
    matched = match_responses(recording, topics, [partial, foreign, renamed, replies[0].poses, replies[0].poses])
    assert [frame.poses.stamp for frame in matched.frames] == [made.stamp(3), made.stamp(0)]
    assert matched.strange == 2  # the second loop's answer is none
    np.testing.assert_array_equal(matched.frames[0].boxes, replies[3].frame.detections.boxes[kept])


@pytest.mark.slow
def test_several_detectors_on_one_image(tiny_bundle, tmp_path):
    """Arrays of one stamp that begin alike: the second answer belongs to the second array."""
    first, second = made.found(3)[:2], [made.found(1)[0], made.found(3)[2]]
    arrays = [bag_io.detections_2d_message(boxes, made.stamp(0), made.FRAME) for boxes in (first, second)]
    messages = [(made.INFO, made.info(0)), (made.IMAGE, made.picture(0)), *((made.DETECTIONS, a) for a in arrays)]
    path = made.write(tmp_path / "bag", [(topic, m, made.stamp(0) + n) for n, (topic, m) in enumerate(messages)])
    recording, replies, settings = open_recording(path), [], made.settings(tiny_bundle)
    topics = choose_topics(recording.topics)
    replay(recording.messages(topics.names), load_estimator(settings), settings, topics, replies.append)
    matched = match_responses(recording, topics, [reply.poses for reply in reversed(replies)])
    assert len(replies) == 2 and matched.strange == 0
    for found, reply in zip(matched.frames, reversed(replies), strict=True):
        same(found, frame_response(reply, recording, topics.image))


def test_without_positions_there_was_no_camera(replayed):
    recording, topics, replies = replayed
    poses = dataclasses.replace(replies[2].poses, positions=np.full_like(replies[2].poses.positions, np.nan))
    assert match_responses(recording, topics, [poses]).frames[0].camera is None


def test_a_camera_info_that_holds_no_camera_is_passed_over(replayed, tmp_path):
    _, _, replies = replayed
    zero, negative = copy.deepcopy(made.info(0)), copy.deepcopy(made.info(0))
    zero.k[:], negative.k[0] = 0.0, -1.0
    messages = [(made.INFO, zero), (made.INFO, negative), (made.INFO, made.info(0)), (made.IMAGE, made.picture(0))]
    messages.append((made.DETECTIONS, made.boxes_message(1, 0)))
    path = made.write(tmp_path / "bag", [(topic, m, made.stamp(0) + n) for n, (topic, m) in enumerate(messages)])
    recording = open_recording(path)
    matched = match_responses(recording, choose_topics(recording.topics), [replies[0].poses])
    same(matched.frames[0], frame_response(replies[0], replayed[0], replayed[1].image))
