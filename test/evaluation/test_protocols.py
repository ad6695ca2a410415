"""Named protocols: tolerances, which instances they score, what their line says."""

from pathlib import Path

import numpy as np
import pytest

from shared_pose_ros.evaluation.bop import BopFrame, Instance
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.protocols import (
    PROTOCOLS,
    DetectionNoise,
    check_comparable,
    condition_fields,
    get_protocol,
)
from shared_pose_ros.geometry.boxes import box_iou

BOX = np.array([300.0, 200.0, 80.0, 40.0])


def frame(*visible):
    instances = tuple(
        Instance(class_id, i, np.eye(3), np.zeros(3), share, None) for i, (class_id, share) in enumerate(visible)
    )
    return BopFrame(3, 8, np.eye(3), instances, Path(), 1e-3)


def chosen(name, targets=None):
    seen = frame(("a", 0.5), ("a", 0.9), ("b", 0.1), ("b", 0.0999), ("c", 1.0))
    return [instance.gt_id for instance in get_protocol(name).select(seen, targets)]


def test_paper_takes_every_instance_from_ten_per_cent():
    assert chosen("paper") == [0, 1, 2, 4]
    assert chosen("paper", {(3, 8, "a"): 1}) == [0, 1, 2, 4]


def test_bop19_takes_the_most_visible_of_the_listed_targets():
    assert chosen("bop19", {(3, 8, "a"): 1, (3, 8, "b"): 2, (3, 9, "c"): 1}) == [1, 2]
    assert chosen("bop19") == [0, 1, 2, 4]


def test_bop18_takes_one_instance_of_an_object():
    assert chosen("bop18") == [1, 2, 4]
    assert chosen("bop18", {(3, 8, "a"): 2}) == [1]


def test_tolerances_are_metres():
    expected = [0.2 * 0.05 * i for i in range(1, 11)]
    np.testing.assert_allclose(get_protocol("paper").tolerances(0.2).numpy(), expected)
    assert get_protocol("bop18").tolerances(0.2).tolist() == [0.02]
    assert get_protocol("paper").thetas == pytest.approx([0.05 * i for i in range(1, 11)])


def test_the_line_tells_protocols_and_settings_apart():
    def line(name, corrected=True, depth="from the sensor"):
        return get_protocol(name).conditions("set/test, 3 images", corrected, depth, "as loaded", "20 draws")

    lines = [line(name, corrected) for name in PROTOCOLS for corrected in (True, False)]
    assert len(set(lines)) == len(lines)
    paper = line("paper")
    centre = "translation of the CAD's centre of symmetry from ground truth"
    for part in ("set/test, 3 images", centre, "correction on", "τ 5…50 % of diameter (10"):
        assert part in paper
    for part in (
        "δ 15 mm",
        "θ 0.05…0.5",
        "visibility ≥ 10 %",
        "test depth from the sensor",
        "random-rotation baseline: 20 draws",
    ):
        assert part in paper
    assert paper.endswith("; random-rotation baseline: 20 draws")
    assert "τ 20 mm, θ 0.3" in line("bop18") and "BOP'18" in line("bop18")
    assert "correction off" in line("paper", corrected=False)


def test_thresholds_are_the_benchmarks_bit_for_bit():
    np.testing.assert_array_equal(get_protocol("paper").thetas, np.arange(0.05, 0.51, 0.05))
    np.testing.assert_array_equal(get_protocol("bop19").taus, np.arange(0.05, 0.51, 0.05))


def some_line(name="paper", data="set/test, 3 images", corrected=True, **changes):
    protocol = get_protocol(name).changed(**changes)
    return protocol.conditions(data, corrected, "from the sensor", "as loaded", "20 draws")


def test_a_line_is_taken_apart_into_its_fields():
    for name in PROTOCOLS:
        fields = condition_fields(some_line(name))
        assert (
            fields["protocol"] == name
            and fields["data"] == "set/test, 3 images"
            and fields["random-rotation baseline"] == "20 draws"
        )
        assert fields["allocentric-to-egocentric correction"] == "on" and fields["CAD"] == "as loaded"
    assert condition_fields(some_line(data="a; b/test"))["data"] == "a; b/test"
    assert "listed targets" in condition_fields(some_line("bop19")) and "MSSD" in condition_fields(some_line("bop19"))


def test_figures_of_one_protocol_may_be_compared():
    check_comparable([])
    check_comparable([some_line(), some_line()])
    both = [some_line(corrected=True), some_line(corrected=False)]
    with pytest.raises(ValueError, match=r"differ in allocentric-to-egocentric correction \(on / off\); evaluate all"):
        check_comparable(both)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (some_line(data="set/val, 3 images"), "data"),
        (some_line(translation="estimated"), "translation"),
        (some_line(boxes=DetectionNoise()), "object id"),
        (some_line("bop19"), "listed targets .not stated / only where"),
        ("score of another program", "protocol"),
    ],
)
def test_a_difference_is_named(other, field):
    with pytest.raises(ValueError, match=f"differ in .*{field}"):
        check_comparable([some_line(), other])


def test_the_detectors_noise_stands_in_the_line():
    line = some_line("detector")
    assert "centre σ 4 % of its sides, size σ 8 %, 5 % missed and scored 0, seed 0" in line
    assert (
        "translation of the CAD's centre of symmetry from ground truth" in line
        and "visible box from ground truth" not in line
    )
    assert "7 % missed" in some_line(boxes=DetectionNoise(miss=0.07))


def test_an_unknown_translation_is_refused():
    with pytest.raises(ValueError, match="'guessed' is unknown; choose one of ground_truth, estimated"):
        get_protocol("paper").changed(translation="guessed")


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="'bop20' is unknown; choose one of paper, detector, bop19, bop18"):
        get_protocol("bop20")


def detections(noise, count=3000):
    return [noise.detect(BOX, 1, 2, gt_id) for gt_id in range(count)]


def test_shift_stretch_and_misses_are_as_large_as_asked_for():
    found = detections(DetectionNoise(centre=0.1, size=0.2, miss=0.25))
    seen = np.array([box for box in found if box is not None])
    assert 1 - len(seen) / len(found) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(((seen - BOX) / BOX[[2, 3, 2, 3]])[:, :2].std(axis=0), 0.1, rtol=0.06)
    np.testing.assert_allclose(np.log(seen[:, 2:] / BOX[2:]).std(axis=0), 0.2, rtol=0.06)
    np.testing.assert_allclose(seen[:, :2].mean(axis=0), BOX[:2], atol=1.0)
    assert (seen[:, 2:] > 0).all()


def test_the_defaults_overlap_as_documented():
    overlaps = [box_iou(box, BOX) for box in detections(DetectionNoise(miss=0.0))]
    assert np.mean(overlaps) == pytest.approx(0.84, abs=0.01)


def test_no_noise_changes_nothing():
    np.testing.assert_array_equal(detections(DetectionNoise(0.0, 0.0, 0.0), 5), [BOX] * 5)


def test_an_instances_box_depends_on_the_instance_and_the_seed_only():
    noise = DetectionNoise(seed=3, miss=0.0)
    np.testing.assert_array_equal(noise.detect(BOX, 1, 2, 3), noise.detect(BOX, 1, 2, 3))
    for other in (
        noise.detect(BOX, 1, 2, 4),
        noise.detect(BOX, 2, 2, 3),
        DetectionNoise(seed=4, miss=0.0).detect(BOX, 1, 2, 3),
    ):
        assert not np.allclose(noise.detect(BOX, 1, 2, 3), other)
    # Fewer or more misses leave the other boxes where they are.
    for box, kept in zip(detections(noise, 50), detections(DetectionNoise(seed=3, miss=0.4), 50)):
        assert kept is None or np.array_equal(box, kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"centre": -0.1}, "of the centre is -0.1"), ({"size": 2.0}, "size"), ({"miss": 1.0}, "1.0")],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DetectionNoise(**settings)


def test_conditions_in_earlier_words_are_the_same():
    baseline = str(RandomRotationBaseline())
    now = get_protocol("paper").conditions("d, 2 images", True, "from the sensor", "as loaded", baseline)
    head, tail = now.split("; CAD as loaded")
    assert tail == "; random-rotation baseline: 20 uniform random rotations per instance, seed 0"
    older = head.replace("allocentric-to-egocentric correction on", "viewing-ray correction on")
    older += "; CAD as loaded; chance: 20 uniform random rotations an instance, seed 0"
    assert older.count("viewing-ray") == 1 and condition_fields(older) == condition_fields(now)
    check_comparable([now, older])
