"""Bags with ground truth: written, read back, scored like a dataset."""

import dataclasses

import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, turn
from recorded_bag import POSES, write_two_frames

from shared_pose_ros.bags import bag_io
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.instance_scoring import Candidates, RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.pipeline.frame import PublishedPoses
from shared_pose_ros.replay.bag_frames import (
    TRUTH_TOPIC,
    by_id,
    picture_frames,
    read_frames,
    score_frames,
    shown_frames,
)
from shared_pose_ros.report.cases import case_pictures

UNCHANGED = np.eye(3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_two_frames(tmp_path_factory.mktemp("bags") / "two_frames")


@pytest.fixture(scope="module")
def frames(path):
    return read_frames(path)


def true_poses(frames, change=UNCHANGED):
    return {
        frame.stamp: {
            name: Candidates((i.rotation @ change)[None], i.translation[None], 1.0) for name, i in frame.truth.items()
        }
        for frame in frames
    }


def test_what_is_written_is_read(frames):
    assert [b.stamp - a.stamp for a, b in zip(frames, frames[1:])] == [100_000_000]
    for frame in frames:
        assert list(frame.boxes) == list(frame.truth) == ["heap 4 part 0", "heap 4 part 1"]
        np.testing.assert_array_equal(frame.camera, CAMERA)
        assert frame.image.shape == (*SIZE, 3) and abs(frame.image.mean() - 109.5) < 2
        for instance, (class_id, rotation, translation) in zip(frame.truth.values(), POSES):
            assert instance.class_id == class_id
            np.testing.assert_allclose(instance.rotation, rotation, atol=1e-12)
            np.testing.assert_allclose(instance.translation, translation, atol=1e-12)
    np.testing.assert_array_equal(frames[0].boxes["heap 4 part 0"], [57.0, 61.0, 50.0, 45.5])
    assert frames[1].truth["heap 4 part 0"].visibility == pytest.approx(0.4)


def test_a_replay_scores_with_the_expected_error_and_a_message_has_none():
    poses = PublishedPoses(
        0, "", ["a", "b"], ["1", "1"], np.tile([0.0, 0, 0, 1], (2, 1, 1)), np.zeros((2, 1, 3)), np.ones((2, 1)),
        np.zeros((2, 1, 6, 6)), np.zeros((2, 3)), np.ones((2, 3)), np.array([0.2, np.nan]),
    )  # fmt: skip
    assert [found.expected_error for found in by_id(poses).values()] == [0.2, None]
    unknown = dataclasses.replace(poses, expected_errors=None)
    assert [found.expected_error for found in by_id(unknown).values()] == [None, None]


def test_true_poses_score_one_and_wrong_ones_near_random_ones(frames, scorer):
    protocol, baseline = get_protocol("paper"), RandomRotationBaseline(draws=6)
    good = score_frames(frames, true_poses(frames), scorer, protocol, "oracle", "two_frames", baseline)
    assert [(r.im_id, r.class_id) for r in good.instances] == [(0, "1"), (0, "2"), (1, "1"), (1, "2")]
    assert all(result.score == 1.0 and result.rotation_deg < 1e-3 for result in good.instances)
    assert "rendered from the ground-truth poses of all parts" in good.protocol_line
    assert "two_frames, 2 images" in good.protocol_line and "6 uniform random rotations" in good.protocol_line
    turned = score_frames(frames, true_poses(frames, turn([0, 0, 1], 90)), scorer, protocol, "bad", "x", baseline)
    assert all(result.rotation_deg == pytest.approx(90.0, abs=1e-3) for result in turned.instances)
    assert all(0 < result.chance_score < 1 and result.score < 0.9 for result in turned.instances)


def test_a_part_in_front_counts_in_the_depth(frames, scorer):
    # A third part in front hides object 1: what is hidden of a wrong pose must not be held against it.
    stamp, names = frames[0].stamp, list(frames[0].truth)
    wrong = {stamp: {names[0]: true_poses(frames, turn([0, 1, 0], 30))[stamp][names[0]]}}
    front = Instance("2", 9, np.eye(3), np.array([-0.02, 0.0, 0.2]), 1.0, None)
    hidden = type(frames[0])(**{**vars(frames[0]), "truth": {**frames[0].truth, "front": front}})
    protocol, baseline = get_protocol("paper"), RandomRotationBaseline(draws=1)
    free, covered = (
        score_frames([frame], wrong, scorer, protocol, "x", "x", baseline).instances[0] for frame in (frames[0], hidden)
    )
    assert free.e_vsd != covered.e_vsd


def test_detections_without_poses_are_counted(frames, scorer):
    poses = true_poses(frames)
    del poses[frames[0].stamp]["heap 4 part 0"], poses[frames[1].stamp]
    result = score_frames(frames, poses, scorer, get_protocol("paper"), "x", "x", RandomRotationBaseline(draws=1))
    assert len(result.instances) == 1 and result.skipped == {"without_poses": 3}
    with pytest.raises(ValueError, match="nothing to score in x: .*without_poses"):
        score_frames(frames, {}, scorer, get_protocol("paper"), "x", "x")


def test_pictures_show_both_poses(frames, scorer):
    poses = true_poses(frames, turn([1, 0, 0], 90))
    evaluation = score_frames(frames, poses, scorer, get_protocol("paper"), "x", "x", RandomRotationBaseline(draws=1))
    pictures = picture_frames(frames, evaluation, scorer, limit=5)
    assert len(pictures) == 2 and "1 90°, 2 90°" in pictures[0].caption
    assert (pictures[0].image != frames[0].image).any(axis=-1).sum() > 100


def test_cases_are_shown_from_a_bag(frames, scorer):
    evaluation = score_frames(
        frames, true_poses(frames), scorer, get_protocol("paper"), "x", "x", RandomRotationBaseline(draws=1)
    )
    shown = shown_frames(frames)
    assert list(shown) == [(0, 0), (0, 1)]
    for (_, number), frame in shown.items():
        np.testing.assert_array_equal(frame.image(), frames[number].image)
        assert [frame.truths[i].class_id for i in (0, 1)] == ["1", "2"]
    pictures = case_pictures(evaluation, shown, scorer)
    captions = [picture.caption for of_kind in pictures.values() for picture in of_kind]
    assert len(captions) == 3 and any("scene 0, image 1" in caption for caption in captions)


def test_a_bag_without_ground_truth_is_named(tmp_path):
    with bag_io.BagWriter(tmp_path / "other") as writer:
        writer.write("/camera/camera_info", bag_io.camera_info_message(CAMERA, SIZE, 1, "camera"), 1)
    with pytest.raises(bag_io.BagError, match=f"has no /camera/image/compressed, /detections, {TRUTH_TOPIC}"):
        read_frames(tmp_path / "other")
