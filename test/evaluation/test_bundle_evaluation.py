"""From dataset to figures with a stand-in for the estimator whose error is known."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_scene import StandInEstimator, model, objects, turn, write_dataset

from shared_pose_ros.evaluation.bop import load_bop
from shared_pose_ros.evaluation.bundle_evaluation import add_meshes, evaluate_bundle, known_index
from shared_pose_ros.evaluation.depth_noise import DepthNoise
from shared_pose_ros.evaluation.instance_scoring import RandomRotationBaseline
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.evaluation.protocols import PROTOCOLS, DetectionNoise, get_protocol
from shared_pose_ros.evaluation.reliability import reliability
from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.pipeline.refinement import MEAN_ANGLE, Refinement

BASELINE = RandomRotationBaseline(draws=5, seed=1)


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.boxes is None])
def test_the_truth_scores_one_under_every_protocol(name, dataset, scorer):
    (result,) = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, get_protocol(name), baseline=BASELINE)
    assert len(result.instances) == 4 and result.protocol == name and result.corrected
    for instance in result.instances:
        assert instance.score == instance.oracle_score == 1.0
        assert instance.rotation_deg == pytest.approx(0.0, abs=0.01)
        assert max(instance.e_vsd) < 0.02 and instance.metrics["mssd"] < 1e-5 and instance.metrics["mspd"] < 0.01
        assert 0.0 <= instance.chance_score < 1.0 and instance.metrics["chance_rotation_deg"] > 20.0
    assert "two_boxes/test, 2 images" in result.protocol_line and f"protocol {name}" in result.protocol_line


def test_a_known_error_is_measured_and_the_oracle_finds_the_better_hypothesis(dataset, scorer):
    estimator = StandInEstimator(dataset, error=turn([1, 0, 0], 45))
    (result,) = evaluate_bundle(estimator, dataset, scorer, get_protocol("paper"), baseline=BASELINE)
    for instance in result.instances:
        assert instance.rotation_deg == pytest.approx(45.0, abs=0.01)
        assert instance.oracle_rotation_deg == pytest.approx(0.0, abs=0.01)
        assert instance.score < instance.oracle_score == 1.0
        assert instance.confidence == pytest.approx(0.9)


def test_the_expected_error_is_kept_beside_the_true_one(dataset, scorer, monkeypatch):
    def refined(stage, frame, parameters):
        count = len(frame.detections)
        changes = {"deviations": np.full(count, 0.1), "refined_by": ("rendering", *("depth",) * (count - 1))}
        return dataclasses.replace(frame, estimate=dataclasses.replace(frame.estimated, **changes))

    monkeypatch.setattr(Refinement, "__call__", refined)
    estimator = StandInEstimator(dataset, error=turn([1, 0, 0], 45))
    for result in evaluate_bundle(
        estimator, dataset, scorer, get_protocol("paper"), corrected=(True, False), baseline=BASELINE
    ):
        firsts = [instance.expected_deg for instance in result.instances if instance.expected_deg is not None]
        assert firsts == pytest.approx([np.degrees(MEAN_ANGLE * 0.1)] * 2)  # one in each of the two images
    found = reliability(result.instances)
    assert (found.instances, found.without) == (2, 2)


def test_an_equivalent_turn_scores_one_where_the_symmetry_lies_off_the_boxs_centre(tmp_path):
    # A three-sided prism turns about the middle of its triangle, which is not the middle of its bounding box.
    angle = 2 * np.pi * np.arange(3) / 3
    corners = [(0.03 * np.cos(a), 0.03 * np.sin(a), z) for z in (-0.01, 0.01) for a in angle]
    sides = [face for i, j in ((0, 1), (1, 2), (2, 0)) for face in ((i, j, j + 3), (i, j + 3, i + 3))]
    mesh = Mesh(np.array(corners, dtype=np.float32), np.array([(2, 1, 0), (3, 4, 5), *sides], dtype=np.int32))
    third = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": 3}])
    scorer = PoseScorer(ObjectSet((model("1", mesh, third), objects()[1])))
    write_dataset(tmp_path / "prism", scorer)
    dataset = load_bop(tmp_path / "prism")
    estimator = StandInEstimator(dataset, error=turn([0, 0, 1], 120))
    (result,) = evaluate_bundle(estimator, dataset, scorer, get_protocol("paper"), baseline=BASELINE)
    prisms = [instance for instance in result.instances if instance.class_id == "1"]
    assert prisms and all(instance.score == 1.0 for instance in prisms)


def test_a_detectors_boxes_are_given_and_its_misses_scored_zero(dataset, scorer):
    # The least noise that can be seen, and a seed that misses one of the four instances.
    noise = next(
        noise
        for noise in (DetectionNoise(0.001, 0.001, 0.3, seed) for seed in range(50))
        if sum(noise.detect(np.ones(4), 1, image, gt) is None for image in (0, 1) for gt in (0, 1)) == 1
    )
    protocol = get_protocol("detector").changed(boxes=noise)
    both = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, protocol, (True, False), BASELINE)
    exact = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, get_protocol("paper"), (True,), BASELINE)[0]
    for result in both:
        assert "30 % missed and scored 0" in result.protocol_line
        places = [(i.im_id, i.gt_id) for i in result.instances]
        assert places == [(i.im_id, i.gt_id) for i in exact.instances]
        (missed,) = [i for i in result.instances if not i.detected]
        assert (missed.score, missed.oracle_score, missed.chance_score, missed.box_iou) == (0, 0, 0, 0)
        assert missed.rotation_deg == 180 and set(missed.e_vsd) == {1.0} and missed.metrics["mssd"] > 0.05
        for found in (i for i in result.instances if i.detected):
            assert found.score == 1.0 and 0.98 < found.box_iou < 1.0 and found.image_seconds > 0


def test_every_instance_may_be_missed(dataset, scorer):
    protocol = get_protocol("detector").changed(boxes=DetectionNoise(miss=1 - 1e-9))
    (result,) = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, protocol, baseline=BASELINE)
    assert len(result.instances) == 4 and not any(i.detected or i.score for i in result.instances)


def test_correction_off_asks_the_estimator_without_camera_and_shares_the_baseline(dataset, scorer):
    estimator = StandInEstimator(dataset)
    on, off = evaluate_bundle(estimator, dataset, scorer, get_protocol("paper"), (True, False), BASELINE)
    assert estimator.calls.count(False) == 2  # once an image
    assert (on.corrected, off.corrected) == (True, False)
    assert "correction on" in on.protocol_line and "correction off" in off.protocol_line
    assert [i.chance_score for i in on.instances] == [i.chance_score for i in off.instances]


def test_without_sensor_depth_the_truth_is_rendered_and_the_line_says_so(tmp_path, scorer):
    write_dataset(tmp_path / "no_depth", scorer, with_depth=False)
    dataset = load_bop(tmp_path / "no_depth")
    (result,) = evaluate_bundle(StandInEstimator(dataset), dataset, scorer, get_protocol("paper"), baseline=BASELINE)
    assert "test depth rendered from the ground-truth poses (2 images)" in result.protocol_line
    assert all(instance.score == 1.0 for instance in result.instances)


def test_truth_and_baseline_are_kept_for_the_report(dataset, scorer):
    estimator = StandInEstimator(dataset, error=turn([1, 0, 0], 45))
    (result,) = evaluate_bundle(estimator, dataset, scorer, get_protocol("bop18"), baseline=BASELINE)
    for instance in result.instances:
        frame = next(frame for frame in dataset.frames if frame.image_id == instance.im_id)
        truth = frame.instances[instance.gt_id].rotation
        np.testing.assert_array_equal(np.array(instance.truth_rotation).reshape(3, 3), truth)
        assert len(instance.chance_e_vsd) == BASELINE.draws
        # One tolerance and one threshold: the baseline's score is the share of its draws below that.
        assert instance.chance_score == pytest.approx(np.mean(np.array(instance.chance_e_vsd) < 0.3))


def test_what_cannot_be_scored_is_counted(dataset, scorer):
    (result,) = evaluate_bundle(
        StandInEstimator(dataset, known=["1"]), dataset, scorer, get_protocol("paper"), baseline=BASELINE
    )
    assert {i.class_id for i in result.instances} == {"1"} and result.skipped["unknown_to_bundle"] == 2
    partly = PoseScorer(ObjectSet((objects()[0],)))
    (result,) = evaluate_bundle(StandInEstimator(dataset), dataset, partly, get_protocol("paper"), baseline=BASELINE)
    assert {i.class_id for i in result.instances} == {"1"} and result.skipped["without_cad"] == 2
    with pytest.raises(ValueError, match="nothing to evaluate.*unknown_to_bundle.: 4"):
        evaluate_bundle(StandInEstimator(dataset, known=[]), dataset, scorer, get_protocol("paper"))
    with pytest.raises(ValueError, match="corrected is empty"):
        evaluate_bundle(StandInEstimator(dataset), dataset, scorer, get_protocol("paper"), corrected=())


def test_an_object_is_found_in_the_bundle_by_its_name_before_its_number(dataset, scorer):
    named = PoseScorer(ObjectSet((model("bolt", objects()[0].mesh, aliases=("1", "M8")),)))
    assert known_index(StandInEstimator(dataset, known=["1", "bolt"]), named, "1") == 1
    assert known_index(StandInEstimator(dataset, known=["2", "M8"]), named, "1") == 1
    assert known_index(StandInEstimator(dataset, known=["2"]), named, "1") is None
    assert known_index(StandInEstimator(dataset, known=["2", "9"]), named, "9") == 1  # without CAD


def test_progress_is_reported(dataset, scorer):
    seen = []
    evaluate_bundle(
        StandInEstimator(dataset), dataset, scorer, get_protocol("paper"), (True,), BASELINE, lambda *p: seen.append(p)
    )
    assert seen == [(1, 2), (2, 2)]


def test_poses_are_aligned_to_the_images_depth(dataset, scorer):
    estimator = StandInEstimator(dataset, error=turn([1, 2, 0], 10), hypotheses=1)
    changed = {"symmetries": {}}
    facts = [SimpleNamespace(**{**vars(item), **changed, "centre": tuple(item.centre)}) for item in scorer.objects]
    estimator.metadata = SimpleNamespace(name="stand-in", objects=facts, metrics={})
    arguments = (estimator, dataset, scorer, get_protocol("paper"))
    (plain,) = evaluate_bundle(*arguments, baseline=BASELINE)
    (unknown,) = evaluate_bundle(*arguments, baseline=BASELINE, depth=DepthNoise())
    assert [item.rotation_deg for item in unknown.instances] == [item.rotation_deg for item in plain.instances]
    estimator.use_meshes = lambda meshes, fine: estimator.__dict__.update(meshes=meshes, fine_meshes=fine)
    add_meshes(estimator, scorer.objects)
    assert all(mesh is not None for mesh in estimator.meshes)
    (exact,) = evaluate_bundle(*arguments, baseline=BASELINE, depth=DepthNoise())
    assert max(item.rotation_deg for item in plain.instances) == pytest.approx(10.0, abs=0.1)
    # A box looks the same after half turns, so the surfaces are compared; one of the four shows a single face.
    surface = [sorted(max(item.e_vsd) for item in result.instances) for result in (plain, exact)]
    assert surface[0][0] > 0.2 and surface[1][2] < 0.05
    assert all(after.score > before.score for before, after in zip(plain.instances, exact.instances))
    assert "poses aligned to it, exact" in exact.protocol_line and "aligned" not in plain.protocol_line
    (noisy,) = evaluate_bundle(*arguments, baseline=BASELINE, depth=DepthNoise(0.002))
    assert [i.rotation_deg for i in noisy.instances] != [i.rotation_deg for i in exact.instances]
    assert "noise of σ 2 mm" in noisy.protocol_line
    with pytest.raises(ValueError, match=r"no uncorrected variant; give corrected \(True,\)"):
        evaluate_bundle(*arguments, corrected=(True, False), depth=DepthNoise())
