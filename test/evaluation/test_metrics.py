"""Pose errors against slow references that follow the definitions word by word, and closed-form cases."""

import math

import numpy as np
import pytest
import torch
from evaluation_scene import compared, turn

from shared_pose_ros.evaluation.metrics import (
    add,
    adi,
    distance_image,
    mspd,
    mssd,
    recall,
    symmetric_rotation_error,
    vsd,
)
from shared_pose_ros.meshes.symmetries import Symmetries

CAMERA = torch.tensor([[40.0, 0.0, 15.2], [0.0, 38.0, 11.7], [0.0, 0.0, 1.0]], dtype=torch.float64)
TAUS = torch.tensor([0.002, 0.01, 0.03], dtype=torch.float64)


def slow_vsd(estimate, truth, test, camera, taus, delta, missing_visible):
    """VSD pixel by pixel."""

    def distance(depth, x, y):
        point = np.linalg.inv(camera) @ np.array([x, y, 1.0]) * depth
        return float(np.linalg.norm(point))

    inside, union, common = [0] * len(taus), 0, 0
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            d_est, d_gt, d_test = (distance(d[y, x], x, y) for d in (estimate, truth, test))

            def seen(d, d_test=d_test):
                if d == 0:
                    return False
                return missing_visible if d_test == 0 else d - d_test <= delta

            v_gt = seen(d_gt)
            v_est = seen(d_est) or (v_gt and d_est > 0)
            union += v_gt or v_est
            if v_gt and v_est:
                common += 1
                for i, tau in enumerate(taus):
                    inside[i] += abs(d_gt - d_est) >= tau
    return [(n + union - common) / union if union else 1.0 for n in inside]


def random_depth(rng, shape, share=0.7):
    depth = 0.5 + 0.03 * rng.random(shape)
    depth[rng.random(shape) > share] = 0.0
    return depth.astype(np.float32)


@pytest.mark.parametrize("missing_visible", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_vsd_equals_the_slow_reference(seed, missing_visible):
    rng = np.random.default_rng(seed)
    truth, test = random_depth(rng, (24, 31)), random_depth(rng, (24, 31), 0.8)
    estimates = np.stack([random_depth(rng, (24, 31)) for _ in range(3)])
    fast = vsd(*map(torch.from_numpy, (estimates, truth, test)), CAMERA, TAUS, 0.015, missing_visible)
    slow = [slow_vsd(e, truth, test, CAMERA.numpy(), TAUS.tolist(), 0.015, missing_visible) for e in estimates]
    assert fast.dtype == torch.float64
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-12)


def test_vsd_keeps_the_order_of_the_tolerances():
    rng = np.random.default_rng(4)
    depths = [torch.from_numpy(random_depth(rng, (24, 31))) for _ in range(3)]
    shuffled = vsd(depths[0][None], *depths[1:], CAMERA, TAUS[[2, 0, 1]])
    torch.testing.assert_close(shuffled, vsd(depths[0][None], *depths[1:], CAMERA, TAUS)[:, [2, 0, 1]])


def test_distance_image_is_the_norm_of_the_point():
    depth = torch.zeros(24, 31)
    depth[3, 20] = 2.0
    x, y = (20 - 15.2) / 40.0, (3 - 11.7) / 38.0
    assert distance_image(depth, CAMERA)[3, 20].item() == pytest.approx(2.0 * math.sqrt(x * x + y * y + 1), rel=1e-12)
    assert distance_image(depth, CAMERA).count_nonzero() == 1


def test_vsd_is_zero_for_the_same_render_and_one_for_nothing_visible():
    depth = torch.full((8, 8), 0.6)
    empty = torch.zeros(8, 8)
    assert vsd(depth[None], depth, depth, CAMERA, TAUS).tolist() == [[0.0] * 3]
    assert vsd(empty[None], empty, depth, CAMERA, TAUS).tolist() == [[1.0] * 3]


@pytest.mark.parametrize(("factor", "expected"), [(0.999, 0.0), (1.001, 1.0)])
def test_vsd_just_inside_and_outside_tau(factor, expected):
    # One pixel on the optical axis, where depth and distance are the same.
    camera = torch.tensor([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0], [0.0, 0.0, 1.0]])
    tau = 0.01
    truth = torch.full((1, 1), 0.5, dtype=torch.float64)
    error = vsd((truth + factor * tau)[None], truth, truth, camera, torch.tensor([tau]))
    assert error.item() == expected


def test_a_surface_behind_the_scene_by_more_than_delta_is_not_visible():
    truth = torch.full((4, 4), 0.5, dtype=torch.float64)
    camera = torch.tensor([[4000.0, 0.0, 2.0], [0.0, 4000.0, 2.0], [0.0, 0.0, 1.0]])
    scene = truth.clone()
    scene[:, :2] -= 0.0151  # an occluder over the left half
    scene[:, 2:] -= 0.0149  # the sensor's noise over the right
    truth_only_right = torch.zeros(1, 4, 4, dtype=torch.float64)
    truth_only_right[0, :, 2:] = 0.5
    assert vsd(truth_only_right, truth, scene, camera, torch.tensor([0.001])).item() == 0.0


def test_missing_depth_is_visible_in_bop19_and_not_in_bop18():
    truth = torch.full((2, 4), 0.5)
    half = truth.clone()
    half[:, :2] = 0.0
    scene = half.clone()  # nothing measured where the estimate shows nothing
    assert vsd(half[None], truth, scene, CAMERA, torch.tensor([0.01]), missing_visible=True).item() == 0.5
    assert vsd(half[None], truth, scene, CAMERA, torch.tensor([0.01]), missing_visible=False).item() == 0.0


def slow_point_metric(rotation, translation, r_gt, t_gt, points, symmetries, project):
    values = []
    for symmetry in symmetries:
        worst = 0.0
        for x in points:
            truth = r_gt @ (symmetry[:3, :3] @ x + symmetry[:3, 3]) + t_gt
            worst = max(worst, float(np.linalg.norm(project(rotation @ x + translation) - project(truth))))
        values.append(worst)
    return min(values)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mssd_and_mspd_equal_the_slow_reference(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(400, 3)) * (0.03, 0.02, 0.05)
    symmetries = Symmetries.from_dict({"continuous": [{"axis": [0.0, 0.6, 0.8], "offset": [0.0, 0.001, 0.0]}]})
    transforms = symmetries.transforms(max_step=0.3)
    r_gt, t_gt = turn(rng.normal(size=3), 70), np.array([0.02, -0.03, 0.4])
    rotations = np.stack([r_gt @ turn(rng.normal(size=3), angle) for angle in (5, 170)])
    translations = t_gt + rng.normal(size=(2, 3)) * 0.01
    camera = CAMERA.numpy()
    seen = compared(rotations, translations, r_gt, t_gt, points, transforms, CAMERA)
    surface, image = mssd(seen), mspd(seen)
    for i in range(2):
        pose = rotations[i], translations[i], r_gt, t_gt, points, transforms
        assert surface[i].item() == pytest.approx(slow_point_metric(*pose, lambda p: p), rel=1e-9)
        projected = slow_point_metric(*pose, lambda p: (camera @ p)[:2] / p[2])
        assert image[i].item() == pytest.approx(projected, rel=1e-9)


def test_point_metrics_of_a_shift_are_the_shift():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.01
    eye = torch.eye(3, dtype=torch.float64)
    far = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.003, 0.0, 0.004], dtype=torch.float64)
    assert mssd(compared(eye[None], (far + shift)[None], eye, far, points)).item() == pytest.approx(0.005)
    assert mspd(compared(eye[None], far[None], eye, far, points, None, CAMERA)).item() == 0.0
    flat = torch.zeros(1, 3, dtype=torch.float64)
    aside = (far + shift * torch.tensor([1, 1, 0]))[None]
    sideways = mspd(compared(eye[None], aside, eye, far, flat, None, CAMERA))
    assert sideways.item() == pytest.approx(40.0 * 0.003)


@pytest.mark.parametrize("seed", [0, 1])
def test_average_distances_equal_the_slow_reference(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 3)) * 0.03
    r_gt, t_gt = turn(rng.normal(size=3), 70), np.array([0.02, -0.03, 0.4])
    rotations = np.stack([r_gt @ turn(rng.normal(size=3), angle) for angle in (5, 170)])
    translations = t_gt + rng.normal(size=(2, 3)) * 0.01
    seen = compared(rotations, translations, r_gt, t_gt, points)
    for i in range(2):
        estimate = [rotations[i] @ x + translations[i] for x in points]
        truth = [r_gt @ x + t_gt for x in points]
        same = np.mean([np.linalg.norm(a - b) for a, b in zip(estimate, truth)])
        nearest = np.mean([min(np.linalg.norm(a - b) for a in estimate) for b in truth])
        assert add(seen)[i].item() == pytest.approx(same, rel=1e-9)
        assert adi(seen)[i].item() == pytest.approx(nearest, rel=1e-9)


def test_a_symmetric_turn_is_free_for_all_metrics_but_add():
    # Corners of a plate, turned by a half turn about its axis: every point lands on another one.
    points = torch.tensor([[x, y, z] for x in (-0.03, 0.03) for y in (-0.02, 0.02) for z in (0, 0.01)]).double()
    symmetry = np.eye(4)
    symmetry[:3, :3] = turn([0, 0, 1], 180)
    transforms = torch.from_numpy(Symmetries(symmetry[None]).transforms())
    truth, place = torch.from_numpy(turn([3, -1, 2], 50)), torch.tensor([0.01, 0.02, 0.5], dtype=torch.float64)
    turned = (truth @ torch.from_numpy(symmetry[:3, :3]))[None]
    pose = compared(turned, place[None], truth, place, points, transforms, CAMERA)
    assert mssd(pose).item() == pytest.approx(0, abs=1e-12)
    assert mspd(pose).item() == pytest.approx(0, abs=1e-9)
    assert adi(pose).item() == pytest.approx(0, abs=1e-12)
    assert add(pose).item() == pytest.approx(2 * math.hypot(0.03, 0.02))
    # The identity is no error of any metric; a shift is the shift.
    same = compared(truth[None], place[None], truth, place, points, transforms)
    assert add(same).item() == mssd(same).item() == 0.0
    assert adi(same).item() == pytest.approx(0, abs=1e-12)
    shifted = compared(truth[None], place[None] + torch.tensor([0.003, 0.0, 0.004]), truth, place, points)
    assert add(shifted).item() == pytest.approx(0.005)
    assert adi(shifted).item() == pytest.approx(0.005)


HALF_TURN = {"discrete": [[-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]}
ROUND = {"continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]}
ROUND_AND_FLIPPED = {**ROUND, "discrete": [[1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]]}
BALL = {"continuous": [*ROUND["continuous"], {"axis": [1, 0, 0], "offset": [0, 0, 0]}]}
TILTED = {"continuous": [{"axis": [0.6, 0.0, 0.8], "offset": [0.01, 0, 0]}], "discrete": HALF_TURN["discrete"]}


def angle_of(rotation):
    return math.degrees(math.acos(min(1.0, max(-1.0, (np.trace(rotation) - 1) / 2))))


@pytest.mark.parametrize(
    ("symmetries", "error", "expected"),
    [
        ({}, turn([0, 0, 1], 0), 0.0),
        ({}, turn([1, 2, 3], 180), 180.0),
        ({}, turn([1, 2, 3], 33), 33.0),
        (HALF_TURN, turn([0, 0, 1], 180), 0.0),
        (HALF_TURN, turn([0, 0, 1], 170), 10.0),
        (HALF_TURN, turn([1, 0, 0], 180), 180.0),
        (ROUND, turn([0, 0, 1], 123.4), 0.0),
        (ROUND, turn([1, 0, 0], 25), 25.0),
        (ROUND, turn([0, 0, 1], 77) @ turn([1, 0, 0], 25), 25.0),
        (ROUND, turn([1, 0, 0], 170), 170.0),
        (ROUND_AND_FLIPPED, turn([1, 0, 0], 170), 10.0),
        (ROUND_AND_FLIPPED, turn([1, 0, 0], 180) @ turn([0, 0, 1], 41), 0.0),
        (BALL, turn([1, 2, 3], 100), 0.0),
    ],
)
def test_symmetric_rotation_error_in_closed_form(symmetries, error, expected):
    truth = turn([3, -1, 2], 50)
    given = Symmetries.from_dict(symmetries)
    found = symmetric_rotation_error(torch.from_numpy(truth @ error)[None], torch.from_numpy(truth), given)
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("symmetries", [ROUND, ROUND_AND_FLIPPED, TILTED])
def test_symmetric_rotation_error_equals_a_fine_search(symmetries):
    rng = np.random.default_rng(5)
    given = Symmetries.from_dict(symmetries)
    group = given.rotations(max_step=0.002)
    truth = turn(rng.normal(size=3), 200)
    estimates = np.stack([turn(rng.normal(size=3), rng.uniform(0, 180)) for _ in range(8)])
    found = symmetric_rotation_error(torch.from_numpy(estimates), torch.from_numpy(truth), given)
    for estimate, value in zip(estimates, found.tolist()):
        best = min(angle_of(estimate.T @ truth @ s) for s in group)
        # Steps are 0.23°: the search may miss the optimum by half a step, never undercut it.
        assert best - 0.12 <= value <= best + 1e-6


def test_recall_counts_strictly_smaller_errors():
    thetas = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert recall(torch.tensor([0.0, 0.2, 0.35, 1.0]), thetas).tolist() == [1.0, 0.5, 0.25, 0.0]
    assert recall(torch.tensor([[0.0, 0.35]]), thetas).tolist() == [0.625]
