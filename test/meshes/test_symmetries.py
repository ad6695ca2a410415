"""Symmetries: parsing, generated groups, discretisation as in the BOP benchmark, detection."""

import itertools
import json
import math

import numpy as np
import pytest

from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.symmetries import Symmetries, detect_symmetries, rotation_about

HALF_TURN_Z = [-1, 0, 0, 20, 0, -1, 0, 40, 0, 0, 1, 0, 0, 0, 0, 1]  # about the axis through (10, 20), mm
AXIS_Z = {"axis": [0, 0, 1], "offset": [10.0, 20.0, 0.0]}


def slow_bop_transforms(model_info, max_step):
    """Reference in plain loops and metres: each discrete symmetry followed by each step about each continuous axis."""
    discrete = [np.eye(4), *(np.reshape(m, (4, 4)).astype(float) for m in model_info.get("symmetries_discrete", []))]
    steps = math.ceil(math.pi / max_step)
    turns = []
    for entry in model_info.get("symmetries_continuous", []):
        x, y, z = np.array(entry["axis"]) / np.linalg.norm(entry["axis"])
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        for step in range(steps):
            angle = 2 * math.pi * step / steps
            turn = np.eye(4)
            turn[:3, :3] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
            turn[:3, 3] = entry["offset"] - turn[:3, :3] @ entry["offset"]
            turns.append(turn)
    result = [turn @ symmetry for symmetry in discrete for turn in turns] if turns else discrete
    return np.array([np.block([[m[:3, :3], m[:3, 3:] / 1000.0], [m[3:]]]) for m in result])


def prism(sides, length, radius=0.02, extra=()):
    """Closed prism about z; ``extra`` moves some corner outwards to break the symmetry."""
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    for corner in extra:
        ring[corner] *= 1.5
    low, high = np.c_[ring, np.zeros(sides)], np.c_[ring, np.full(sides, length)]
    vertices = np.concatenate([low, high, [[0, 0, 0], [0, 0, length]]]) + [0.03, -0.01, 0.02]
    i, j = np.arange(sides), (np.arange(sides) + 1) % sides
    bottom, top = np.full(sides, 2 * sides), np.full(sides, 2 * sides + 1)
    rows = [(i, j, j + sides), (i, j + sides, i + sides), (j, i, bottom), (i + sides, j + sides, top)]
    faces = np.concatenate([np.stack(row, 1) for row in rows])
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


@pytest.mark.parametrize("max_step", [0.01, 0.07, 1.0])
@pytest.mark.parametrize(
    "model_info",
    [
        {},
        {"symmetries_discrete": [HALF_TURN_Z]},
        {"symmetries_continuous": [AXIS_Z]},
        {"symmetries_continuous": [{"axis": [1, 2, -2], "offset": [0, 0, 5]}, AXIS_Z]},
        {
            "symmetries_discrete": [[1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]],
            "symmetries_continuous": [AXIS_Z],
        },
    ],
)
def test_transforms_follow_the_benchmark(model_info, max_step):
    symmetries = Symmetries.from_bop(model_info)
    transforms, expected = symmetries.transforms(max_step), slow_bop_transforms(model_info, max_step)
    assert transforms.shape == expected.shape and transforms.dtype == np.float64
    np.testing.assert_allclose(transforms, expected, atol=1e-12)
    np.testing.assert_allclose(transforms[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(symmetries.rotations(max_step), expected[:, :3, :3], atol=1e-12)


def test_continuous_axis_at_one_percent_has_315_steps():
    assert Symmetries.from_bop({"symmetries_continuous": [AXIS_Z]}).transforms(0.01).shape == (315, 4, 4)


@pytest.mark.parametrize("max_step", [0.0, -1.0, 1.5, float("nan")])
def test_step_outside_its_range_is_refused(max_step):
    with pytest.raises(ValueError, match="max_step is"):
        Symmetries().transforms(max_step)


@pytest.mark.parametrize(
    "model_info",
    [
        {"symmetries_discrete": [HALF_TURN_Z]},
        {"symmetries_continuous": [AXIS_Z]},
        {"symmetries_continuous": [AXIS_Z, {"axis": [1, 0, 0], "offset": [0.0, 20.0, 5.0]}]},
        {
            "symmetries_discrete": [[1, 0, 0, 0, 0, -1, 0, 40, 0, 0, -1, 0, 0, 0, 0, 1]],
            "symmetries_continuous": [AXIS_Z],
        },
    ],
)
def test_the_fixed_point_is_the_nearest_that_no_symmetry_moves(model_info):
    symmetries, given = Symmetries.from_bop(model_info), np.array([0.013, -0.004, 0.03])
    point = symmetries.fixed_point(given)
    for motion in symmetries.transforms(0.1):
        np.testing.assert_allclose(motion[:3, :3] @ point + motion[:3, 3], point, atol=1e-9)
    # Nearest: what is left lies across every direction in which fixed points go on.
    directions = [d for d in np.eye(3) if all(np.allclose(m[:3, :3] @ d, d) for m in symmetries.transforms(0.1))]
    np.testing.assert_allclose([(given - point) @ d for d in directions], 0.0, atol=1e-9)
    assert len(directions) == (len(model_info) == 1 and sum(len(entries) for entries in model_info.values()) == 1)


def test_without_symmetry_every_point_is_fixed():
    np.testing.assert_array_equal(Symmetries().fixed_point(np.array([1.0, 2.0, 3.0])), [1.0, 2.0, 3.0])


def test_dictionary_round_trip_through_json():
    symmetries = Symmetries.from_bop({"symmetries_discrete": [HALF_TURN_Z], "symmetries_continuous": [AXIS_Z]})
    again = Symmetries.from_dict(json.loads(json.dumps(symmetries.to_dict())))
    np.testing.assert_array_equal(again.discrete, symmetries.discrete)
    np.testing.assert_array_equal(again.transforms(0.1), symmetries.transforms(0.1))
    assert Symmetries.from_dict({}).transforms().shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        ([], 1),
        ([{"axis": [0, 0, 1], "fold": 6}], 6),
        ([{"axis": [0, 0, 3], "fold": 2, "offset": [5, 0, 0]}], 2),
        ([{"axis": [0, 0, 1], "fold": 6}, {"axis": [1, 0, 0], "fold": 2}], 12),
        ([{"axis": [0, 0, 1], "fold": 4}, {"axis": [1, 0, 0], "fold": 4}], 24),
    ],
)
def test_axes_generate_the_whole_group(axes, order):
    group = Symmetries.from_axes(axes, 1e-3).transforms()
    assert len(group) == order
    for first, second in itertools.product(group, group):
        assert min(np.abs(first @ second - element).max() for element in group) < 1e-9


def test_axes_take_their_offset_in_the_stated_unit():
    symmetries = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 2, "offset": [10, 20, 0]}], 1e-3)
    np.testing.assert_allclose(symmetries.discrete[0] @ [0, 0, 0, 1], [0.02, 0.04, 0, 1], atol=1e-15)
    turned = Symmetries.from_axes([{"axis": [0, 0, 2], "fold": "continuous", "offset": [10, 0, 0]}], 1e-3)
    np.testing.assert_allclose(turned.continuous[0][0], [0, 0, 1])
    np.testing.assert_allclose(turned.continuous[0][1], [0.01, 0, 0])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ([{"axis": [0, 0, 1]}], "needs the keys axis and fold"),
        ([{"axis": [0, 0, 1], "fold": 2, "angle": 3}], "needs the keys axis and fold"),
        ([{"axis": [0, 0, 0], "fold": 2}], "length is zero"),
        ([{"axis": [0, 1], "fold": 2}], "three finite numbers"),
        ([{"axis": [0, 0, 1], "fold": 1}], "fold is 1"),
        ([{"axis": [0, 0, 1], "fold": 2.5}], "fold is 2.5"),
        ([{"axis": [0, 0, 1], "fold": 5}, {"axis": [1, 0, 0.3], "fold": 7}], "more than 240 motions"),
    ],
)
def test_wrong_axes_are_explained(axes, message):
    with pytest.raises(ValueError, match=message):
        Symmetries.from_axes(axes)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1, 1, -1, 1]).ravel(), "mirrorings do not count"),
        (np.diag([2, 2, 2, 1]).ravel(), "is no rotation"),
        (np.eye(3).ravel(), "it needs 16"),
        (np.full(16, np.nan), "is no rotation"),
    ],
)
def test_wrong_matrices_are_explained(matrix, message):
    with pytest.raises(ValueError, match=message):
        Symmetries.from_bop({"symmetries_discrete": [list(matrix)]})


@pytest.mark.parametrize(
    ("mesh", "discrete", "continuous"),
    [
        (prism(6, 0.09), 11, 0),  # six turns, each with and without a flip
        (prism(3, 0.09), 5, 0),
        (prism(60, 0.09), 1, 1),
        (prism(6, 0.09, extra=(0, 3)), 3, 0),
        (prism(6, 0.09, extra=(0,)), 1, 0),  # the flip about the moved corner's axis remains
        (prism(6, 0.09, extra=(0, 1, 3)), 0, 0),  # chiral outline
    ],
)
def test_detection_finds_the_group_of_prisms(mesh, discrete, continuous):
    found = detect_symmetries(mesh)
    assert (len(found.discrete), len(found.continuous)) == (discrete, continuous)


def test_detected_flip_maps_corners_to_corners():
    mesh = prism(3, 0.09)
    for transform in detect_symmetries(mesh).transforms():
        moved = mesh.vertices @ transform[:3, :3].T + transform[:3, 3]
        nearest = np.linalg.norm(moved[:, None] - mesh.vertices[None], axis=2).min(axis=1)
        assert nearest.max() < 1e-4


def test_rotation_about_keeps_points_on_its_axis():
    axis, offset = np.array([1.0, 2.0, -0.5]), np.array([0.1, 0.2, 0.3])
    turns = rotation_about(axis, np.array([0.0, 0.7, np.pi]), offset)
    np.testing.assert_allclose(turns @ [*(offset + 0.4 * axis), 1.0], np.tile([*(offset + 0.4 * axis), 1.0], (3, 1)))
    np.testing.assert_allclose(np.trace(turns[1, :3, :3]), 1.0 + 2.0 * math.cos(0.7))
