"""The stage that aligns estimates to depth: what it changes, what it leaves, and what it counts."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from depth_scene import CAMERA, CENTRE, FLOOR, ROTATION, SIZE, errors, exact_depth, part
from evaluation_scene import turn

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import Selection, hypothesis_deviation
from shared_pose_ros.pipeline.refinement import ALIGNED_DEVIATION, ALIGNED_ROTATION, Refinement
from shared_pose_ros.pipeline.statistics import Statistics

OFFSET = np.float32([0.01, -0.02, 0.03])
"""Of the lever's CAD origin: the centre of its box is there."""
PLACES = [CENTRE, CENTRE + torch.tensor([-0.1, 0.05, 0.1]), CENTRE + torch.tensor([0.1, 0.05, 0.0])]
"""A lever that is there, an object without a mesh, and a lever that is not there."""
LEVER = part("lever")
METADATA = SimpleNamespace(
    objects=(
        SimpleNamespace(centre=tuple(OFFSET), diameter=LEVER.diameter, extents=(0.1,) * 3, symmetries={}),
        SimpleNamespace(centre=(0.0,) * 3, diameter=0.1, extents=(0.1,) * 3, symmetries={}),
    ),
    metrics={},
)
MESHES = (DisplayMesh(LEVER.mesh.vertices + OFFSET, LEVER.mesh.faces), None)


def estimate() -> PoseEstimate:
    """Two hypotheses of each object, the second of them near, at positions that miss by centimetres."""
    near = ROTATION.numpy() @ turn([0.3, 1.0, 0.2], 7.0).astype(np.float32)
    rotations = np.tile(np.stack([near @ turn([0, 0, 1], 90), near]), (3, 1, 1, 1)).astype(np.float32)
    centres = torch.stack(PLACES).numpy() * np.float32(1.01)
    offsets = np.einsum("bij,bj->bi", rotations[:, 0], np.stack([OFFSET, np.zeros(3), OFFSET]))
    return PoseEstimate(
        rotations=rotations,
        confidences=np.tile(np.float32([0.7, 0.3]), (3, 1)),
        translations=np.float32(centres - offsets),
        ray_corrected=True,
        position_covariances=np.tile(0.01 * np.eye(3, dtype=np.float32), (3, 1, 1)),
        depth_problems=("far", "far", "far"),
    )


def frame(depth: torch.Tensor | None = None, **changes) -> Frame:
    names, index = ["lever", "blob", "lever"], np.array([0, 1, 0])
    detections = Detections(np.ones((3, 4), np.float32), index, names, ["a", "b", "c"])
    given = exact_depth([(LEVER, ROTATION, CENTRE)]) if depth is None else depth
    image = np.zeros((*SIZE, 3), np.uint8)
    made = Frame(0, "camera", image, detections, CAMERA.double().numpy(), given.numpy(), estimate())
    return dataclasses.replace(made, **changes)


def run(given: Frame) -> tuple[Frame, dict, dict]:
    statistics = Statistics()
    found = Refinement(METADATA, MESHES, statistics)(given, NodeParameters())
    counters, reasons = statistics.snapshot()
    return found, dict(counters), reasons


def test_who_is_seen_is_aligned_and_the_others_are_left_and_counted() -> None:
    given = frame()
    before, copies = given.estimated, dataclasses.asdict(given.estimated)
    found, counters, reasons = run(given)
    after = found.estimated
    turned, _ = errors(torch.from_numpy(after.rotations[0, :1]), CENTRE[None])
    centre = after.translations[0] + after.rotations[0, 0] @ OFFSET
    assert turned < 0.2 and np.linalg.norm(centre - CENTRE.numpy()) < 0.0002
    assert (np.diff(after.confidences[0]) <= 0).all() and after.confidences[0].sum() == pytest.approx(1.0)
    variance = (ALIGNED_DEVIATION * LEVER.diameter) ** 2
    np.testing.assert_allclose(after.position_covariances[0], variance * np.eye(3), rtol=1e-4)
    np.testing.assert_array_equal(after.deviations, [ALIGNED_ROTATION, np.nan, np.nan])
    assert after.depth_problems == ("", "far", "far")
    for name in ("rotations", "confidences", "translations", "position_covariances"):
        np.testing.assert_array_equal(getattr(after, name)[1:], getattr(before, name)[1:])
        np.testing.assert_array_equal(getattr(before, name), copies[name])
    assert counters == {"no_mesh": 1, "alignment_rejected": 1}
    assert "'blob'" in reasons["no_mesh"] and "shared_pose export BUNDLE --objects CAD" in reasons["no_mesh"]
    assert "id 'c'" in reasons["alignment_rejected"]


@pytest.mark.parametrize("distance", [FLOOR, 0.0, math.nan, 0.2])
def test_depth_that_shows_nothing_makes_nothing_worse(distance: float) -> None:
    given = frame(torch.full(SIZE, distance))
    found, counters, _ = run(given)
    for name in ("rotations", "confidences", "translations", "position_covariances", "depth_problems"):
        np.testing.assert_array_equal(getattr(found.estimated, name), getattr(given.estimated, name))
    assert np.isnan(found.estimated.deviations).all()
    assert counters == {"no_mesh": 1, "alignment_rejected": 2}


def test_without_depth_camera_position_or_objects_the_frame_passes() -> None:
    plain = estimate()
    nothing = np.zeros(0, dtype=np.int64)
    for given in (
        dataclasses.replace(frame(), depth=None),
        frame(camera_matrix=None),
        frame(estimate=dataclasses.replace(plain, translations=None)),
        frame(estimate=dataclasses.replace(plain, position_covariances=None)),
        frame(detections=frame().detections.take(nothing, [])),
    ):
        found, counters, _ = run(given)
        assert found is given and counters == {}


def test_objects_without_any_mesh_are_all_counted() -> None:
    given, statistics = frame(), Statistics()
    assert Refinement(METADATA, (None, None), statistics)(given, NodeParameters()) is given
    assert statistics.snapshot()[0] == {"no_mesh": 3}


def test_an_aligned_object_is_published_with_its_own_deviation() -> None:
    aligned, _, _ = run(frame())
    table = SymmetryTable.from_dicts([{}, {}])
    certain = np.tile(np.float32([1.0, 0.0]), (3, 1))
    shown = dataclasses.replace(aligned, estimate=dataclasses.replace(aligned.estimated, confidences=certain))
    poses = Selection(METADATA, table)(shown, NodeParameters(symmetric_representative="any")).poses
    for row, expected in enumerate((ALIGNED_ROTATION, hypothesis_deviation({}), hypothesis_deviation({}))):
        np.testing.assert_allclose(poses.covariances[row, 0, 3:, 3:], expected**2 * np.eye(3), rtol=0.05, atol=1e-6)
