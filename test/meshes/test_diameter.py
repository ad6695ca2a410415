"""The diameter against all pairs, on shapes whose pairs nearly tie, and in bounded time and memory."""

import resource
import time

import numpy as np
import pytest

from shared_pose_ros.meshes.diameter import diameter, farthest
from shared_pose_ros.meshes.mesh import Mesh


def all_pairs(points):
    return max(np.linalg.norm(points - point, axis=1).max() for point in points)


def cloud(kind, count, seed):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(count, 3))
    angle, height = generator.random((2, count)) * [[2 * np.pi], [1]]
    return {
        "blob": points,
        "sphere": points / np.linalg.norm(points, axis=1, keepdims=True),
        "flat": points * [1, 1, 0],
        "line": points * [1, 0, 0],
        "grid": np.round(points),
        "far away": points * [1, 0.01, 5] + 1e4,
        "rims": np.stack([np.cos(angle), np.sin(angle), np.round(height)], axis=1),
        "cone": np.stack([height * np.cos(angle), height * np.sin(angle), (1 - height) * np.sqrt(3)], axis=1),
        "one place": np.ones((count, 3)),
    }[kind]


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 700, 3000])
@pytest.mark.parametrize("kind", ["blob", "sphere", "flat", "line", "grid", "far away", "rims", "cone", "one place"])
def test_equals_the_largest_of_all_pairs(kind, count):
    points = cloud(kind, count, count)
    assert farthest(points) == pytest.approx(all_pairs(points), rel=1e-12, abs=1e-12)


def test_constant_width_where_every_point_has_a_partner():
    # A Reuleaux triangle: three arcs of radius 1 about the corners of a triangle of side 1.
    corners = np.array([(0, 0), (1, 0), (0.5, np.sqrt(0.75))])
    arcs = []
    for k, start in enumerate((0.0, 2.0, 4.0)):
        angle = (np.linspace(0, 1, 2000) + start) * np.pi / 3
        arcs.append(corners[k] + np.stack([np.cos(angle), np.sin(angle)], axis=1))
    outline = np.concatenate(arcs)
    points = np.concatenate([np.c_[outline, np.zeros(len(outline))], np.c_[outline, np.full(len(outline), 0.5)]])
    assert farthest(points) == pytest.approx(np.sqrt(1.25), rel=1e-12)


def test_unused_vertices_do_not_count():
    corners = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.4, 0], [9, 9, 9]], dtype=np.float32)
    assert diameter(Mesh(corners, np.array([[0, 1, 2]], dtype=np.int32))) == pytest.approx(0.5, rel=1e-6)


def test_round_parts_of_many_vertices_take_neither_long_nor_much_memory():
    points = cloud("sphere", 200_000, 1)
    points[[10, 20]] = [[0.0, 0.0, 1.0001], [0.0, 0.0, -1.0001]]  # the answer, among 2e10 pairs that nearly tie
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert farthest(points) == pytest.approx(2.0002, rel=1e-12)
    assert time.process_time() - start < 30  # all pairs: several minutes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kB
