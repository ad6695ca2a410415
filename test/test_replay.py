"""Bags with ground truth: written, read back, scored like a dataset."""

import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, objects, turn

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.evaluation import bag
from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.evaluate import Candidates, Chance
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.evaluation.replay import (
    TRUTH_TOPIC,
    estimate_frames,
    picture_frames,
    read_frames,
    score_frames,
    shown_frames,
    write_scenes,
)
from shared_pose_ros.evaluation.report_cases import case_pictures
from shared_pose_ros.evaluation.scenes import SceneFrame
from shared_pose_ros.evaluation.scoring import PoseScorer

POSES = (("1", turn([1, 2, 3], 70), [-0.03, 0.0, 0.30]), ("2", turn([3, 1, -1], 150), [0.03, 0.01, 0.36]))

UNCHANGED = np.eye(3)


@pytest.fixture(scope="module")
def scorer():
    return PoseScorer(objects())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two images; class 1 is hidden to 40 % in the second."""
    rng = np.random.default_rng(0)
    frames = []
    for image_id in range(2):
        instances = tuple(
            Instance(class_id, number, rotation, np.array(translation), 1.0 - 0.6 * (image_id and not number), box)
            for number, ((class_id, rotation, translation), box) in enumerate(
                zip(POSES, np.array([[57.0, 61.0, 50.0, 45.5], [97.0, 66.0, 36.0, 30.0]]))
            )
        )
        image = np.full((*SIZE, 3), 100, np.uint8) + rng.integers(0, 20, (*SIZE, 3), dtype=np.uint8)
        none = np.zeros((2, *SIZE), dtype=bool)
        frames.append(SceneFrame(4, image_id, image, np.ones(SIZE, np.float32), CAMERA, instances, none, none))
    folder = tmp_path_factory.mktemp("bags") / "two_frames"
    assert write_scenes(folder, frames) == 2
    return folder


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


def test_true_poses_score_one_and_wrong_ones_near_chance(frames, scorer):
    protocol, chance = get_protocol("paper"), Chance(draws=6)
    good = score_frames(frames, true_poses(frames), scorer, protocol, "oracle", "two_frames", chance)
    assert [(r.im_id, r.class_id) for r in good.instances] == [(0, "1"), (0, "2"), (1, "1"), (1, "2")]
    assert all(result.score == 1.0 and result.rotation_deg < 1e-3 for result in good.instances)
    assert "rendered from the ground-truth poses of all parts" in good.protocol_line
    assert "two_frames, 2 images" in good.protocol_line and "6 uniform random rotations" in good.protocol_line
    turned = score_frames(frames, true_poses(frames, turn([0, 0, 1], 90)), scorer, protocol, "bad", "x", chance)
    assert all(result.rotation_deg == pytest.approx(90.0, abs=1e-3) for result in turned.instances)
    assert all(0 < result.chance_score < 1 and result.score < 0.9 for result in turned.instances)


def test_a_part_in_front_counts_in_the_depth(frames, scorer):
    # A third part in front hides object 1: what is hidden of a wrong pose must not be held against it.
    stamp, names = frames[0].stamp, list(frames[0].truth)
    wrong = {stamp: {names[0]: true_poses(frames, turn([0, 1, 0], 30))[stamp][names[0]]}}
    front = Instance("2", 9, np.eye(3), np.array([-0.02, 0.0, 0.2]), 1.0, None)
    hidden = type(frames[0])(**{**vars(frames[0]), "truth": {**frames[0].truth, "front": front}})
    protocol, chance = get_protocol("paper"), Chance(draws=1)
    free, covered = (
        score_frames([frame], wrong, scorer, protocol, "x", "x", chance).instances[0] for frame in (frames[0], hidden)
    )
    assert free.e_vsd != covered.e_vsd


def test_detections_without_poses_are_counted(frames, scorer):
    poses = true_poses(frames)
    del poses[frames[0].stamp]["heap 4 part 0"], poses[frames[1].stamp]
    result = score_frames(frames, poses, scorer, get_protocol("paper"), "x", "x", Chance(draws=1))
    assert len(result.instances) == 1 and result.skipped == {"without_poses": 3}
    with pytest.raises(ValueError, match="nothing to score in x: .*without_poses"):
        score_frames(frames, {}, scorer, get_protocol("paper"), "x", "x")


def test_the_estimator_answers_every_known_detection(frames, tiny_bundle):
    estimator = PoseEstimator.load(tiny_bundle, "cpu")
    found = estimate_frames(estimator, frames)
    assert list(found) == [frame.stamp for frame in frames]
    answer = found[frames[0].stamp]["heap 4 part 1"]
    boxes = np.stack(list(frames[0].boxes.values()))
    expected = estimator.estimate(frames[0].image, boxes, np.array([1, 2]), frames[0].camera)
    np.testing.assert_allclose(answer.rotations, expected.rotations[1], atol=1e-6)
    assert answer.confidence == pytest.approx(float(expected.confidences[1, 0]))


def test_pictures_show_both_poses(frames, scorer):
    poses = true_poses(frames, turn([1, 0, 0], 90))
    evaluation = score_frames(frames, poses, scorer, get_protocol("paper"), "x", "x", Chance(draws=1))
    pictures = picture_frames(frames, evaluation, scorer, limit=5)
    assert len(pictures) == 2 and "1 90°, 2 90°" in pictures[0].caption
    assert (pictures[0].image != frames[0].image).any(axis=-1).sum() > 100


def test_cases_are_shown_from_a_bag(frames, scorer):
    evaluation = score_frames(frames, true_poses(frames), scorer, get_protocol("paper"), "x", "x", Chance(draws=1))
    shown = shown_frames(frames)
    assert list(shown) == [(0, 0), (0, 1)]
    for (_, number), frame in shown.items():
        np.testing.assert_array_equal(frame.image(), frames[number].image)
        assert [frame.truths[i].class_id for i in (0, 1)] == ["1", "2"]
    pictures = case_pictures(evaluation, shown, scorer)
    captions = [picture.caption for of_kind in pictures.values() for picture in of_kind]
    assert len(captions) == 3 and any("scene 0, image 1" in caption for caption in captions)


def test_a_bag_without_ground_truth_is_named(tmp_path):
    with bag.BagWriter(tmp_path / "other") as writer:
        writer.write("/camera/camera_info", bag.camera_info_message(CAMERA, SIZE, 1, "camera"), 1)
    with pytest.raises(bag.BagError, match=f"has no /camera/image/compressed, /detections, {TRUTH_TOPIC}"):
        read_frames(tmp_path / "other")
