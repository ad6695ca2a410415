"""Estimates selected and as messages: hypotheses, positions, covariances; and read back."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Pose
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray

from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.orientation_covariance import MEDIAN_ANGLE, orientation_covariance
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.pipeline.frame import Detections, Frame, PublishedPoses
from shared_pose_ros.pipeline.parameters import PARAMETERS, NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import REFERENCES, UNMEASURED_ERROR, Selection, hypothesis_deviation
from shared_pose_ros.ros.messages.poses import PosesWriter, read_poses

FLIP = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 2, "offset": [0.01, 0, 0]}]).to_dict()
METADATA = SimpleNamespace(
    objects=(
        SimpleNamespace(extents=(0.01, 0.02, 0.04), centre=(0.0, 0.01, -0.02), symmetries={}),
        SimpleNamespace(extents=np.full(3, 0.05), centre=np.array([0.02, 0, 0]), symmetries=FLIP),
    ),
    metrics={"validation": {"oracle_median": 9.0}},
)
SELECTION = Selection(METADATA, SymmetryTable.from_dicts([item.symmetries for item in METADATA.objects]))
WRITER = PosesWriter()
COVARIANCES = np.float32([np.diag([1.0, 2.0, 3.0]), [[4.0, 0.5, 0.0], [0.5, 5.0, 0.0], [0.0, 0.0, 6.0]]])


def estimate(translations) -> SimpleNamespace:
    drawn = Rotation.random(6, random_state=np.random.default_rng(0))
    rotations = drawn.as_matrix().reshape(2, 3, 3, 3).astype(np.float32)
    confidences = np.float32([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    return SimpleNamespace(
        rotations=rotations, confidences=confidences, translations=translations, position_covariances=COVARIANCES,
        deviations=None,
    )  # fmt: skip


OBJECTS = Detections(np.float32([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 1]), ["b", "7"], ["x", "y"])
IMAGE = np.zeros((2, 2, 3), np.uint8)
HEADER = Header(frame_id="camera")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 345


def select(answer: SimpleNamespace, last=None, detections: Detections = OBJECTS, **values) -> PublishedPoses:
    """What is published of an estimate under the parameters of these values."""
    frame = Frame(12 * 10**9 + 345, "camera", IMAGE, detections, estimate=answer, last=last)
    return SELECTION(frame, NodeParameters(**{"symmetric_representative": "any", **values})).published


def write(answer: SimpleNamespace, last=None, **values) -> Detection3DArray:
    return WRITER.write(select(answer, last, **values))


def arrays(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    position, turn = pose.position, pose.orientation
    return np.array([position.x, position.y, position.z]), np.array([turn.x, turn.y, turn.z, turn.w])


def test_poses_echo_the_input_and_sort_hypotheses() -> None:
    answer = estimate(np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]]))
    message = write(answer)
    assert message.header == HEADER and [entry.header for entry in message.detections] == [HEADER, HEADER]
    assert [entry.id for entry in message.detections] == ["x", "y"]
    for number, entry in enumerate(message.detections):
        assert {result.hypothesis.class_id for result in entry.results} == {OBJECTS.class_ids[number]}
        scores = [result.hypothesis.score for result in entry.results]
        np.testing.assert_allclose(scores, answer.confidences[number])
        for hypothesis, result in enumerate(entry.results):
            _, quaternion = arrays(result.pose.pose)
            np.testing.assert_allclose(
                Rotation.from_quat(quaternion).as_matrix(), answer.rotations[number, hypothesis], atol=1e-6
            )
            assert quaternion[3] >= 0
    size = message.detections[0].bbox.size
    assert (size.x, size.y, size.z) == (0.01, 0.02, 0.04)


def test_every_hypothesis_keeps_the_bounding_box_centre() -> None:
    """X_cam of the CAD's box centre is the same under each hypothesis' pose, and bbox.center says it."""
    message = write(estimate(np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]])))
    for number, entry in enumerate(message.detections):
        expected, _ = arrays(entry.bbox.center)
        for result in entry.results:
            position, quaternion = arrays(result.pose.pose)
            centre = Rotation.from_quat(quaternion).apply(METADATA.objects[number].centre) + position
            np.testing.assert_allclose(centre, expected, atol=1e-6)
    np.testing.assert_allclose(arrays(message.detections[0].results[0].pose.pose)[0], [0.1, 0.2, 1.0], atol=1e-6)
    for entry, expected in zip(message.detections, COVARIANCES):
        for result in entry.results:
            covariance = result.pose.covariance.reshape(6, 6)
            np.testing.assert_array_equal(covariance[:3, :3], expected)
            assert not covariance[:3, 3:].any() and not covariance[3:, :3].any()


def test_without_a_camera_positions_are_marked_unknown() -> None:
    message = write(estimate(None), hypotheses=1)
    for entry in message.detections:
        [result] = entry.results
        np.testing.assert_array_equal(arrays(result.pose.pose)[0], 0)
        np.testing.assert_array_equal(np.diag(result.pose.covariance.reshape(6, 6))[:3], -1)
        np.testing.assert_array_equal(arrays(entry.bbox.center)[0], 0)


def test_no_objects_give_an_empty_array_with_the_header() -> None:
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [], [])
    nothing = estimate(None)
    nothing.rotations, nothing.confidences = nothing.rotations[:0], nothing.confidences[:0]
    message = write(nothing, detections=empty, symmetric_representative="reference")
    assert message.header == HEADER and message.detections == []


@pytest.mark.parametrize("translations", [None, np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]])], ids=["no K", "K"])
@pytest.mark.parametrize("hypotheses", [0, 2])
def test_orientations_have_the_covariance_of_all_hypotheses(translations, hypotheses: int) -> None:
    """Each object by its own symmetries; without a camera too; also of hypotheses that are not published."""
    answer = estimate(translations)
    message = write(answer, hypotheses=hypotheses)
    for number, entry in enumerate(message.detections):
        assert len(entry.results) == (hypotheses or 3)
        expected = orientation_covariance(
            torch.from_numpy(answer.rotations[number][None]),
            torch.from_numpy(answer.confidences[number][None]),
            torch.tensor([math.radians(9.0) / MEDIAN_ANGLE]),
            SymmetryTable.from_dicts([METADATA.objects[number].symmetries]),
        )[0]
        for result, matrix in zip(entry.results, expected):
            np.testing.assert_allclose(result.pose.covariance.reshape(6, 6)[3:, 3:], matrix, atol=1e-6)


def test_one_certain_hypothesis_has_the_error_of_the_validation() -> None:
    answer = estimate(None)
    answer.confidences[:] = [1.0, 0.0, 0.0]
    result = write(answer).detections[0].results[0]
    sigma = math.radians(9.0) / MEDIAN_ANGLE
    np.testing.assert_allclose(result.pose.covariance.reshape(6, 6)[3:, 3:], sigma**2 * np.eye(3), atol=1e-9)
    lengths = np.linalg.norm(np.random.default_rng(0).normal(scale=sigma, size=(100_000, 3)), axis=1)
    assert np.median(lengths) == pytest.approx(math.radians(9.0), rel=0.01)


@pytest.mark.parametrize("metrics", [{}, {"validation": {}}, {"validation": {"oracle_median": float("nan")}}])
def test_a_bundle_without_figures_gets_a_stated_error(metrics: dict) -> None:
    assert hypothesis_deviation(metrics) == pytest.approx(math.radians(UNMEASURED_ERROR) / MEDIAN_ANGLE)


def matrices(message) -> np.ndarray:
    """X_cam = M X_model of every hypothesis, (B, n, 4, 4)."""
    found = np.tile(np.eye(4), (len(message.detections), len(message.detections[0].results), 1, 1))
    for row, entry in zip(found, message.detections):
        for matrix, result in zip(row, entry.results):
            matrix[:3, 3], quaternion = arrays(result.pose.pose)
            matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    return found


@pytest.mark.parametrize("name", REFERENCES)
def test_the_representative_is_the_best_of_all_equivalent_poses(name: str) -> None:
    """Against a search, by rotation; the position follows, and so does the bounding box."""
    answer = estimate(np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]]))
    before = matrices(write(answer))
    message = write(answer, symmetric_representative="reference", reference_orientation=name)
    after = matrices(message)
    np.testing.assert_array_equal(after[0], before[0])
    moved = 0
    for old, new in zip(before[1], after[1]):
        members = Symmetries.from_dict(FLIP).transforms()
        nearness = [np.trace(REFERENCES[name].T @ (old @ member)[:3, :3]) for member in members]
        np.testing.assert_allclose(new, old @ members[np.argmax(nearness)], atol=1e-6)
        moved += int(np.argmax(nearness))
    assert 0 < moved < 3
    for entry, pose, facts in zip(message.detections, after[:, 0], METADATA.objects):
        centre, _ = arrays(entry.bbox.center)
        np.testing.assert_allclose(centre, (pose @ [*facts.centre, 1.0])[:3], atol=1e-6)


def test_the_representative_changes_neither_covariances_nor_unknown_positions() -> None:
    answer = estimate(None)
    before, after = write(answer), write(answer, symmetric_representative="reference")
    assert not np.array_equal(matrices(before)[1], matrices(after)[1])
    for old, new in zip(before.detections, after.detections):
        for one, other in zip(old.results, new.results):
            np.testing.assert_array_equal(one.pose.covariance, other.pose.covariance)
            np.testing.assert_array_equal(arrays(other.pose.pose)[0], 0)


@pytest.mark.parametrize("translations", [None, np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]])], ids=["no K", "K"])
def test_the_representative_nearest_to_the_last_pose(translations) -> None:
    """Of the two equivalent poses always the one that was published, position too; the reference where none was."""
    answer = estimate(translations)
    reference = write(answer, symmetric_representative="reference")
    nothing = np.full((2, 3, 3), np.nan)
    for last in (None, nothing):
        message = write(answer, last, symmetric_representative="last")
        np.testing.assert_array_equal(matrices(message), matrices(reference))
    half = np.diag([-1.0, -1.0, 1.0])
    for turned in (np.eye(3), half):
        shown = read_poses(reference).rotations[:, 0] @ turned
        found = matrices(write(answer, shown, symmetric_representative="last"))
        np.testing.assert_allclose(found[1, 0, :3, :3], shown[1], atol=1e-9)
        np.testing.assert_array_equal(found[0], matrices(reference)[0])
        member = np.eye(4)
        member[:3, :3] = turned
        member[0, 3] = 0.0 if turned[0, 0] > 0 else 0.02
        expected = matrices(reference)[1, 0] @ member
        if translations is not None:
            np.testing.assert_allclose(found[1, 0], expected, atol=1e-9)


def test_every_choice_of_reference_is_known() -> None:
    assert set(PARAMETERS["reference_orientation"].choices) == set(REFERENCES)


def test_drawings_show_the_published_orientation() -> None:
    poses = select(estimate(None), symmetric_representative="reference")
    shown = poses.first()
    assert np.isnan(shown.translations).all() and not poses.located.any()
    np.testing.assert_allclose(shown.rotations[:, 0], matrices(WRITER.write(poses))[:, 0, :3, :3], atol=1e-6)
    np.testing.assert_allclose(shown.confidences, [[0.7], [0.5]])


@pytest.mark.parametrize("translations", [None, np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]])], ids=["no K", "K"])
def test_what_was_written_is_read(translations) -> None:
    poses = select(estimate(translations), symmetric_representative="reference")
    found = read_poses(WRITER.write(poses))
    assert (found.key, found.ids, found.class_ids) == (poses.key, poses.ids, poses.class_ids)
    for name in ("rotations", "quaternions", "positions", "confidences", "covariances", "centres", "extents"):
        np.testing.assert_array_equal(getattr(found, name), getattr(poses, name), err_msg=name)
    assert found.located.tolist() == [translations is not None] * 2
    np.testing.assert_array_equal(read_poses(WRITER.write(poses), most=1).rotations, found.rotations[:, :1])


def test_reading_an_empty_array_or_ragged_results() -> None:
    message = write(estimate(None))
    message.detections[0].results.pop()
    with pytest.raises(ValueError, match=r"\[2, 3\] results; all must have the same number"):
        read_poses(message)
    message.detections = []
    assert read_poses(message).rotations.shape == (0, 0, 3, 3) and len(read_poses(message)) == 0
    message.detections = [Detection3D()]
    with pytest.raises(ValueError, match="at least 1"):
        read_poses(message)


def test_an_object_with_an_unknown_position_is_read_as_such() -> None:
    message = write(estimate(np.float32([[0.1, 0.2, 1.0], [0, 0, 2.0]])), symmetric_representative="reference")
    for result in message.detections[1].results:
        result.pose.covariance[0] = -1.0
    shown = read_poses(message).first()
    np.testing.assert_allclose(shown.translations[0], matrices(message)[0, 0, :3, 3], atol=1e-6)
    assert np.isnan(shown.translations[1]).all()
