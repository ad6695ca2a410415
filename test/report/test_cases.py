"""Which cases are shown, and that their crops show what the image shows, with both outlines in place."""

import dataclasses

import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, StandInEstimator, depth_of, turn
from instance_results import instance

from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.report.cases import (
    SIDE,
    case_caption,
    case_pictures,
    dataset_frames,
    gallery,
    select_cases,
    zoom,
)
from shared_pose_ros.report.overlays import ESTIMATE_COLOUR, TRUTH_COLOUR, DrawnPose, draw_poses
from shared_pose_ros.report.residual_rotations import residuals


@pytest.fixture(scope="module")
def evaluation(dataset, scorer):
    estimator = StandInEstimator(dataset, error=turn([0, 0, 1], 90))
    return evaluate_bundle(estimator, dataset, scorer, get_protocol("paper"), baseline=RandomRotationBaseline(2))[0]


def drawn_pixels(image, colour):
    return (image == np.array(colour)).all(axis=-1)


def test_worst_median_and_best_are_what_they_say():
    results = [instance("1", score / 100, 1.0, gt_id=score) for score in range(100)]
    cases = select_cases(results[::-1], {"worst": 3, "median": 2, "best": 3})
    assert [r.gt_id for r in cases["worst"]] == [0, 1, 2]
    assert [r.gt_id for r in cases["median"]] == [49, 50]
    assert [r.gt_id for r in cases["best"]] == [99, 98, 97]


def test_equal_scores_are_told_apart_by_the_rotation_error():
    results = [instance("1", 1.0, degrees) for degrees in (3.0, 1.0, 2.0)]
    cases = select_cases(results)
    assert [cases[name][0].rotation_deg for name in ("worst", "median", "best")] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 20, 60])
def test_no_case_is_shown_twice(count):
    results = [instance("1", 0.5, 1.0, gt_id=number) for number in range(count)]
    shown = [r.gt_id for chosen in select_cases(results).values() for r in chosen]
    assert len(shown) == len(set(shown)) <= count and (len(shown) > 0) == (count > 0)
    if count >= 3:
        assert all(select_cases(results).values())


def test_a_crop_keeps_every_point_where_the_camera_sees_it():
    # A white square far from the border must land where the moved camera projects its corners.
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    image[40:60, 70:100] = 255
    crop, camera = zoom(image, CAMERA, (60, 30, 64))
    assert crop.shape == (SIDE, SIDE, 3)
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    for pixel, found in (((69.5, 39.5), (columns.min(), rows.min())), ((99.5, 59.5), (columns.max(), rows.max()))):
        ray = np.linalg.inv(CAMERA) @ [*pixel, 1.0]
        seen = camera @ ray
        # Pixel edges of the square; the outermost bright pixel's centre lies half a pixel inside.
        np.testing.assert_allclose(np.array(found), seen[:2] / seen[2], atol=0.51)


def test_a_crop_is_black_outside_the_image():
    image = np.full((*SIZE, 3), 200, dtype=np.uint8)
    crop, _ = zoom(image, CAMERA, (-32, 0, 64))
    assert (crop[:, : SIDE // 2 - 4] == 0).all() and (crop[:, SIDE // 2 + 20 :] == 200).all()
    assert not zoom(image, CAMERA, (500, 0, 64))[0].any()
    small, _ = zoom(np.full((900, 900, 3), 7, np.uint8), CAMERA, (0, 0, 600))
    assert (small == 7).all()


def test_outlines_of_a_crop_lie_on_the_object(scorer):
    rotation, translation = turn([1, 2, 0], 40), np.array([0.01, 0.0, 0.3])
    mask = depth_of(scorer, 0, rotation, translation) > 0
    image = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    crop, camera = zoom(image, CAMERA, (40, 20, 90))
    drawn = draw_poses(
        crop, camera, [DrawnPose(0, rotation, translation, TRUTH_COLOUR)], scorer.meshes, scorer.rasterizer
    )
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    line_rows, line_columns = np.nonzero(drawn_pixels(drawn, TRUTH_COLOUR))
    np.testing.assert_allclose([line_rows.min(), line_columns.min()], [rows.min(), columns.min()], atol=3)
    np.testing.assert_allclose([line_rows.max(), line_columns.max()], [rows.max(), columns.max()], atol=3)


def test_case_pictures_show_the_crop_and_both_outlines(evaluation, dataset, scorer):
    cases = case_pictures(evaluation, dataset_frames(dataset), scorer)
    assert {name: len(pictures) for name, pictures in cases.items()} == {"worst": 1, "median": 1, "best": 1}
    for picture in (picture for pictures in cases.values() for picture in pictures):
        assert picture.image.shape == (SIDE, 2 * SIDE, 3)
        plain, drawn = picture.image[:, :SIDE], picture.image[:, SIDE:]
        assert not drawn_pixels(plain, TRUTH_COLOUR).any() and not drawn_pixels(plain, ESTIMATE_COLOUR).any()
        assert drawn_pixels(drawn, TRUTH_COLOUR).sum() > 100 and drawn_pixels(drawn, ESTIMATE_COLOUR).sum() > 100
        unlined = (plain == drawn).all(axis=-1)
        assert 0.5 < unlined.mean() < 0.99
        assert "rotation error 90° (90° about z, axis (0.0, 0.0, " in picture.caption
    one_frame = {key: frame for key, frame in dataset_frames(dataset).items() if key == (1, 0)}
    assert sum(map(len, case_pictures(evaluation, one_frame, scorer).values())) == 2
    assert sum(map(len, case_pictures(evaluation, {}, scorer).values())) == 0


def test_misses_are_no_cases_and_show_the_truth_alone(evaluation, dataset, scorer):
    missed = tuple(dataclasses.replace(r, detected=False, translation=(0.0, 0.0, 0.0)) for r in evaluation.instances)
    nothing = dataclasses.replace(evaluation, instances=missed)
    assert sum(map(len, case_pictures(nothing, dataset_frames(dataset), scorer).values())) == 0
    (picture,) = gallery(nothing, dataset, scorer, limit=1)
    assert drawn_pixels(picture.image, TRUTH_COLOUR).any()
    assert not drawn_pixels(picture.image, ESTIMATE_COLOUR).any()


def test_captions_hold_the_figures(evaluation, scorer):
    result = instance("2", 0.25, 3.4, visib=0.7, confidence=0.61, scene_id=4, im_id=5, gt_id=6)
    (unknown,) = residuals([result], scorer.objects)
    assert case_caption(result, "AR", unknown) == (
        "2: AR 25 %, rotation error 3°, 70 % visible, confidence 61 %; scene 4, image 5, instance 6"
    )


def test_whole_frames_show_both_poses(evaluation, dataset, scorer):
    pictures = gallery(evaluation, dataset, scorer, limit=1)
    assert len(pictures) == 1 and "scene 1, image 0: mean AR_VSD" in pictures[0].caption
    assert pictures[0].image.shape == (*SIZE, 3)
    assert drawn_pixels(pictures[0].image, TRUTH_COLOUR).any()
    assert drawn_pixels(pictures[0].image, ESTIMATE_COLOUR).any()
    assert len(gallery(evaluation, dataset, scorer)) == 2
