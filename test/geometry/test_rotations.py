"""Rotations: against their definitions, scipy, finite differences and hand-made corner cases."""

import doctest
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shared_pose_ros.geometry import cameras, rotations
from shared_pose_ros.geometry.rotations import (
    ACOS_LIMIT,
    axis_angle_rotation,
    geodesic_distance,
    quaternion_from_rotation,
    random_rotations,
    rotation_angle,
    rotation_from_6d,
    rotation_from_quaternion,
    rotation_from_vector,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_rotations(matrices, tolerance=1e-5):
    eye = torch.eye(3, dtype=matrices.dtype)
    assert (matrices.transpose(-1, -2) @ matrices - eye).abs().max() < tolerance
    assert (torch.linalg.det(matrices) - 1).abs().max() < tolerance


@pytest.mark.parametrize("module", [rotations, cameras])
def test_examples_of_the_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_6d_is_gram_schmidt_with_the_columns_of_the_method():
    vectors = torch.randn(50, 6, generator=generator(), dtype=torch.float64)
    matrices = rotation_from_6d(vectors)
    for row, found in zip(vectors.numpy(), matrices.numpy()):
        a, b = row[:3], row[3:]
        x = a / np.linalg.norm(a)
        z = np.cross(x, b) / np.linalg.norm(np.cross(x, b))
        np.testing.assert_allclose(found, np.stack([x, np.cross(z, x), z], axis=1), atol=1e-12)


def test_6d_of_a_rotations_own_columns_is_that_rotation():
    truth = random_rotations(20, generator())
    scaled = torch.cat([truth[..., 0] * 3.0, truth[..., 1] * 0.2 + truth[..., 0] * 5.0], dim=-1)
    torch.testing.assert_close(rotation_from_6d(scaled), truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-5, 2e-6, 1e-6, 1e-7, 0.0])
def test_6d_of_nearly_parallel_vectors_is_a_rotation(angle):
    a = torch.randn(2000, 3, generator=generator(1))
    b = 2.5 * a + angle * torch.randn(2000, 3, generator=generator(2))
    assert_rotations(rotation_from_6d(torch.cat([a, b], dim=1)))


@pytest.mark.parametrize(
    "vectors",
    [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 2, 1],
        [1, 2, 3, 0, 0, 0],
        [1, 0, 0, -4, 0, 0],
        [1e-9, 0, 0, 0, 1e-9, 0],
        [1e8, 0, 0, 0, 1e8, 1],
    ],
)
def test_6d_of_degenerate_vectors_is_a_rotation_with_a_finite_gradient(vectors):
    vectors = torch.tensor(vectors, dtype=torch.float32, requires_grad=True)
    matrix = rotation_from_6d(vectors)
    assert_rotations(matrix)
    (matrix * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert torch.isfinite(vectors.grad).all()


def test_6d_gradient_matches_finite_differences():
    vectors = torch.randn(4, 6, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_from_6d, (vectors,))


def test_6d_keeps_leading_axes_and_dtype():
    matrices = rotation_from_6d(torch.randn(2, 5, 6, dtype=torch.float64))
    assert matrices.shape == (2, 5, 3, 3) and matrices.dtype == torch.float64


def test_angles_of_known_turns():
    axis = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    base = random_rotations(1, generator(), dtype=torch.float64)[0]
    for angle in (0.01, 0.5, 2.0, 3.0):
        turned = base @ axis_angle_rotation(axis, torch.tensor(angle, dtype=torch.float64))
        assert rotation_angle(base, turned).item() == pytest.approx(angle, abs=1e-9)
        assert geodesic_distance(base, turned).item() == pytest.approx(angle, abs=1e-9)


def test_the_geodesic_is_clamped_with_a_finite_gradient_and_the_angle_is_not():
    same = torch.eye(3, requires_grad=True)
    distance = geodesic_distance(same, torch.eye(3))
    assert distance.item() == pytest.approx(math.acos(ACOS_LIMIT), rel=1e-2)
    distance.backward()
    assert torch.isfinite(same.grad).all()
    assert rotation_angle(torch.eye(3), torch.eye(3)).item() == 0.0
    flipped = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert rotation_angle(torch.eye(3), flipped).item() == pytest.approx(math.pi, abs=1e-3)
    assert geodesic_distance(torch.eye(3), flipped).item() <= math.pi


def test_distances_broadcast():
    first, second = random_rotations(4, generator()), random_rotations(6, generator(1))
    table = geodesic_distance(first[:, None], second[None])
    assert table.shape == (4, 6)
    assert table[2, 3].item() == pytest.approx(geodesic_distance(first[2], second[3]).item())


def test_quaternions_agree_with_scipy_both_ways():
    known = Rotation.random(200, random_state=0)
    matrices = torch.from_numpy(known.as_matrix())
    expected = known.as_quat()
    expected *= np.where(expected[:, 3:] < 0, -1, 1)
    np.testing.assert_allclose(quaternion_from_rotation(matrices).numpy(), expected, atol=1e-9)
    torch.testing.assert_close(rotation_from_quaternion(torch.from_numpy(-3.0 * expected)), matrices)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
def test_quaternions_of_half_turns_where_w_vanishes(axis):
    turn = axis_angle_rotation(torch.tensor(axis, dtype=torch.float32), torch.tensor(math.pi))
    quaternion = quaternion_from_rotation(turn)
    assert quaternion[3] >= 0 and quaternion.norm().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(rotation_from_quaternion(quaternion), turn, atol=1e-6, rtol=0)


def test_axis_angle_agrees_with_scipy_and_broadcasts():
    axes = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, -4.0]], dtype=torch.float64)
    angles = torch.tensor([0.3, -1.1, 4.0], dtype=torch.float64)
    found = axis_angle_rotation(axes[:, None], angles[None]).numpy()
    for i, axis in enumerate(axes.numpy()):
        for j, angle in enumerate(angles.numpy()):
            expected = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
            np.testing.assert_allclose(found[i, j], expected, atol=1e-12)
    assert axis_angle_rotation(axes[0], angles).shape == (3, 3, 3)


def test_random_rotations_are_uniform_and_follow_the_generator():
    matrices = random_rotations(20_000, generator(3))
    assert_rotations(matrices)
    # Uniform on SO(3): every entry has mean 0 and variance 1/3, and the angle has density (1 − cos θ)/π.
    assert matrices.mean(dim=0).abs().max() < 0.02
    assert (matrices.var(dim=0) - 1 / 3).abs().max() < 0.01
    angles = rotation_angle(matrices, torch.eye(3))
    assert angles.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)
    torch.testing.assert_close(matrices[:5], random_rotations(20_000, generator(3))[:5])
    assert not torch.allclose(matrices[:5], random_rotations(20_000, generator(4))[:5])
    assert random_rotations(2, generator(), dtype=torch.float64).dtype == torch.float64


def test_a_rotation_vector_is_scipys():
    vectors = torch.randn(200, 3, generator=generator(5), dtype=torch.float64) * 2
    found = rotation_from_vector(vectors)
    np.testing.assert_allclose(found, Rotation.from_rotvec(vectors.numpy()).as_matrix(), atol=1e-12)
    assert_rotations(found, 1e-12)
    assert rotation_from_vector(torch.randn(2, 4, 3)).shape == (2, 4, 3, 3)


def test_a_rotation_vector_at_zero_and_near_it():
    assert torch.equal(rotation_from_vector(torch.zeros(3)), torch.eye(3))
    tiny = torch.tensor([1e-7, -2e-7, 3e-7], dtype=torch.float64)
    x, y, z = tiny
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    expected = torch.eye(3, dtype=torch.float64) + cross
    torch.testing.assert_close(rotation_from_vector(tiny), expected, atol=1e-12, rtol=0)
    # Half and whole turns.
    half = rotation_from_vector(torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64))
    torch.testing.assert_close(half, torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)))
    whole = rotation_from_vector(torch.tensor([0.0, 0.0, 2 * math.pi], dtype=torch.float64))
    torch.testing.assert_close(whole, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
