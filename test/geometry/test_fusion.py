"""The filter over hypotheses: closed forms, a slow reference, symmetric objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shared_pose_ros.evaluation.metrics import symmetric_rotation_error
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.fusion import CONCENTRATION, FLOOR, LEAST_AGREEMENT, fuse
from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle
from shared_pose_ros.meshes.symmetries import Symmetries

NOTHING = Symmetries.from_axes([])
SIX_FOLD = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 6}])
SHAFT = Symmetries.from_axes([{"axis": [1, 2, 0], "fold": "continuous"}])
GROUPS = {"none": NOTHING, "six-fold": SIX_FOLD, "shaft": SHAFT}


def table(*groups: Symmetries) -> SymmetryTable:
    return SymmetryTable.from_dicts([group.to_dict() for group in groups])


def turn(degrees: float, axis: str = "x") -> torch.Tensor:
    return torch.from_numpy(Rotation.from_euler(axis, degrees, degrees=True).as_matrix())


def mixture(*rows: torch.Tensor) -> torch.Tensor:
    return torch.stack(rows)[None]


def weights(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_without_memory_the_new_frame_is_what_it_was() -> None:
    r, p = random_rotations(8, dtype=torch.float64).reshape(2, 4, 3, 3), torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 2)
    found, shares, _ = fuse(r.flip(0), p.double(), r, p, 0.0, table(NOTHING, SIX_FOLD))
    torch.testing.assert_close(found, r, atol=0, rtol=0)
    torch.testing.assert_close(shares, p.double(), atol=1e-7, rtol=0)
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="forgetting"):
            fuse(r, p.double(), r, p, wrong, table(NOTHING, SIX_FOLD))


@pytest.mark.parametrize("forgetting", [0.3, 0.8])
def test_equal_frames_stay_where_they_are_and_grow_more_certain(forgetting: float) -> None:
    """Two modes so far apart that k is 0.0008: the shares are those of p (p + ε)^s, normalised, by hand."""
    r, p = mixture(turn(0), turn(179)), weights(0.7, 0.3)
    found, shares, agreement = fuse(r, p, r, p, forgetting, table(NOTHING))
    assert float(rotation_angle(found, r).max()) < 1e-3
    expected = p * (p + FLOOR) ** forgetting
    torch.testing.assert_close(shares, expected / expected.sum(), atol=2e-3, rtol=0)
    assert shares[0, 0] > 0.7 and float(agreement) == pytest.approx(1.0)


@pytest.mark.parametrize("forgetting", [0.2, 0.9])
def test_one_hypothesis_each_meet_at_their_weighted_mean(forgetting: float) -> None:
    """With n = 1 the samples weigh as (1 + ε)(k + ε)^s/(1 + ε + s(k + ε)) and s (k + ε)(1 + ε)^s/(k + ε + s(1 + ε))."""
    angle = 20.0
    found, shares, _ = fuse(mixture(turn(0)), weights(1), mixture(turn(angle)), weights(1), forgetting, table(NOTHING))
    k = math.exp(-CONCENTRATION * 2 * math.sin(math.radians(angle) / 2))
    near, far, s = 1 + FLOOR, k + FLOOR, forgetting
    new, old = near * far**s / (near + s * far), s * far * near**s / (far + s * near)
    new, old = (new, old * k) if new + k * old >= old + k * new else (new * k, old)
    # The chordal mean of turns about one axis is the direction of the weighted sum of unit vectors.
    mean = math.degrees(math.atan2(new * math.sin(math.radians(angle)), new * math.cos(math.radians(angle)) + old))
    assert math.degrees(float(rotation_angle(found[0, 0], turn(0)))) == pytest.approx(mean, abs=1e-9)
    assert float(shares) == 1.0 and angle / 2 < mean < angle


def slow_fuse(earlier, q, r, p, s, group):
    """By loops over numpy arrays, with the evaluation's symmetric distance."""

    def k(first, second):
        degrees = float(symmetric_rotation_error(torch.from_numpy(first)[None], torch.from_numpy(second), group))
        return math.exp(-CONCENTRATION * 2 * math.sin(math.radians(degrees) / 2))

    every = group.rotations(math.pi / 2000)
    samples, sampled = [*r, *earlier], [*p, *(s * q)]
    weight = []
    for x, w in zip(samples, sampled):
        m = FLOOR + sum(c * k(x, y) for y, c in zip(r, p))
        f = FLOOR + sum(c * k(x, y) for y, c in zip(earlier, q))
        weight.append(w * m * f**s / (m + s * f))
    weight, places, shares = np.array(weight), [], []
    likeness = np.array([[k(x, y) for y in samples] for x in samples])
    for _ in r:
        seed = int(np.argmax(likeness @ weight))
        near = [max((y @ e for e in every), key=lambda turned: np.trace(samples[seed].T @ turned)) for y in samples]
        share = weight * likeness[seed]
        places.append(Rotation.from_matrix(near).mean(share).as_matrix())
        shares.append(share.sum())
        weight = weight * (1 - likeness[seed])
    order = np.argsort(-np.array(shares), kind="stable")
    return np.array(places)[order], np.array(shares)[order] / sum(shares)


@pytest.mark.parametrize("name", GROUPS)
def test_against_a_slow_reference(name: str) -> None:
    """Scipy's mean of rotations is the chordal one too; a continuous group is searched in steps of 0.09 degrees."""
    group, generator = GROUPS[name], np.random.default_rng(3)
    middle = Rotation.random(3, random_state=generator)
    new = (Rotation.from_rotvec(generator.normal(0, 0.15, (3, 3))) * middle).as_matrix()
    old = (Rotation.from_rotvec(generator.normal(0, 0.15, (3, 3))) * middle).as_matrix()
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.7, 0.1])
    places, shares = slow_fuse(old, q, new, p, 0.6, group)
    found, confidences, _ = fuse(*(torch.from_numpy(value)[None] for value in (old, q, new, p)), 0.6, table(group))
    np.testing.assert_allclose(confidences[0], shares, atol=1e-6)
    errors = [float(symmetric_rotation_error(x[None], torch.from_numpy(y), group)) for x, y in zip(found[0], places)]
    assert max(errors) < (0.1 if name == "shaft" else 1e-4)


def test_objects_go_together_as_alone() -> None:
    groups = list(GROUPS.values())
    r, earlier = (random_rotations(12, torch.Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    r, earlier = r.reshape(3, 4, 3, 3), (0.2 * earlier + r).reshape(3, 4, 3, 3)
    u, _, vt = torch.linalg.svd(earlier)
    earlier = u @ vt
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 3, dtype=torch.float64)
    together = fuse(earlier, p, r, p.flip(1), 0.6, table(*groups))
    for i, group in enumerate(groups):
        alone = fuse(earlier[i : i + 1], p[:1], r[i : i + 1], p.flip(1)[:1], 0.6, table(group))
        for one, all_ in zip(alone, together):
            torch.testing.assert_close(one[0], all_[i], atol=1e-12, rtol=0)
    nobody = table(*groups).take(torch.zeros(0, dtype=torch.int64))
    assert fuse(earlier[:0], p[:0], r[:0], p[:0], 0.6, nobody)[0].shape == (0, 4, 3, 3)


def test_the_order_of_hypotheses_does_not_matter() -> None:
    r, earlier = mixture(turn(0), turn(100), turn(60, "y")), mixture(turn(5), turn(95), turn(70, "y"))
    p, q = weights(0.5, 0.3, 0.2), weights(0.2, 0.7, 0.1)
    first = fuse(earlier, q, r, p, 0.6, table(NOTHING))
    new, old = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])
    second = fuse(earlier[:, old], q[:, old], r[:, new], p[:, new], 0.6, table(NOTHING))
    for one, other in zip(first, second):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["six-fold", "shaft"])
def test_equivalent_poses_support_each_other(name: str) -> None:
    """The frame before saw another member of the group: as if it had seen the same, and nothing is smeared between."""
    axis = {"six-fold": np.array([0, 0, 1.0]), "shaft": np.array([1.0, 2.0, 0.0]) / math.sqrt(5)}[name]
    member = torch.from_numpy(Rotation.from_rotvec(axis * math.radians(120)).as_matrix())
    r, p, q = mixture(turn(10), turn(150)), weights(0.6, 0.4), weights(0.4, 0.6)
    same = fuse(r, q, r, p, 0.6, table(GROUPS[name]))
    other = fuse(r @ member, q, r, p, 0.6, table(GROUPS[name]))
    torch.testing.assert_close(same[1], other[1], atol=1e-9, rtol=0)
    for one, all_ in zip(same[0][0], other[0][0]):
        assert float(symmetric_rotation_error(one[None], all_, GROUPS[name])) < 1e-4
    assert float(other[2]) > 0.5
    # Without the symmetry the same hypotheses contradict.
    assert float(fuse(r @ member, q, r, p, 0.6, table(NOTHING))[2]) < 0.1


def test_memory_decides_between_two_views_that_look_alike() -> None:
    """0.6 against 0.4, seen three times, then 0.45 against 0.55 once: the last frame does not turn the answer round."""
    r = mixture(turn(0), turn(120))
    known = r, weights(0.6, 0.4)
    for p in (weights(0.6, 0.4), weights(0.6, 0.4), weights(0.45, 0.55)):
        known = fuse(*known, r, p, 0.8, table(NOTHING))[:2]
    assert float(rotation_angle(known[0][0, 0], turn(0))) < 0.05 and 0.5 < float(known[1][0, 0]) < 0.8


def test_a_contradiction_is_answered_by_the_new_frame_alone() -> None:
    """Object 0 turned by 90°, object 1 did not; a doubt (half of the confidence elsewhere) is no contradiction."""
    earlier = torch.cat([mixture(turn(0), turn(10)), mixture(turn(0), turn(10))])
    r = torch.cat([mixture(turn(90), turn(100)), mixture(turn(1), turn(90))])
    p, q = weights(0.6, 0.4).repeat(2, 1), weights(0.9, 0.1).repeat(2, 1)
    found, shares, agreement = fuse(earlier, q, r, p, 0.9, table(NOTHING, NOTHING))
    assert float(agreement[0]) < LEAST_AGREEMENT < 0.3 < float(agreement[1])
    torch.testing.assert_close(found[0], r[0], atol=0, rtol=0)
    torch.testing.assert_close(shares[0], p[0], atol=1e-12, rtol=0)
    assert not torch.equal(found[1], r[1]) and float(shares[1, 0]) > 0.6


def test_confidences_of_zero_leave_rotations() -> None:
    """All weight on one hypothesis of four: the places without any are still rotations."""
    r = random_rotations(4, torch.Generator().manual_seed(0), dtype=torch.float64)[None]
    found, shares, _ = fuse(r, weights(1, 0, 0, 0), r, weights(1, 0, 0, 0), 0.6, table(NOTHING))
    torch.testing.assert_close(found @ found.mT, torch.eye(3).double().expand_as(found), atol=1e-9, rtol=0)
    assert torch.linalg.det(found).min() > 0.99
    assert float(shares[0, 0]) == pytest.approx(1.0, abs=1e-9) and float(rotation_angle(found[0, 0], r[0, 0])) < 1e-6
