"""Answers of a node are put beside the bag's detections as the offline replay, which knows them, has them."""

import copy

import numpy as np
import pytest
import recorded_bag as made

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.recording import choose_topics, open_recording
from shared_pose_ros.replay.frame_overlays import answer_pictures
from shared_pose_ros.replay.offline import replay
from shared_pose_ros.replay.responses import answers_of
from shared_pose_ros.ros.pipeline import load_estimator

FRAMES = 4


@pytest.fixture(scope="module")
def replayed(tiny_bundle, tmp_path_factory):
    """(recording, its topics, the offline replies)."""
    recording = open_recording(made.ordinary(tmp_path_factory.mktemp("answers") / "bag", FRAMES))
    topics, replies, settings = choose_topics(recording.topics), [], made.settings(tiny_bundle)
    replay(recording.messages(topics.names), load_estimator(settings), settings, topics, replies.append)
    return recording, topics, replies


def same(found, expected):
    assert (found.stamp, found.frame_id, found.size) == (expected.stamp, expected.frame_id, expected.size)
    assert (found.ids, found.class_ids) == (expected.ids, expected.class_ids)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.camera, expected.camera)
    np.testing.assert_array_equal(found.load(), expected.load())
    for one, other in zip(found.poses, expected.poses, strict=True):
        np.testing.assert_array_equal(one.rotations, other.rotations)


def test_they_are_those_of_the_offline_replay(replayed):
    recording, topics, replies = replayed
    answers = answers_of(recording, topics, [reply.message for reply in replies])
    assert answers.stamps == [made.stamp(number) for number in range(FRAMES)] and answers.strange == 0
    for found, reply in zip(answers.frames, replies, strict=True):
        same(found, reply.frame)
    pictures = answer_pictures(answers, None)
    assert len(pictures) == FRAMES and all(picture.image.shape == (*made.SIZE, 3) for picture in pictures)


def test_left_out_objects_second_loops_and_strangers(replayed):
    recording, topics, replies = replayed
    partial = copy.deepcopy(replies[3].message)
    del partial.detections[1]
    foreign, renamed = copy.deepcopy(replies[1].message), copy.deepcopy(replies[2].message)
    foreign.header.frame_id = "elsewhere"
    renamed.detections[0].id = "nobody"
    answers = answers_of(recording, topics, [partial, foreign, renamed, replies[0].message, replies[0].message])
    assert [frame.stamp for frame in answers.frames] == [made.stamp(3), made.stamp(0)]
    assert answers.strange == 2  # the second loop's answer is none
    kept = [0, 2, 3]
    np.testing.assert_array_equal(answers.frames[0].boxes, replies[3].frame.boxes[kept])
    assert answers.frames[0].ids == [replies[3].frame.ids[i] for i in kept]


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
    answers = answers_of(recording, topics, [reply.message for reply in reversed(replies)])
    assert len(replies) == 2 and answers.strange == 0
    for found, reply in zip(answers.frames, reversed(replies), strict=True):
        same(found, reply.frame)


def test_without_positions_there_was_no_camera(replayed):
    recording, topics, replies = replayed
    message = copy.deepcopy(replies[2].message)
    for entry in message.detections:
        for result in entry.results:
            result.pose.covariance[0] = -1.0
    assert answers_of(recording, topics, [message]).frames[0].camera is None


def test_a_camera_info_that_holds_no_camera_is_passed_over(replayed, tmp_path):
    _, _, replies = replayed
    zero, negative = copy.deepcopy(made.info(0)), copy.deepcopy(made.info(0))
    zero.k[:], negative.k[0] = 0.0, -1.0
    messages = [(made.INFO, zero), (made.INFO, negative), (made.INFO, made.info(0)), (made.IMAGE, made.picture(0))]
    messages.append((made.DETECTIONS, made.boxes_message(1, 0)))
    path = made.write(tmp_path / "bag", [(topic, m, made.stamp(0) + n) for n, (topic, m) in enumerate(messages)])
    recording = open_recording(path)
    answers = answers_of(recording, choose_topics(recording.topics), [replies[0].message])
    same(answers.frames[0], replies[0].frame)
