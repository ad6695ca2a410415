"""The pose published last as one more hypothesis to refine: when it is drawn, when it wins, when it is forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.pipeline import refinement as module
from shared_pose_ros.pipeline.frame import Detections, Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.pose_pipeline import PosePipeline
from shared_pose_ros.refinement.rendered import Refined

CAMERA = np.array([[400.0, 0.0, 160.0], [0.0, 400.0, 120.0], [0.0, 0.0, 1.0]])
IMAGE = np.zeros((240, 320, 3), np.uint8)
OBJECT = SimpleNamespace(extents=(0.1,) * 3, centre=(0.01, 0.0, 0.02), diameter=0.17, symmetries={})
MESH = DisplayMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.uint16))
ON = {"refine": 1, "refine_memory": True, "refine_hypotheses": 0, "symmetric_representative": "any"}
RIGHT, WRONG, WORSE = 0.0, 90.0, 170.0
"""Degrees about x: the truth, and what the network takes it for."""


class Network:
    """Answers with rotations about x in the camera's axes, as told for each frame."""

    metadata = SimpleNamespace(objects=[OBJECT, OBJECT], metrics={})
    meshes = fine_meshes = (MESH, MESH)
    refiner, device = object(), torch.device("cpu")
    answers: list[list[float]]

    def estimate(self, image, boxes, object_index, camera_matrix=None, depth=None) -> PoseEstimate:
        rotations = Rotation.from_euler("x", np.reshape(self.answers, (-1, 1)), degrees=True).as_matrix()
        rotations = rotations.reshape(len(self.answers), -1, 3, 3)
        count, places = rotations.shape[:2]
        confidences = np.tile(np.linspace(2.0, 1.0, places, dtype=np.float32), (count, 1))
        where = np.tile(np.float32([0.1, 0.0, 0.9]), (count, 1))
        covariances = np.tile(0.01 * np.eye(3, dtype=np.float32), (count, 1, 1))
        shares = confidences / confidences.sum(axis=1, keepdims=True)
        return PoseEstimate(rotations.astype(np.float32), shares, where, True, covariances, ("",) * count)


class Judge:
    """In place of the refiner: expects the true error (and some), and turns nothing."""

    drawn: list[tuple[int, ...]] = []
    truth = RIGHT

    def __init__(self, *_: Any) -> None:
        Judge.drawn, Judge.truth = [], RIGHT

    def warm_up(self) -> None:
        """Nothing to compile."""

    def refine(
        self, image: Tensor, boxes: Tensor, index: Tensor, rotations: Tensor, distances: Tensor, steps: int
    ) -> Refined:
        """Of rotations in the crops' axes."""
        Judge.drawn.append(tuple(rotations.shape[:2]))
        correction = ray_rotation(viewing_ray(torch.from_numpy(CAMERA).float(), boxes[:, :2]))[:, None]
        truth = torch.from_numpy(Rotation.from_euler("x", Judge.truth, degrees=True).as_matrix()).float()
        expected, order = (rotation_angle(correction @ rotations, truth) + 0.01).sort(dim=1)
        weights = expected**-2
        places = order[..., None, None].expand_as(rotations)
        return Refined(rotations.gather(1, places), expected, weights / weights.sum(dim=1, keepdim=True))


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> PosePipeline:
    monkeypatch.setattr(module, "RenderRefiner", Judge)
    made = PosePipeline(Network(), 8)
    made.refinement.prepare(NodeParameters.of(ON))
    return made


def seen(
    pipeline: PosePipeline,
    seconds: float,
    *answers: list[float],
    names: tuple[tuple[str, str], ...] = (("7", "a"),),
    frame_id: str = "camera",
    column: float = 160.0,
    **changes: Any,
) -> Frame:
    """A frame on which the network gives these hypotheses of each object (id, class)."""
    pipeline.estimator.answers = list(answers)
    boxes = np.tile(np.float32([column, 120, 40, 30]), (len(names), 1))
    index = np.array(["ab".index(name) for _, name in names])
    detections = Detections(boxes, index, [name for _, name in names], [one for one, _ in names])
    frame = Frame(round((100 + seconds) * 1e9), frame_id, IMAGE, detections, CAMERA)
    return pipeline.run(frame, NodeParameters.of({**ON, **changes}))


def angles(frame: Frame) -> list[float]:
    """Degrees of each object's best hypothesis as published."""
    return np.degrees(Rotation.from_matrix(frame.poses.rotations[:, 0]).magnitude()).round(2).tolist()


@pytest.mark.parametrize("memory", [False, True])
def test_a_network_that_flips_each_second_frame_is_steady_with_memory(pipeline: PosePipeline, memory: bool) -> None:
    """The part shifts through the image: in the camera's axes its pose stays, in the crop's it does not."""
    answers = [[RIGHT, WRONG], [WRONG, WORSE]] * 3
    found = [
        angles(seen(pipeline, 0.1 * i, row, column=60.0 + 40.0 * i, refine_memory=memory))[0]
        for i, row in enumerate(answers)
    ]
    assert found == pytest.approx([RIGHT] * 6 if memory else [RIGHT, WRONG] * 3, abs=0.1)
    assert Judge.drawn == [(1, 2)] + [(1, 3 if memory else 2)] * 5


def test_after_a_jump_the_remembered_pose_loses_at_once(pipeline: PosePipeline) -> None:
    seen(pipeline, 0.0, [RIGHT, WORSE])
    Judge.truth = WRONG
    after = seen(pipeline, 0.1, [WORSE, WRONG])
    assert angles(after) == [WRONG] and Judge.drawn[-1] == (1, 3)
    assert after.poses.confidences[0, 0] > 0.9


@pytest.mark.parametrize(
    ("seconds", "changes"),
    [
        (2.1, {}),
        (-0.6, {}),
        (0.0, {}),
        (-0.3, {}),
        (0.1, {"names": (("8", "a"),)}),
        (0.1, {"names": (("7", "b"),)}),
        (0.1, {"names": (("", "a"),)}),
        (0.1, {"names": (("7", "a"), ("7", "a"))}),
        (0.1, {"frame_id": "other"}),
        (0.1, {"refine_memory": False}),
        (0.6, {"track_timeout_seconds": 0.5}),
    ],
    ids=["timeout", "jump", "same stamp", "late", "id", "class", "no id", "shared id", "frame", "off", "shorter"],
)
def test_when_nothing_is_remembered(pipeline: PosePipeline, seconds: float, changes: dict[str, Any]) -> None:
    seen(pipeline, 0.0, [RIGHT, WRONG])
    rows = [[WRONG, WORSE]] * len(changes.get("names", [0]))
    assert angles(seen(pipeline, seconds, *rows, **changes)) == [WRONG] * len(rows)
    assert Judge.drawn[-1] == (len(rows), 2)


def test_a_reset_forgets_and_so_does_a_frame_without_the_parameter(pipeline: PosePipeline) -> None:
    for forget in (pipeline.temporal_filter.clear, lambda: seen(pipeline, 0.1, [RIGHT, WRONG], refine_memory=False)):
        pipeline.temporal_filter.clear()
        seen(pipeline, 0.0, [RIGHT, WRONG])
        forget()
        assert len(pipeline.temporal_filter) == 0
        assert angles(seen(pipeline, 0.2, [WRONG, WORSE])) == [WRONG]
        # What came after is remembered.
        assert angles(seen(pipeline, 0.3, [WORSE, WORSE])) == [WRONG]


def test_without_an_id_nothing_is_kept(pipeline: PosePipeline) -> None:
    for number in range(3):
        seen(pipeline, 0.1 * number, [RIGHT, WRONG], names=(("", "a"),))
    assert len(pipeline.temporal_filter) == 0 and Judge.drawn == [(1, 2)] * 3


@pytest.mark.parametrize(("refined", "drawn"), [(0, 4), (1, 2), (2, 3), (3, 4)])
def test_as_many_hypotheses_are_published_as_ever(pipeline: PosePipeline, refined: int, drawn: int) -> None:
    """The refined ones come first, then those of the network; where there are too many the last one is left out."""
    seen(pipeline, 0.0, [RIGHT, WRONG, WORSE])
    found = seen(pipeline, 0.1, [WRONG, WORSE, 130.0], refine_hypotheses=refined).poses
    assert Judge.drawn[-1] == (1, drawn) and found.rotations.shape == (1, 3, 3, 3)
    shown = np.degrees(Rotation.from_matrix(found.rotations[0]).magnitude())
    assert shown == pytest.approx([RIGHT, WRONG, WORSE if refined in (1, 2) else 130.0])
    assert found.confidences[0].sum() == pytest.approx(1.0) and (np.diff(found.confidences[0]) <= 0).all()
    assert (found.confidences[0] > 0).sum() == min(drawn, 3)
    assert found.expected_errors == pytest.approx([0.01], abs=2e-3)


def test_who_comes_anew_beside_a_followed_part_is_answered_as_without_memory(pipeline: PosePipeline) -> None:
    seen(pipeline, 0.0, [RIGHT, WRONG])
    names, answers = (("8", "a"), ("7", "a"), ("9", "b")), [[WRONG, 40.0], [WRONG, WORSE], [WORSE, 60.0]]
    mixed = seen(pipeline, 0.1, *answers, names=names)
    assert Judge.drawn[1:] == [(2, 2), (1, 3)] and angles(mixed) == [40.0, RIGHT, 60.0]
    assert mixed.estimated.refined_by == ("rendering",) * 3 and np.isfinite(mixed.poses.expected_errors).all()
    plain = seen(pipeline, 0.2, *answers, names=names, refine_memory=False)
    for row in (0, 2):
        np.testing.assert_array_equal(mixed.poses.quaternions[row], plain.poses.quaternions[row])
        np.testing.assert_array_equal(mixed.poses.confidences[row], plain.poses.confidences[row])
        np.testing.assert_allclose(mixed.poses.positions[row], plain.poses.positions[row], atol=1e-6)
    # The centre of the CAD's box stays where it was, whichever hypothesis wins.
    np.testing.assert_allclose(mixed.poses.centres[1], plain.poses.centres[1], atol=1e-6)


def test_fused_hypotheses_are_remembered_too(pipeline: PosePipeline) -> None:
    found = [
        angles(seen(pipeline, 0.1 * i, row, smoothing=0.6))[0]
        for i, row in enumerate([[RIGHT, WRONG], [WRONG, WORSE]] * 2)
    ]
    assert found == pytest.approx([RIGHT] * 4, abs=1.0) and Judge.drawn == [(1, 2)] + [(1, 3)] * 3
