"""Results files: round trip, names, and one sentence for every malformed row."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_scene import StandInEstimator, turn

from shared_pose_ros.evaluation.bop import BopError
from shared_pose_ros.evaluation.bop_results import (
    HEADER,
    Estimate,
    evaluation_estimates,
    read_results,
    results_name,
    seconds_per_image,
    write_results,
)
from shared_pose_ros.evaluation.bundle_evaluation import evaluate_bundle
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import DetectionNoise, get_protocol

ROW = "3,17,5,0.75,1 0 0 0 0 -1 0 1 0,10.5 -20 700,0.25"


def estimate(**changes):
    pose = turn([1, 2, 3], 77), np.array([0.0105, -0.02, 0.7])
    return replace(Estimate(3, 17, 5, 0.75, *pose, 0.25), **changes)


def test_round_trip(tmp_path):
    given = [estimate(), estimate(object_id=12, score=-3.5e-7, seconds=-1.0)]
    read = read_results(write_results(tmp_path / "new" / "a_b-test.csv", given))
    assert len(read) == 2
    for before, after in zip(given, read):
        assert (after.scene_id, after.image_id, after.object_id) == (3, 17, before.object_id)
        assert (after.score, after.seconds) == (before.score, before.seconds)
        np.testing.assert_array_equal(after.rotation, before.rotation)
        np.testing.assert_allclose(after.translation, before.translation, rtol=1e-15)


def test_files_of_others_are_read(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n\r\n 3, 17 ,5,1e-1,{ROW.split(',')[4]} ,  1 2 3,-1\r\n".encode())
    (row,) = read_results(path)
    assert (row.scene_id, row.image_id, row.object_id, row.score, row.seconds) == (3, 17, 5, 0.1, -1.0)
    # Row by row: the second row of R is the fourth to sixth number.
    np.testing.assert_array_equal(row.rotation, [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(row.translation, [0.001, 0.002, 0.003])
    path.write_text(ROW)  # without a header
    assert len(read_results(path)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,17,5,0.75,1 0 0 0 1 0 0 0 1,1 2 3", "line 2 has 6 columns; give 7: scene_id"),
        (ROW.replace("17", "x"), "line 2: im_id is 'x'; give a whole number"),
        (ROW.replace("3,17", "-3,17"), "scene_id is '-3'"),
        (ROW.replace("17", "1.5"), "im_id is '1.5'"),
        (ROW.replace("0.75", "high"), "score is 'high'; give a finite number"),
        (ROW.replace("0.75", "nan"), "score is 'nan'"),
        (ROW.replace("1 0 0 0 0", "1 0 0 0"), "R is '1 0 0 0 -1 0 1 0'; give 9 finite numbers"),
        (ROW.replace("1 0 0 0 0 -1 0 1 0", "1 0 0 0 0 1 0 1 0"), "give the nine numbers of R_m2c"),
        (ROW.replace("1 0 0 0 0 -1 0 1 0", "9 0 0 0 9 0 0 0 9"), "80 from a rotation"),
        (ROW.replace("10.5 -20 700", "10.5 -20"), "t is '10.5 -20'; give 3 finite numbers"),
        (ROW.replace("700", "inf"), "t is '10.5 -20 inf'"),
        (ROW.replace("0.25", ""), "time is ''; give a finite number"),
    ],
)
def test_malformed_rows_are_named(tmp_path, row, message):
    path = tmp_path / "bad.csv"
    path.write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(BopError) as error:
        read_results(path)
    assert message in str(error.value) and "bad.csv, line 2" in str(error.value)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(BopError, match="none.csv cannot be read"):
        read_results(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text(HEADER + "\n")
    with pytest.raises(BopError, match="holds no estimates"):
        read_results(tmp_path / "empty.csv")


def test_times_are_of_images():
    rows = [estimate(), estimate(object_id=6), estimate(image_id=18, seconds=0.75)]
    assert seconds_per_image(rows) == 0.5
    assert seconds_per_image([*rows, estimate(seconds=0.3)]) is None  # disagrees
    assert seconds_per_image([estimate(seconds=-1.0)]) is None and seconds_per_image([]) is None


def test_names_are_taken_apart_by_underscore_and_hyphen(dataset):
    name = results_name("my part_model/2", replace(dataset, split="test_primesense"))
    assert name == "my-part-model-2_twoboxes-test-primesense.csv"
    assert results_name("___", dataset) == "method_twoboxes-test.csv"


def test_an_evaluation_becomes_estimates_without_the_missed(dataset, scorer):
    protocol = get_protocol("paper").changed(boxes=DetectionNoise(0.0, 0.0, 0.5, seed=1))
    estimator = StandInEstimator(dataset, error=turn([0, 0, 1], 30))
    (result,) = evaluate_bundle(estimator, dataset, scorer, protocol, baseline=RandomRotationBaseline(1))
    rows = evaluation_estimates(result, dataset)
    detected = [item for item in result.instances if item.detected]
    assert 0 < len(rows) == len(detected) < 4
    for row, item in zip(rows, detected):
        assert (row.scene_id, row.image_id, str(row.object_id)) == (item.scene_id, item.im_id, item.class_id)
        np.testing.assert_array_equal(row.rotation.ravel(), item.rotation)
        assert row.score == item.confidence and row.seconds == item.image_seconds > 0
