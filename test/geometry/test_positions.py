"""Positions from boxes and depth, against closed forms, a slow reference and plain projection."""

import math

import numpy as np
import pytest
import torch

from shared_pose_ros.geometry.cameras import camera_matrix, viewing_ray
from shared_pose_ros.geometry.depth_window import SAMPLES, WINDOW, surface_distances
from shared_pose_ros.geometry.positions import (
    BOX_DEVIATION,
    LATERAL_DEVIATION,
    LEAST_DEVIATION,
    SPREAD_DEVIATION,
    THICKNESS_DEVIATION,
    distance_from_box,
    estimate_positions,
    half_thickness,
)
from shared_pose_ros.geometry.rotations import random_rotations

CAMERA = camera_matrix(600.0, 600.0, 319.5, 239.5)
SIZE = (480, 640)
FACING = torch.eye(3)[None]
CUBE = torch.full((1, 3), 0.1)


def depth_of(distance, box=(319.5, 239.5, 120.0, 120.0), behind=0.0):
    """A plane facing the camera in a box, `behind` elsewhere."""
    picture = torch.full(SIZE, behind)
    cx, cy, w, h = box
    rows, columns = torch.arange(SIZE[0])[:, None], torch.arange(SIZE[1])
    picture[(abs(rows - cy) < h / 2) & (abs(columns - cx) < w / 2)] = distance
    return picture


def boxes(*rows):
    return torch.tensor(rows or [(319.5, 239.5, 120.0, 120.0)])


def test_a_far_silhouette_is_between_those_of_box_and_ellipsoid():
    """Both from points, the ellipsoid's on a fine sphere; far away the projection is a scaled parallel one."""
    rotations = random_rotations(8, torch.Generator().manual_seed(0), dtype=torch.float64)
    extents = torch.tensor([[0.06, 0.04, 0.02]], dtype=torch.float64).expand(8, 3)
    camera = camera_matrix(9e5, 8e5, 320, 240, dtype=torch.float64)
    centre = torch.tensor([0.04, -0.02, 700.0], dtype=torch.float64)
    corners = torch.tensor([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=torch.float64)
    sphere = torch.nn.functional.normalize(torch.randn(60_000, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    sizes = []
    for shape in (corners, sphere.double()):
        points = (shape * extents[:, None] / 2) @ rotations.mT + centre
        pixels = (points @ camera.T)[..., :2] / points[..., 2:]
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        sizes.append(high - low)
    seen = torch.cat([((low + high) / 2), (sizes[0] * sizes[1]).sqrt()], dim=1)
    found = distance_from_box(seen, camera, rotations, extents)
    torch.testing.assert_close(found, centre.norm().expand(8), rtol=2e-3, atol=0.0)


def test_a_box_of_half_the_size_is_twice_as_far_along_the_same_ray():
    camera, extents = camera_matrix(500, 500, 320, 240), torch.tensor([[0.1, 0.05, 0.02]])
    near = estimate_positions(boxes((420.0, 200.0, 80.0, 40.0)), camera, FACING, extents)
    far = estimate_positions(boxes((420.0, 200.0, 40.0, 20.0)), camera, FACING, extents)
    torch.testing.assert_close(far.centres, 2 * near.centres)
    # By hand: z = f·0.1/80, x = (420 − 320)/f·z.
    torch.testing.assert_close(near.centres, torch.tensor([[0.125, -0.05, 0.625]]))
    # Half the angle at twice the distance: as wide; but twice as deep.
    for answer, scale in ((near, 1.0), (far, 2.0)):
        distance, side = answer.centres.norm(), math.hypot(80, 40) / math.sqrt(2) / 500 / scale
        deviations = [LATERAL_DEVIATION * side * distance] * 2 + [BOX_DEVIATION * distance]
        found = torch.linalg.eigvalsh(answer.covariances[0]).sqrt()
        torch.testing.assert_close(found, torch.stack(deviations))


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_box_that_faces_the_camera_is_half_its_thickness_behind_its_face(turn):
    extents = torch.tensor([[0.12, 0.10, 0.04]])
    rotation = torch.eye(3)[list(turn)][None]
    thickness = float(extents[0, turn[2]])
    assert float(half_thickness(rotation, extents)) == pytest.approx(thickness / 2)
    width, height = (600 * extents[0, list(turn[:2])] / 0.6).tolist()
    box = boxes((319.5, 239.5, width, height))
    found = estimate_positions(box, CAMERA, rotation, extents, depth_of(0.55))
    assert found.problems == ("",)
    # The plane's middle is 0.55 m away, its lower quartile up to a millimetre more.
    torch.testing.assert_close(found.centres, torch.tensor([[0.0, 0.0, 0.55 + thickness / 2]]), atol=1e-3, rtol=0)
    # A plane has hardly any spread: the thickness alone is uncertain.
    deviation = torch.linalg.eigh(found.covariances[0])
    radial = abs(deviation.eigenvectors[2]).argmax()
    assert float(deviation.eigenvalues[radial].sqrt()) == pytest.approx(THICKNESS_DEVIATION * thickness / 2, rel=1e-2)


@pytest.mark.parametrize("pixel", [(319.5, 239.5), (500.0, 100.0)])
def test_a_sphere_is_found_as_deep_as_its_lower_quartile_says(pixel):
    """A window's nearest quarter is a disc of ρ² = (0.6 · 2r)²/4π: there the sphere is r√(1 − 0.36/π) deep."""
    radius, distance = 0.05, 1.0
    ray = viewing_ray(CAMERA, torch.tensor([pixel]))
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    rays = viewing_ray(CAMERA, torch.stack([columns, rows], dim=-1).float())
    along = (rays * ray[0] * distance).sum(-1)
    reach = radius**2 - distance**2 + along**2
    picture = torch.where(reach > 0, (along - reach.clamp(min=0).sqrt()) * rays[..., 2], torch.tensor(5.0))
    mask = (reach > 0).nonzero()
    (y0, x0), (y1, x1) = mask.amin(dim=0).tolist(), mask.amax(dim=0).tolist()
    box = boxes(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0 + 1.0, y1 - y0 + 1.0))
    found = estimate_positions(box, CAMERA, FACING, 2 * radius * torch.ones(1, 3), picture)
    expected = distance + radius * (1.0 - math.sqrt(1.0 - 0.36 / math.pi))
    assert found.problems == ("",)
    assert float(found.centres[0].norm()) == pytest.approx(expected, abs=0.0005)
    torch.testing.assert_close(found.centres / found.centres.norm(), ray, atol=3e-3, rtol=0)


def test_covariances_are_long_along_the_ray_or_flat_and_always_positive():
    generator = torch.Generator().manual_seed(3)
    count = 40
    made = torch.rand(count, 4, generator=generator) * torch.tensor([640.0, 480.0, 100.0, 100.0]) + 5.0
    rotations = random_rotations(count, generator)
    extents = 0.02 + 0.1 * torch.rand(count, 3, generator=generator)
    picture = 0.3 + torch.rand(SIZE, generator=generator)
    plain = estimate_positions(made, CAMERA, rotations, extents)
    deep = estimate_positions(made, CAMERA, rotations, extents, picture)
    used = torch.tensor([not problem for problem in deep.problems])
    assert 5 < used.sum() < count
    ray = viewing_ray(CAMERA, made[:, :2])
    for answer in (plain, deep):
        torch.testing.assert_close(answer.covariances, answer.covariances.mT, rtol=0, atol=0)
        values, vectors = torch.linalg.eigh(answer.covariances.double())
        assert (values > 0).all()
        # The ray is an eigenvector; its value is the one that differs from the other two.
        turned = (answer.covariances @ ray[:, :, None])[:, :, 0]
        radial = (turned * ray).sum(1)
        torch.testing.assert_close(turned, radial[:, None] * ray, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(radial.sqrt()[~used], BOX_DEVIATION * plain.centres.norm(dim=1)[~used])
    torch.testing.assert_close(deep.centres[~used], plain.centres[~used], rtol=0, atol=0)
    torch.testing.assert_close(deep.covariances[~used], plain.covariances[~used], rtol=0, atol=0)
    _, spread, _ = surface_distances(picture, made, CAMERA, SIZE)
    expected = torch.hypot(THICKNESS_DEVIATION * half_thickness(rotations, extents), SPREAD_DEVIATION * spread)
    torch.testing.assert_close(radial.sqrt()[used], expected[used], rtol=1e-3, atol=0)


def box_alone():
    return estimate_positions(boxes(), CAMERA, FACING, CUBE)


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (depth_of(0.8), "depth puts it at 0.850 m, its box at 0.500 m; between 0.167 and 0.695 m is plausible"),
        (depth_of(0.1), "depth puts it at 0.150 m"),
        (torch.zeros(SIZE), "only 0 % of the box's middle has a depth; 10 % are needed"),
        (torch.full(SIZE, math.nan), "only 0 %"),
        (torch.full(SIZE, math.inf), "only 0 %"),
        (depth_of(0.45, box=(319.5, 239.5, 20.0, 20.0)), "only 6 %"),
    ],
)
def test_depth_that_is_not_the_object_s_is_refused_with_its_reason(picture, problem):
    found = estimate_positions(boxes(), CAMERA, FACING, CUBE, picture)
    assert found.problems[0].startswith(problem)
    torch.testing.assert_close(found.centres, box_alone().centres, rtol=0, atol=0)
    torch.testing.assert_close(found.covariances, box_alone().covariances, rtol=0, atol=0)


def test_a_neighbour_in_a_fifth_of_the_window_does_not_matter():
    picture = depth_of(0.45, behind=0.7)
    side = WINDOW * 120
    for nearer, share in ((0.3, 0.2), (1.5, 0.6)):
        covered = picture.clone()
        covered[:, : int(319.5 - side / 2 + share * side)] = nearer
        found = estimate_positions(boxes(), CAMERA, FACING, CUBE, covered)
        assert found.problems == ("",)
        torch.testing.assert_close(found.centres[0], torch.tensor([0.0, 0.0, 0.5]), atol=1e-3, rtol=0)


def test_quartiles_are_those_of_a_plain_loop_in_images_of_any_size():
    generator = np.random.default_rng(5)
    made = torch.tensor([(319.7, 239.6, 90.1, 60.2), (-5.2, 3.1, 80.3, 90.7), (630.3, 470.2, 7.1, 3.3)])
    for size in (SIZE, (240, 320), (960, 1280)):
        picture = generator.uniform(0.3, 2.0, size).astype(np.float32)
        picture[generator.uniform(size=size) < 0.3] = 0.0
        found = [values.numpy() for values in surface_distances(torch.from_numpy(picture), made, CAMERA, SIZE)]
        for number, (cx, cy, w, h) in enumerate(made.tolist()):
            values, scale = [], size[0] / SIZE[0]
            for j in range(SAMPLES):
                for i in range(SAMPLES):
                    u = cx + w * WINDOW * ((i + 0.5) / SAMPLES - 0.5)
                    v = cy + h * WINDOW * ((j + 0.5) / SAMPLES - 0.5)
                    column, row = round((u + 0.5) * scale - 0.5), round((v + 0.5) * scale - 0.5)
                    if 0 <= row < size[0] and 0 <= column < size[1] and picture[row, column] > 0:
                        x, y = (u - 319.5) / 600, (v - 239.5) / 600
                        values.append(picture[row, column] * math.sqrt(1 + x * x + y * y))
            low, high = (sorted(values)[int(share * (len(values) - 1))] for share in (0.25, 0.75))
            assert found[2][number] == pytest.approx(len(values) / SAMPLES**2, abs=1e-6)
            assert found[0][number] == pytest.approx(low, rel=1e-5)
            assert found[1][number] == pytest.approx(high - low, rel=1e-4)


def test_a_half_sized_depth_image_shows_the_same():
    full = estimate_positions(boxes(), CAMERA, FACING, CUBE, depth_of(0.47), SIZE)
    half = estimate_positions(boxes(), CAMERA, FACING, CUBE, depth_of(0.47)[::2, ::2], SIZE)
    torch.testing.assert_close(half.centres, full.centres, rtol=0, atol=0)


def test_a_batch_is_its_objects_one_by_one():
    made = boxes((319.5, 239.5, 120.0, 120.0), (100.0, 400.0, 60.0, 90.0), (500.0, 50.0, 30.0, 30.0))
    rotations = random_rotations(3, torch.Generator().manual_seed(7))
    picture, extents = depth_of(0.5, behind=0.6), CUBE.expand(3, 3)
    together = estimate_positions(made, CAMERA, rotations, extents, picture)
    for row in range(3):
        part = slice(row, row + 1)
        alone = estimate_positions(made[part], CAMERA, rotations[part], extents[part], picture)
        torch.testing.assert_close(alone.centres, together.centres[part])
        torch.testing.assert_close(alone.covariances, together.covariances[part])
        assert alone.problems == together.problems[part]
    none = estimate_positions(made[:0], CAMERA, rotations[:0], extents[:0], picture)
    assert none.centres.shape == (0, 3) and none.covariances.shape == (0, 3, 3) and none.problems == ()


def test_flat_objects_have_no_thickness_and_stay_finite():
    flat = torch.tensor([[0.1, 0.1, 0.0]])
    assert float(half_thickness(FACING, flat)) < 1e-5
    found = estimate_positions(boxes(), CAMERA, FACING, flat, depth_of(0.5))
    assert found.problems == ("",)
    radial = float(found.covariances[0, 2, 2].sqrt())
    assert LEAST_DEVIATION <= radial < 0.003
