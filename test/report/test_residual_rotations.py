"""Wrong answers are named by the rotation of the object that explains them, whatever symmetry it has."""

import numpy as np
import pytest
from evaluation_scene import objects, turn
from instance_results import instance

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.report.residual_rotations import (
    AXIS_DEG,
    CORRECT,
    NEAR,
    OTHER,
    RotationNamer,
    cube_rotations,
    describe,
    probability_of_a_name,
    probability_of_an_axis,
    residuals,
    rotation_counts,
)

TRUTH = turn([1, 2, 3], 77)
ABOUT_Z = {"axis": [0, 0, 1]}


def named(symmetries, axis, degrees):
    return RotationNamer(symmetries).residual(TRUTH @ turn(axis, degrees), TRUTH)


def test_a_cube_has_23_rotations_in_ten_families():
    rotations = cube_rotations()
    assert {name: len(members) for name, members in rotations.items()} == {
        **{f"180° about {axis}": 1 for axis in "xyz"},
        **{f"90° about {axis}": 2 for axis in "xyz"},
        "120° about a diagonal": 8,
        **{f"180° about {axes}": 1 for axes in ("x+y", "x−y", "x+z", "x−z", "y+z", "y−z")},
    }
    together = np.concatenate([np.stack(members) for members in rotations.values()])
    assert len(np.unique(together.round(6), axis=0)) == 23
    np.testing.assert_allclose(np.linalg.det(together), 1.0)


@pytest.mark.parametrize(
    ("axis", "degrees", "kind"),
    [
        ([1, 2, 3], 14.9, CORRECT),
        ([1, 2, 3], 15.1, NEAR),
        ([1, 2, 3], 44.0, NEAR),
        ([1, 2, -3], 60.0, OTHER),
        ([0.2, -1, 0.1], 60.0, "other angle about y"),
        ([1, 0, 0.5], 130.0, OTHER),  # 26.6° from x
        ([1, 0, 0], 180.0, "180° about x"),
        ([0, 1, 0], 156.0, "180° about y"),
        ([0, 0, 1], -90.0, "90° about z"),
        ([0, 0, 1], 114.0, "90° about z"),
        ([1, 1, 0], 180.0, "180° about x+y"),
        ([0, 1, -1], 170.0, "180° about y−z"),
        ([1, -1, 1], 120.0, "120° about a diagonal"),
    ],
)
def test_without_symmetry_the_rotation_is_what_it_is(axis, degrees, kind):
    residual = named(Symmetries(), axis, degrees)
    assert residual.kind == kind and residual.degrees == pytest.approx(abs(degrees), abs=1e-5)
    unit = np.array(axis) / np.linalg.norm(axis) * np.sign(degrees)
    if degrees != 180.0:
        np.testing.assert_allclose(residual.axis, unit, atol=1e-6)
    assert abs(residual.axis @ unit) == pytest.approx(1.0)


def test_the_rotation_is_about_the_objects_axes_not_the_cameras():
    # 180° about the camera's z of a part that lies on its side is 180° about the part's own x.
    lying = turn([0, 1, 0], 90)
    residual = RotationNamer(Symmetries()).residual(turn([0, 0, 1], 180) @ lying, lying)
    assert residual.kind == "180° about x"


def test_declared_symmetries_explain_what_they_explain_and_merge_names():
    square = Symmetries.from_axes([{**ABOUT_Z, "fold": 4}])
    assert named(square, [0, 0, 1], 90).kind == CORRECT and named(square, [0, 0, 1], 184).kind == CORRECT
    upside_down = {named(square, axis, 180).kind for axis in ([1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0])}
    assert upside_down == {"180° about x"}
    assert not any("about y" in name or "about z" in name for name in RotationNamer(square).named)
    half = Symmetries.from_axes([{**ABOUT_Z, "fold": 2}])
    assert named(half, [0, 0, 1], 90).kind == "90° about z"
    assert named(half, [0, 0, 1], 270).degrees == pytest.approx(90)


def test_a_turned_part_only_tilts():
    round_part = Symmetries.from_axes([{**ABOUT_Z, "fold": "continuous"}])
    assert set(RotationNamer(round_part).named) == {"180° about x", "90° about x"}
    for azimuth in (0.0, 33.0, 71.0):
        axis = [np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth)), 0.0]
        for tilt, kind in (
            (170.0, "180° about x"),
            (85.0, "90° about x"),
            (30.0, NEAR),
            (130.0, "other angle about x"),
        ):
            spun = TRUTH @ turn([0, 0, 1], 50) @ turn(axis, tilt) @ turn([0, 0, 1], -20)
            residual = RotationNamer(round_part).residual(spun, TRUTH)
            # Steps of the continuous symmetry may add up to 2.9° to the angle.
            assert residual.kind == kind and tilt - 1e-6 <= residual.degrees <= tilt + 2.9


def test_a_rotation_nearer_to_the_truth_than_to_a_name_is_a_near_miss():
    hexagon = Symmetries.from_axes([{**ABOUT_Z, "fold": 6}])
    assert named(hexagon, [0, 0, 1], 30).kind == "90° about z"  # 90° less a sixth: the worst there is
    assert named(hexagon, [0, 0, 1], 14).kind == CORRECT


def test_an_axis_that_a_symmetry_brings_to_x_is_called_x():
    square = Symmetries.from_axes([{**ABOUT_Z, "fold": 4}])
    assert {named(square, axis, 130).kind for axis in ([1, 0, 0], [0, -1, 0])} == {"other angle about x"}
    assert named(square, [0, 0.2, 1], 50).kind == NEAR  # 40° less: 90° is a symmetry


def test_descriptions_tell_name_and_axis():
    assert describe(named(Symmetries(), [0, -1, 0.02], 172)) == "180° about y, axis (0.0, -1.0, 0.0)"
    assert describe(named(Symmetries(), [0, -1, 0.02], 12)) == ""


def test_probability_of_an_axis_is_the_share_of_random_axes():
    axes = np.random.default_rng(0).normal(size=(100_000, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    share = (np.abs(axes).max(axis=1) > np.cos(np.radians(AXIS_DEG))).mean()
    assert share == pytest.approx(probability_of_an_axis(), abs=0.005)


@pytest.mark.slow
def test_probability_of_a_name_is_the_share_of_random_rotations():
    namer = RotationNamer(Symmetries())
    drawn = random_rotations(20_000).double().numpy()
    kinds = [namer.residual(rotation, np.eye(3)).kind for rotation in drawn[:4000]]
    share = np.mean(["° about" in kind for kind in kinds])
    assert share == pytest.approx(probability_of_a_name(), abs=4 * np.sqrt(0.1 * 0.9 / 4000))


def result(class_id, error, degrees, **values):
    rotation, truth = TRUTH @ error, TRUTH
    return instance(
        class_id, 0.5, degrees, rotation=tuple(rotation.ravel()), truth_rotation=tuple(truth.ravel()), **values
    )


def test_counts_name_the_most_frequent_wrong_rotation_first():
    results = [
        result("1", turn([1, 0, 0], 180), 180.0),
        result("2", turn([0, 0, 1], 170), 170.0),
        result("1", turn([0, 1, 0], 176), 176.0),  # the same for object 1, whose 180° about z is a symmetry
        result("1", turn([0, 0, 1], 182), 2.0),
        result("1", turn([0, 0, 1], 90), 90.0),
        instance("1", 0.5, 90.0),  # its truth was not kept
        result("unknown", turn([1, 0, 0], 180), 180.0),
    ]
    found = residuals(results, objects())
    assert [one and one.kind for one in found][-2:] == [None, None]
    one, two = rotation_counts(results, found)
    assert (one.class_id, one.instances) == ("1", 4)
    assert list(one.counts.items()) == [(CORRECT, 1), ("180° about x", 2), ("90° about z", 1)]
    assert one.wrong_degrees == 176.0
    assert (two.class_id, two.counts, two.wrong_degrees) == ("2", {"180° about z": 1}, 170.0)


def test_right_and_wrong_agree_with_the_exact_error():
    ten, thirty = turn([1, 2, 3], 10), turn([1, 2, 3], 30)
    found = residuals([result("2", ten, 15.5), result("2", thirty, 14.5)], objects())
    assert [(one.kind, one.degrees) for one in found] == [(NEAR, 15.5), (CORRECT, 14.5)]
    assert np.isnan(
        rotation_counts([result("2", ten, 10.0)], residuals([result("2", ten, 10.0)], objects()))[0].wrong_degrees
    )
