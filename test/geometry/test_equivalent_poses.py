"""The equivalent pose nearest to a reference, against a search through all equivalent poses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shared_pose_ros.evaluation.metrics import symmetric_rotation_error
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable, nearest_symmetry
from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle
from shared_pose_ros.meshes.symmetries import Symmetries

OFFSET = (0.01, -0.02, 0.03)
GROUPS = {
    "none": [],
    "two-fold": [{"axis": [1, 0, 0], "fold": 2, "offset": OFFSET}],
    "six-fold and flip": [{"axis": [0, 0, 1], "fold": 6}, {"axis": [1, 0, 0], "fold": 2}],
    "cylinder": [{"axis": [1, 2, -1], "fold": "continuous", "offset": OFFSET}],
    "cylinder and flip": [
        {"axis": [0, 0, 1], "fold": "continuous", "offset": OFFSET},
        {"axis": [1, 0, 0], "fold": 2, "offset": OFFSET},
    ],
    "ball": [
        {"axis": [0, 0, 1], "fold": "continuous", "offset": OFFSET},
        {"axis": [1, 0, 0], "fold": "continuous", "offset": OFFSET},
    ],
}
SYMMETRIES = [Symmetries.from_axes(axes) for axes in GROUPS.values()]
TABLE = SymmetryTable.from_dicts([symmetries.to_dict() for symmetries in SYMMETRIES])


def rotations(count: int, seed: int) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("number", range(len(GROUPS)), ids=GROUPS)
def test_none_of_all_equivalent_poses_is_nearer(number: int) -> None:
    r, reference = rotations(40, 1), rotations(40, 2)
    found = nearest_symmetry((reference.mT @ r)[None], TABLE.take(torch.tensor([number])))[0]
    angles = rotation_angle(r @ found[:, :3, :3], reference)
    # The exact metric of the evaluation, and a search in steps of 0.36 degrees.
    exact = [
        math.radians(float(symmetric_rotation_error(a[None], b, SYMMETRIES[number]))) for a, b in zip(r, reference)
    ]
    np.testing.assert_allclose(angles, exact, atol=1e-6)
    if GROUPS and list(GROUPS)[number] != "ball":
        every = torch.from_numpy(SYMMETRIES[number].rotations(math.pi / 1000))
        searched = rotation_angle(r[:, None] @ every, reference[:, None]).amin(dim=1)
        assert (angles <= searched + 1e-9).all() and (angles >= searched - math.radians(0.37)).all()


@pytest.mark.parametrize("number", range(len(GROUPS)), ids=GROUPS)
def test_the_motion_found_is_a_symmetry_position_included(number: int) -> None:
    """It keeps the fixed points of the group, and equals a listed member, or a turn about the axis after one."""
    found = nearest_symmetry(rotations(20, 3)[None], TABLE.take(torch.tensor([number])))[0].numpy()
    members = SYMMETRIES[number].transforms(math.pi / 2000)
    for motion in found:
        if list(GROUPS)[number] == "ball":
            np.testing.assert_allclose(motion[:3, :3] @ OFFSET + motion[:3, 3], OFFSET, atol=1e-12)
        else:
            # Members of a continuous group are listed in steps of 0.18 degrees.
            assert np.abs(members - motion).max(axis=(1, 2)).min() < 2e-3


def test_objects_of_different_groups_go_together() -> None:
    r = rotations(6, 4)
    together = nearest_symmetry(r[:, None], TABLE)
    for number in range(len(GROUPS)):
        alone = nearest_symmetry(r[number][None, None], TABLE.take(torch.tensor([number])))
        torch.testing.assert_close(alone[0], together[number], atol=1e-12, rtol=0)


def test_equivalent_poses_get_one_representative() -> None:
    """Whichever member is answered, with a little noise, the representative stays: rotation and position."""
    r = rotations(1, 5)[0]
    noise = torch.from_numpy(Rotation.from_rotvec([1e-3, -2e-3, 1e-3]).as_matrix())
    for number, symmetries in enumerate(SYMMETRIES):
        every = torch.from_numpy(symmetries.transforms(0.2))
        t = torch.tensor([0.1, 0.2, 0.9], dtype=torch.float64)
        turned = noise @ r @ every[:, :3, :3]
        origins = t + every[:, :3, 3] @ (noise @ r).mT
        motion = nearest_symmetry(turned[None], TABLE.take(torch.tensor([number])))[0]
        chosen = turned @ motion[:, :3, :3]
        positions = origins + (turned @ motion[:, :3, 3:])[..., 0]
        assert float(rotation_angle(chosen, chosen[:1]).max()) < 1e-6
        torch.testing.assert_close(positions, positions[:1].expand_as(positions), atol=1e-9, rtol=0)


def test_a_tie_goes_to_the_earlier_member_and_rounded_matrices_are_made_orthonormal() -> None:
    half = np.diag([-1.0, -1.0, 1.0, 1.0]) + 3e-4
    table = SymmetryTable.from_dicts([{"discrete": [half.ravel().tolist()], "continuous": []}])
    member = table.members[0, 1, :3, :3]
    torch.testing.assert_close(member @ member.mT, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    exact = SymmetryTable.from_dicts([Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 2}]).to_dict()])
    quarter = torch.from_numpy(Rotation.from_euler("z", 90, degrees=True).as_matrix())
    motion = nearest_symmetry(quarter[None, None], exact)[0, 0]
    torch.testing.assert_close(motion, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_no_objects() -> None:
    table = SymmetryTable.from_dicts([{}]).take(torch.zeros(0, dtype=torch.int64))
    assert nearest_symmetry(torch.zeros(0, 4, 3, 3), table).shape == (0, 4, 4, 4)
