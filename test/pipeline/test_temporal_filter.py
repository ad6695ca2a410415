"""What is remembered of each object between frames, and when it is forgotten."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.geometry.equivalent_poses import SymmetryTable
from shared_pose_ros.geometry.fusion import fuse
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.pipeline import temporal_filter as module
from shared_pose_ros.pipeline.frame import Detections, Frame, PublishedPoses
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.pipeline.temporal_filter import TemporalFilter

IMAGE = np.zeros((2, 2, 3), np.uint8)
FLIP = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 2}]).to_dict()
METADATA = SimpleNamespace(
    objects=(
        SimpleNamespace(centre=(0.0, 0.01, -0.02), symmetries={}),
        SimpleNamespace(centre=(0.02, 0.0, 0.0), symmetries=FLIP),
    )
)
TABLE = SymmetryTable.from_dicts([item.symmetries for item in METADATA.objects])
SMOOTH = NodeParameters(smoothing=0.6)
OFF = NodeParameters()
LAST = NodeParameters(symmetric_representative="last")


def update(
    tracks: TemporalFilter,
    seconds: float,
    names: Detections,
    estimate: PoseEstimate,
    parameters: NodeParameters,
    frame_id: str = "camera",
) -> tuple[PoseEstimate, Frame]:
    """The frame after the filter, and its estimate."""
    frame = Frame(round(seconds * 1e9), frame_id, IMAGE, names, estimate=estimate)
    after = tracks(tracks.follow(frame, parameters), parameters)
    return after.estimate, after


def remember(tracks: TemporalFilter, frame: Frame, rotations: np.ndarray) -> None:
    """Have rotations (B, 3, 3) published for a frame."""
    count, empty = len(rotations), np.zeros((len(rotations), 0))
    names = frame.detections
    published = PublishedPoses(
        frame.stamp, frame.frame_id, names.ids, names.class_ids,
        Rotation.from_matrix(rotations).as_quat()[:, None], empty, empty, empty, empty, empty,
    )  # fmt: skip
    assert tracks.remember(dataclasses.replace(frame, published=published), LAST).published is published and count


def counted(tracks: TemporalFilter) -> dict[str, int]:
    """What the filter has counted."""
    return tracks._statistics.snapshot()[0]


def objects(*names: tuple[str, str]) -> Detections:
    """(id, class) of each; classes "a" and "b"."""
    index = np.array(["ab".index(class_id) for _, class_id in names], dtype=np.int64)
    return Detections(np.ones((len(names), 4)), index, [name[1] for name in names], [name[0] for name in names], [])


def estimate(*angles: float, positions: bool = False) -> PoseEstimate:
    """A part at each angle (degrees about x) with confidence 0.6, or turned by 120° more about y with 0.4."""
    first = Rotation.from_euler("x", np.array(angles)[:, None], degrees=True)
    both = [first.as_matrix(), (first * Rotation.from_euler("y", 120, degrees=True)).as_matrix()]
    translations = np.tile(np.float32([0.1, 0.2, 0.9]), (len(angles), 1)) if positions else None
    confidences = np.tile(np.float32([0.6, 0.4]), (len(angles), 1))
    return PoseEstimate(np.stack(both, axis=1).astype(np.float32), confidences, translations, positions)


def angle(found: PoseEstimate, number: int = 0) -> float:
    """Degrees about x of an object's best hypothesis."""
    return float(np.degrees(Rotation.from_matrix(found.rotations[number, 0]).as_rotvec()[0]))


PART = objects(("7", "a"))


@pytest.fixture
def tracks() -> TemporalFilter:
    return TemporalFilter(METADATA, TABLE, Statistics())


def test_off_by_default_and_then_nothing_is_touched_or_kept(tracks: TemporalFilter) -> None:
    for second in range(3):
        answer = estimate(10.0 * second)
        found, tracked = update(tracks, second, PART, answer, OFF)
        assert found is answer and tracked.tracks == () and counted(tracks) == {} and len(tracks) == 0


def test_the_second_frame_is_fused_with_the_first_and_the_third_with_both(tracks: TemporalFilter) -> None:
    """As by `fuse`, recursively; each object with its own track, in whatever order it comes."""
    names = objects(("7", "a"), ("8", "b"), ("", "a"))
    state = None
    for second, angles in enumerate([(0.0, 50.0, 20.0), (12.0, 60.0, 30.0), (4.0, 40.0, 40.0)]):
        answer = estimate(*angles)
        if second == 2:
            names = objects(("8", "b"), ("7", "a"), ("", "a"))
            answer = estimate(angles[1], angles[0], angles[2])
        found, tracked = update(tracks, second, names, answer, SMOOTH)
        order = [1, 0] if second == 2 else [0, 1]
        new = torch.from_numpy(answer.rotations[order]), torch.from_numpy(answer.confidences[order])
        state = new if state is None else fuse(state[0].double(), state[1].double(), *new, 0.6, TABLE)[:2]
        np.testing.assert_allclose(found.rotations[order], state[0], atol=2e-6)
        np.testing.assert_allclose(found.confidences[order], state[1], atol=2e-6)
        np.testing.assert_array_equal(found.rotations[2], answer.rotations[2])
        assert found.rotations.dtype == found.confidences.dtype == np.float32
        assert tracked.tracks[2] is None and None not in tracked.tracks[:2] and len(tracks) == 2
    assert 4.0 < angle(found, 1) < 12.0


def test_the_box_centre_stays_where_it_was(tracks: TemporalFilter) -> None:
    update(tracks, 0, PART, estimate(0.0, positions=True), SMOOTH)
    answer = estimate(20.0, positions=True)
    found, _ = update(tracks, 0.1, PART, answer, SMOOTH)
    centre = METADATA.objects[0].centre
    expected = answer.rotations[0, 0] @ centre + answer.translations[0]
    np.testing.assert_allclose(found.rotations[0, 0] @ centre + found.translations[0], expected, atol=1e-6)
    assert not np.allclose(found.translations, answer.translations, atol=1e-4)
    assert answer.translations.tolist() == np.float32([[0.1, 0.2, 0.9]]).tolist()


@pytest.mark.parametrize(
    ("second", "frame_id", "names", "positions"),
    [
        (0.1, "camera", objects(("8", "a")), False),
        (0.1, "camera", objects(("7", "b")), False),
        (0.1, "other", PART, False),
        (0.1, "camera", PART, True),
        (2.1, "camera", PART, False),
        (-0.6, "camera", PART, False),
    ],
    ids=["id", "class", "frame", "camera_info", "timeout", "time jump"],
)
def test_what_ends_a_track(
    tracks: TemporalFilter, second: float, frame_id: str, names: Detections, positions: bool
) -> None:
    update(tracks, 100, PART, estimate(0.0), SMOOTH)
    assert angle(update(tracks, 100, objects(("9", "a")), estimate(20.0), SMOOTH)[0]) == pytest.approx(20.0)
    answer = estimate(20.0, positions=positions)
    found, tracked = update(tracks, 100 + second, names, answer, SMOOTH, frame_id)
    np.testing.assert_array_equal(found.rotations, answer.rotations)
    assert tracked.tracks != (None,) and counted(tracks) == {}
    # What began there goes on.
    after = update(tracks, 100.05 + second, names, answer, SMOOTH, frame_id)[0]
    assert not np.array_equal(after.confidences, answer.confidences)


def test_a_bag_that_begins_anew_ends_all_tracks_at_once(tracks: TemporalFilter) -> None:
    update(tracks, 100, objects(("7", "a"), ("8", "a")), estimate(0.0, 0.0), SMOOTH)
    update(tracks, 50, objects(("9", "a")), estimate(0.0), SMOOTH)
    assert len(tracks) == 1


def test_clear_says_how_many_tracks_there_were_and_starts_anew(tracks: TemporalFilter) -> None:
    update(tracks, 0, objects(("7", "a"), ("8", "a")), estimate(0.0, 0.0), SMOOTH)
    assert tracks.clear() == 2 and tracks.clear() == 0
    assert angle(update(tracks, 0.1, PART, estimate(20.0), SMOOTH)[0]) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("back", [0.0, 0.2], ids=["same stamp", "older"])
def test_a_frame_that_is_not_newer_stays_as_it_is_and_changes_nothing(tracks: TemporalFilter, back: float) -> None:
    other = TemporalFilter(METADATA, TABLE, Statistics())
    for memory in (tracks, other):
        update(memory, 1.0, PART, estimate(0.0), SMOOTH)
        update(memory, 1.3, PART, estimate(6.0), SMOOTH)
    found, tracked = update(tracks, 1.3 - back, PART, estimate(20.0), SMOOTH)
    np.testing.assert_array_equal(found.rotations, estimate(20.0).rotations)
    assert counted(tracks) == {"not_newer": 1} and tracked.tracks == (None,)
    after = [update(memory, 1.4, PART, estimate(9.0), SMOOTH)[0] for memory in (tracks, other)]
    np.testing.assert_array_equal(after[0].rotations, after[1].rotations)


def test_an_id_given_twice_names_nobody(tracks: TemporalFilter) -> None:
    names, answer = objects(("7", "a"), ("7", "a"), ("7", "b")), estimate(0.0, 90.0, 0.0)
    for second in range(2):
        found, _ = update(tracks, second, names, answer, SMOOTH)
        assert counted(tracks) == {"shared_id": 2 * (second + 1)}
        np.testing.assert_array_equal(found.rotations[:2], answer.rotations[:2])
    assert len(tracks) == 1


def test_a_contradiction_is_noted_and_the_track_begins_anew(tracks: TemporalFilter) -> None:
    update(tracks, 0, PART, estimate(0.0), SMOOTH)
    turned = estimate(0.0)
    turned.rotations[:] = Rotation.from_euler("z", 90, degrees=True).as_matrix() @ turned.rotations
    turned.confidences[:] = [1.0, 0.0]
    found, _ = update(tracks, 0.1, PART, turned, SMOOTH)
    counters, reasons = tracks._statistics.snapshot()
    assert counters == {"track_contradicted": 1} and "'7'" in reasons["track_contradicted"]
    np.testing.assert_allclose(found.rotations, turned.rotations, atol=1e-6)
    again, _ = update(tracks, 0.2, PART, turned, SMOOTH)
    np.testing.assert_allclose(again.rotations[0, 0], turned.rotations[0, 0], atol=1e-6)
    assert counted(tracks) == {"track_contradicted": 1}


def test_the_number_of_tracks_is_bounded(tracks: TemporalFilter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRACKS", 3)
    for number in range(5):
        update(tracks, 0.1 * number, objects((str(number), "a"), ("0", "b")), estimate(0.0, 0.0), SMOOTH)
    assert len(tracks) == 3
    # The one that is seen in every frame is not the one to go.
    assert update(tracks, 0.6, objects(("0", "b")), estimate(9.0), SMOOTH)[1].tracks[0] in tracks._tracks
    assert angle(update(tracks, 0.7, objects(("1", "a")), estimate(20.0), SMOOTH)[0]) == pytest.approx(20, abs=1e-4)


def test_the_last_published_rotation_is_remembered_without_smoothing(tracks: TemporalFilter) -> None:
    names = objects(("7", "b"), ("", "b"))
    _, tracked = update(tracks, 0, names, estimate(0.0, 0.0), LAST)
    assert np.isnan(tracked.last).all()
    shown = np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0])])
    remember(tracks, tracked, shown)
    answer = estimate(30.0, 30.0)
    found, tracked = update(tracks, 0.1, names, answer, LAST)
    assert found is answer
    np.testing.assert_array_equal(tracked.last[0], np.eye(3))
    assert np.isnan(tracked.last[1]).all()
    # A frame that is late is turned to the same pose, and does not change it.
    _, late = update(tracks, 0.05, names, answer, LAST)
    np.testing.assert_array_equal(late.last[0], np.eye(3))
    remember(tracks, late, shown[::-1])
    np.testing.assert_array_equal(update(tracks, 0.2, names, answer, LAST)[1].last[0], np.eye(3))
    # Published while ~/reset was called: forgotten.
    tracks.clear()
    remember(tracks, tracked, shown)
    assert len(tracks) == 0
