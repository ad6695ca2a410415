"""Recall curves and bins against closed forms."""

import math

import numpy as np
import pytest
from evaluation_scene import objects
from instance_results import instance

from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.report.error_statistics import (
    BOX,
    OFF_AXIS,
    VISIBILITY,
    boxes_differ,
    factor_rows,
    random_recall,
    random_rotation_recall,
    random_vsd_recall,
    rotation_recall,
    vsd_recall,
)

DEGREES = (0.0, 5.0, 15.0, 30.0, 45.0)


def evaluation(*results):
    return Evaluation("net", "paper", "AR_VSD", "line", True, tuple(results), {})


def test_vsd_recall_takes_the_middle_tolerance_and_weights_objects_equally():
    results = [
        instance("1", 1, 1, e_vsd=(0.9, 0.1, 0.0)),
        instance("1", 1, 1, e_vsd=(0.9, 0.3, 0.0)),
        instance("2", 1, 1, e_vsd=(0.9, 0.5, 0.0)),
    ]
    assert vsd_recall(results, (0.1, 0.11, 0.4, 0.6)) == [0.0, 0.25, 0.5, 1.0]
    assert vsd_recall([instance("1", 1, 1, e_vsd=(0.2,))], (0.1, 0.3)) == [0.0, 1.0]
    assert vsd_recall([]) == []


def test_the_baseline_of_vsd_pools_the_draws_of_an_object():
    results = [instance("1", 1, 1, chance_e_vsd=(0.2, 0.9)), instance("2", 1, 1, chance_e_vsd=(0.5, 0.6, 0.7))]
    assert random_vsd_recall(results, (0.3, 0.55, 1.0)) == pytest.approx([0.25, (0.5 + 1 / 3) / 2, 1.0])
    assert random_vsd_recall([*results, instance("1", 1, 1)]) == []


def test_the_baseline_is_wrong_about_misses_too():
    found = instance("1", 1, 1, chance_e_vsd=(0.2, 0.4, 0.9))
    missed = instance("1", 0, 180, detected=False)
    assert random_vsd_recall([found, missed], (0.5, 1.1)) == pytest.approx([1 / 3, 1.0])
    assert random_vsd_recall([missed]) == []
    alone, both = (random_rotation_recall(results, objects(), DEGREES) for results in ([found], [found, missed]))
    np.testing.assert_allclose(both, np.array(alone) / 2)


def test_rotation_recall_is_the_share_below():
    assert rotation_recall([4.0, 5.0, 29.0, 170.0], DEGREES) == [0.0, 0.25, 0.5, 0.75, 0.75]
    assert all(math.isnan(share) for share in rotation_recall([], DEGREES))


def test_the_baseline_of_rotation_follows_the_closed_forms():
    theta = np.radians(DEGREES)
    free = (theta - np.sin(theta)) / np.pi
    tolerance = 4 * np.sqrt(0.25 / 10_000)
    np.testing.assert_allclose(random_recall(Symmetries(), DEGREES), free, atol=tolerance / 3)
    half = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 2}])
    np.testing.assert_allclose(random_recall(half, DEGREES), 2 * free, atol=tolerance / 2)
    # A turned part is right if its axis is: a cap of the sphere.
    turned = Symmetries.from_axes([{"axis": [0, 1, 0], "fold": "continuous"}])
    np.testing.assert_allclose(random_recall(turned, DEGREES), (1 - np.cos(theta)) / 2, atol=tolerance)


def test_the_baseline_of_rotation_weights_objects_by_their_instances():
    # Object 1 has a half turn as symmetry, object 2 has none.
    results = [instance("1", 1, 1)] * 3 + [instance("two", 1, 1)]
    one, two = random_recall(objects()[0].symmetries, DEGREES), random_recall(Symmetries(), DEGREES)
    expected = 0.75 * np.array(one) + 0.25 * np.array(two)
    np.testing.assert_allclose(random_rotation_recall(results, objects(), DEGREES), expected)
    assert random_rotation_recall([*results, instance("9", 1, 1)], objects()) == []


@pytest.mark.parametrize(
    ("factor", "field", "values", "labels"),
    [
        (VISIBILITY, "visib", (0.1, 0.2, 0.39, 1.0), ("0–20 %", "20–40 %", "20–40 %", "≥ 95 %")),
        (OFF_AXIS, "off_axis_deg", (0.0, 4.9, 5.0, 33.0), ("0–5°", "0–5°", "5–10°", "≥ 30°")),
        (BOX, "box_iou", (0.3, 0.55, 0.9, 1.0), ("0–50 %", "50–60 %", "≥ 90 %", "≥ 90 %")),
    ],
)
def test_every_instance_is_in_the_bin_of_its_value(factor, field, values, labels):
    results = [instance(str(i), i / 10, 10.0 * i, **{field: value}) for i, value in enumerate(values)]
    rows = factor_rows(evaluation(*results), factor)
    assert [row.class_id for row in rows] == list(dict.fromkeys(labels))
    for row in rows:
        inside = [r for r, label in zip(results, labels) if label == row.class_id]
        assert row.instances == len(inside)
        assert row.score == pytest.approx(np.mean([r.score for r in inside]))
        assert row.rotation_error_deg_median == pytest.approx(np.median([r.rotation_deg for r in inside]))


def test_true_boxes_are_no_noise():
    assert not boxes_differ([instance("1", 1, 1), instance("1", 1, 1, box_iou=0.9999)])
    assert boxes_differ([instance("1", 1, 1), instance("1", 1, 1, box_iou=0.97)])
