"""A detector's noise: as large as asked for, the same for an instance whatever happens around it."""

import numpy as np
import pytest

from shared_pose_ros.evaluation.box_noise import BoxNoise
from shared_pose_ros.geometry.boxes import box_iou

BOX = np.array([300.0, 200.0, 80.0, 40.0])


def detections(noise, count=3000):
    return [noise.detect(BOX, 1, 2, gt_id) for gt_id in range(count)]


def test_shift_stretch_and_misses_are_as_large_as_asked_for():
    found = detections(BoxNoise(centre=0.1, size=0.2, miss=0.25))
    seen = np.array([box for box in found if box is not None])
    assert 1 - len(seen) / len(found) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(((seen - BOX) / BOX[[2, 3, 2, 3]])[:, :2].std(axis=0), 0.1, rtol=0.06)
    np.testing.assert_allclose(np.log(seen[:, 2:] / BOX[2:]).std(axis=0), 0.2, rtol=0.06)
    np.testing.assert_allclose(seen[:, :2].mean(axis=0), BOX[:2], atol=1.0)
    assert (seen[:, 2:] > 0).all()


def test_the_defaults_overlap_as_documented():
    overlaps = [box_iou(box, BOX) for box in detections(BoxNoise(miss=0.0))]
    assert np.mean(overlaps) == pytest.approx(0.84, abs=0.01)


def test_no_noise_changes_nothing():
    np.testing.assert_array_equal(detections(BoxNoise(0.0, 0.0, 0.0), 5), [BOX] * 5)


def test_an_instances_box_depends_on_the_instance_and_the_seed_only():
    noise = BoxNoise(seed=3, miss=0.0)
    np.testing.assert_array_equal(noise.detect(BOX, 1, 2, 3), noise.detect(BOX, 1, 2, 3))
    for other in (
        noise.detect(BOX, 1, 2, 4),
        noise.detect(BOX, 2, 2, 3),
        BoxNoise(seed=4, miss=0.0).detect(BOX, 1, 2, 3),
    ):
        assert not np.allclose(noise.detect(BOX, 1, 2, 3), other)
    # Fewer or more misses leave the other boxes where they are.
    for box, kept in zip(detections(noise, 50), detections(BoxNoise(seed=3, miss=0.4), 50)):
        assert kept is None or np.array_equal(box, kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"centre": -0.1}, "of the centre is -0.1"), ({"size": 2.0}, "size"), ({"miss": 1.0}, "1.0")],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        BoxNoise(**settings)
