"""The stage that refines hypotheses by rendering: frames, positions, what is left as it is, and what is counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_refinement import MESHES, METADATA, OFFSET, frame

from shared_pose_ros.bundle import Refiner, RefinerFacts
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.rotations import rotation_from_vector
from shared_pose_ros.network.refiner import PoseRefiner
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import Selection
from shared_pose_ros.pipeline.refinement import (
    ALIGNED_ROTATION,
    DEFAULT_STEPS,
    MEAN_ANGLE,
    Refinement,
    expected_errors,
)
from shared_pose_ros.pipeline.statistics import Statistics

TURN = rotation_from_vector(torch.tensor([0.0, 0.0, 0.4]))
BOXES = np.float32([[40, 50, 20, 30], [200, 100, 30, 20], [250, 200, 20, 20]])


class Turner(PoseRefiner):
    """Turns about the crop's optical axis, and expects less of later hypotheses."""

    def compare(self, seen, renders, crop_of):
        errors = 0.5 / torch.arange(1, 1 + len(renders)).float()
        return TURN.expand(len(renders), 3, 3), errors[:, None].expand(-1, 2).log()


def shown() -> Frame:
    """Without depth, so that nothing else changes the poses."""
    given = frame()
    detections = dataclasses.replace(given.detections, boxes=BOXES)
    return dataclasses.replace(given, depth=None, detections=detections)


def run(given: Frame, with_refiner: bool = True, meshes=MESHES, **parameters) -> tuple[Frame, dict, dict]:
    statistics = Statistics()
    facts = RefinerFacts(samples=0, objects="", commit="")
    refiner = Refiner(Turner().eval(), facts) if with_refiner else None
    stage = Refinement(METADATA, meshes, statistics, refiner)
    stage.prepare(NodeParameters(**parameters))
    found = stage(given, NodeParameters(**parameters))
    counters, reasons = statistics.snapshot()
    return found, dict(counters), reasons


@pytest.mark.parametrize("camera", [True, False])
def test_hypotheses_are_turned_in_the_crops_axes_and_sorted(camera: bool) -> None:
    given = shown()
    if not camera:
        estimate = dataclasses.replace(
            given.estimated, translations=None, position_covariances=None, ray_corrected=False
        )
        given = dataclasses.replace(given, camera_matrix=None, estimate=estimate)
    before = given.estimated
    found, counters, reasons = run(given, refine=1)
    after = found.estimated
    correction = torch.eye(3).expand(3, 3, 3)
    if camera:
        matrix = torch.from_numpy(np.asarray(given.camera_matrix, dtype=np.float32))
        correction = ray_rotation(viewing_ray(matrix, torch.from_numpy(BOXES[:, :2])))
    for row in (0, 2):
        turned = (correction[row] @ TURN @ correction[row].T).numpy()
        # The second hypothesis is expected to be nearer, so it comes first.
        assert np.allclose(after.rotations[row], (turned @ before.rotations[row])[::-1], atol=1e-5)
        assert after.confidences[row, 0] > after.confidences[row, 1]
        if camera:  # the centre of the CAD's box stays where it was
            centres = [e.translations[row] + e.rotations[row, 0] @ OFFSET for e in (before, after)]
            assert np.allclose(*centres, atol=1e-6)
    assert after.deviations is not None
    # Of four hypotheses in the batch, the first object's are 0 and 1, the last one's 2 and 3.
    assert after.deviations[[0, 2]] == pytest.approx([0.25 / MEAN_ANGLE, 0.125 / MEAN_ANGLE])
    assert np.isnan(after.deviations[1])
    assert np.array_equal(after.rotations[1], before.rotations[1])
    assert counters == {"no_mesh": 1} and "--objects CAD" in reasons["no_mesh"]


def test_the_expected_error_comes_with_the_published_poses_and_alignment_takes_it_away() -> None:
    found, _, _ = run(shown(), refine=1)
    table = SymmetryTable.from_dicts([item.symmetries for item in METADATA.objects])
    published = Selection(METADATA, table)(found, NodeParameters()).poses
    assert published.expected_errors == pytest.approx([0.25, np.nan, 0.125], nan_ok=True)
    assert published.expected_error(0) == pytest.approx(0.25) and published.expected_error(1) is None
    # Two hypotheses leave a direction to σ² alone.
    smallest = np.linalg.eigvalsh(published.covariances[[0, 2], 0, 3:, 3:])[:, 0]
    assert MEAN_ANGLE * np.sqrt(smallest) == pytest.approx([0.25, 0.125], rel=1e-4)
    aligned = dataclasses.replace(
        found.estimated,
        deviations=np.array([ALIGNED_ROTATION, np.nan, 0.125 / MEAN_ANGLE]),
        refined_by=("depth", "", "rendering"),
    )
    assert expected_errors(aligned) == pytest.approx([np.nan, np.nan, 0.125], nan_ok=True)
    assert np.isnan(expected_errors(shown().estimated)).all()


def test_refinement_is_on_where_the_bundle_can_and_can_be_switched_off() -> None:
    given = shown()
    assert run(given, refine=0)[0] is given
    assert run(given, with_refiner=False)[0] is given
    assert run(given, meshes=(None, None))[0] is given
    by_default, twice = (run(given, **steps)[0].estimated.rotations for steps in ({}, {"refine": DEFAULT_STEPS}))
    assert not np.array_equal(by_default, given.estimated.rotations) and np.array_equal(by_default, twice)


def test_a_bundle_without_refiner_that_is_to_refine_is_counted_with_the_remedy() -> None:
    given = shown()
    found, counters, reasons = run(given, with_refiner=False, refine=2)
    assert np.array_equal(found.estimated.rotations, given.estimated.rotations)
    assert counters == {"no_mesh": 1, "not_refined": 2}
    assert "no refiner" in reasons["not_refined"] and "refine to 0" in reasons["not_refined"]


def test_fewer_hypotheses_are_refined_and_the_others_lose_their_confidence() -> None:
    given = shown()
    found = run(given, refine_hypotheses=1)[0].estimated
    first = given.estimated.rotations[0]
    assert np.array_equal(found.rotations[0, 1], first[1]) and not np.array_equal(found.rotations[0, 0], first[0])
    assert found.confidences[0].tolist() == [1.0, 0.0]
