"""Scoring poses: cropping changes nothing, closed-form scores, rendered test depth."""

import numpy as np
import pytest
import torch
from evaluation_scene import CAMERA, SIZE, box_mesh, depth_of, model, objects, turn

from shared_pose_ros.evaluation.bop import Instance
from shared_pose_ros.evaluation.metrics import vsd
from shared_pose_ros.evaluation.pose_scorer import PoseScorer, View
from shared_pose_ros.evaluation.protocols import get_protocol
from shared_pose_ros.meshes.object_set import ObjectSet

PAPER = get_protocol("paper")


def truth(class_id="1", rotation=None, translation=(0.0, 0.0, 0.3)):
    rotation = turn([1, 2, 3], 40) if rotation is None else rotation
    return Instance(class_id, 0, rotation, np.array(translation), 1.0, None)


def view_of(scorer, *instances):
    return View(CAMERA, SIZE, scorer.depth(instances, CAMERA, SIZE))


def test_cropping_to_the_region_changes_no_vsd(scorer):
    target = truth(translation=(0.03, 0.02, 0.3))
    view = view_of(scorer, target, truth("2", translation=(0.05, 0.02, 0.26)))
    rng = np.random.default_rng(0)
    rotations = np.stack([target.rotation @ turn(rng.normal(size=3), angle) for angle in (4, 20, 90, 170)])
    translations = target.translation + rng.normal(size=(4, 3)) * 0.01
    full = torch.from_numpy(np.stack([depth_of(scorer, 0, r, t) for r, t in zip(rotations, translations)]))
    reference = torch.from_numpy(depth_of(scorer, 0, target.rotation, target.translation))
    taus = PAPER.tolerances(scorer.objects[0].diameter)
    whole = vsd(full, reference, torch.from_numpy(view.depth), torch.from_numpy(CAMERA), taus)
    found = scorer.errors(target, view, rotations, translations, PAPER).vsd
    assert 0.05 < whole.mean() < 0.95
    np.testing.assert_allclose(found, whole.numpy(), atol=1e-12)


def test_the_regions_render_is_the_images_bit_for_bit(scorer):
    # A camera whose numbers float32 does not hold exactly, as measured ones.
    camera = CAMERA + [[0.1234567, 0, 0.7654321], [0, 0.3456789, 0.0123456], [0, 0, 0]]
    rng = np.random.default_rng(1)
    for _ in range(20):
        r, t = scorer._tensor(turn(rng.normal(size=3), 80)[None]), scorer._tensor(rng.normal(size=(1, 3)) * 0.02)
        t = t + torch.tensor([0.0, 0.0, 0.3])
        x0, y0, x1, y1 = region = scorer._region(1, r, t, camera, SIZE)
        whole = scorer._render(1, r, t, camera, (0, 0, SIZE[1], SIZE[0]))[0]
        assert x0 > 0 and whole[y0:y1, x0:x1].count_nonzero() == whole.count_nonzero() > 100
        assert torch.equal(scorer._render(1, r, t, camera, region)[0], whole[y0:y1, x0:x1])


def test_an_offset_of_half_a_pixel_is_a_shift_of_the_principal_point(scorer):
    shifted = CAMERA - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    target = truth(translation=(0.06, 0.02, 0.3))  # cut by the image's edge
    within = PoseScorer(objects(), pixel_offset=0.5)
    found = within.depth([target], CAMERA, SIZE)
    np.testing.assert_array_equal(found, scorer.depth([target], shifted, SIZE))
    assert (found != scorer.depth([target], CAMERA, SIZE)).any()


def test_other_points_change_the_point_metrics_alone(scorer):
    far = [np.array([[0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])] * 2
    target = truth()
    pose = (target.rotation @ turn([0, 0, 1], 90))[None], target.translation[None]
    view = view_of(scorer, target)
    own, given = (
        scorer.errors(target, view, *pose, PAPER),
        PoseScorer(objects(), points=far).errors(target, view, *pose, PAPER),
    )
    assert given.metrics["mssd"][0] == pytest.approx(0.1 * 2**0.5) and own.metrics["mssd"][0] < 0.1
    np.testing.assert_array_equal(given.vsd, own.vsd)
    asked = PoseScorer(objects(), points=far).errors(target, view, *pose, PAPER, asked=("add", "adi")).metrics
    assert asked["add"][0] == pytest.approx(0.05 * 2**0.5) and asked["adi"][0] == pytest.approx(0.05)
    assert set(asked) - set(given.metrics) == {"add", "adi"}


def test_the_truth_and_its_symmetric_pose_have_no_error(scorer):
    target = truth()
    rotations = np.stack([target.rotation, target.rotation @ turn([0, 0, 1], 180)])
    errors = scorer.errors(target, view_of(scorer, target), rotations, np.tile(target.translation, (2, 1)), PAPER)
    assert errors.score.tolist() == [1.0, 1.0]
    np.testing.assert_allclose(errors.metrics["rotation_deg"], 0.0, atol=1e-5)
    np.testing.assert_allclose(errors.metrics["mssd"], 0.0, atol=1e-9)
    np.testing.assert_allclose(errors.metrics["mspd"], 0.0, atol=1e-6)


def test_a_shift_along_the_axis_counts_by_tau(scorer):
    # The box's flat side faces the camera: the gap is the shift times at most 1 / cos of the ray, here below 1.03.
    target = truth(rotation=np.eye(3))
    diameter = scorer.objects[0].diameter
    shift = 0.2 * diameter
    errors = scorer.errors(
        target, view_of(scorer, target), np.eye(3)[None], target.translation[None] + [[0, 0, shift]], PAPER
    )
    # τ = 5, 10, 15 % see every common pixel as wrong, 25 % and more none; what is left is the silhouettes' difference.
    np.testing.assert_allclose(errors.vsd[0, :3], 1.0)
    assert np.ptp(errors.vsd[0, 4:]) == 0.0 and 0.0 < errors.vsd[0, 4] < 0.2
    assert errors.metrics["mssd"][0] == pytest.approx(shift)
    assert errors.metrics["rotation_deg"][0] == pytest.approx(0.0, abs=1e-6)


def test_bop19_averages_the_three_recalls(scorer):
    target = truth(rotation=np.eye(3))
    diameter = scorer.objects[0].diameter
    away = target.translation[None] + [[0.12 * diameter, 0, 0]]
    view = view_of(scorer, target)
    paper = scorer.errors(target, view, np.eye(3)[None], away, PAPER)
    bop19 = scorer.errors(target, view, np.eye(3)[None], away, get_protocol("bop19"))
    on_surface = 0.8  # 0.12 of the diameter is below eight of ten thresholds
    limits = 5.0 * np.arange(1, 11)
    on_image = float((bop19.metrics["mspd"][0] * 640 / SIZE[1] < limits).mean())
    assert 0.0 < on_image < 1.0
    assert bop19.score[0] == pytest.approx((paper.score[0] + on_surface + on_image) / 3)


def test_nothing_in_the_image_is_an_error_of_one(scorer):
    target = truth(translation=(2.0, 0.0, 0.3))
    view = View(CAMERA, SIZE, np.zeros(SIZE, dtype=np.float32))
    errors = scorer.errors(target, view, target.rotation[None], target.translation[None], PAPER)
    assert (errors.vsd == 1.0).all() and errors.score[0] == 0.0


def test_a_pose_that_reaches_the_camera_is_still_scored(scorer):
    target = truth()
    errors = scorer.errors(target, view_of(scorer, target), np.eye(3)[None], np.array([[0.0, 0.0, 0.005]]), PAPER)
    assert errors.vsd.shape == (1, 10) and (errors.vsd > 0.5).all()


def test_scene_depth_is_the_nearest_surface_and_leaves_out_unknown_objects(scorer):
    near, far = truth(rotation=np.eye(3)), truth("two", rotation=np.eye(3), translation=(0.0, 0.0, 0.5))
    both = scorer.depth([far, near, truth("unknown")], CAMERA, SIZE)
    single = [depth_of(scorer, i, t.rotation, t.translation) for i, t in enumerate((near, far))]
    nearest = np.minimum(*(np.where(d > 0, d, np.inf) for d in single))
    np.testing.assert_allclose(both, np.where(np.isinf(nearest), 0, nearest))
    assert both[61, 80] == pytest.approx(0.29, abs=1e-6)


def test_metrics_may_be_limited_to_some_poses(scorer):
    target = truth()
    poses = np.tile(target.rotation, (3, 1, 1)), np.tile(target.translation, (3, 1))
    errors = scorer.errors(target, view_of(scorer, target), *poses, PAPER, estimates=[1])
    assert np.isnan(errors.metrics["mssd"]).tolist() == [True, False, True] == np.isnan(errors.metrics["mspd"]).tolist()


def test_a_class_without_cad_is_named(scorer):
    with pytest.raises(ValueError, match="no CAD of class '9' among 1, 2"):
        scorer.errors(truth("9"), view_of(scorer), np.eye(3)[None], np.zeros((1, 3)), PAPER)


def test_max_faces_simplifies_only_finer_meshes():
    fine = box_mesh(0.06, 0.04, 0.02)
    for _ in range(3):
        fine = subdivided(fine)
    scorer = PoseScorer(ObjectSet((model("fine", fine), model("coarse", box_mesh(0.1, 0.1, 0.1)))), max_faces=100)
    first, second = np.diff(scorer.meshes.face_offsets.numpy())
    assert first <= 100 < len(fine.faces) and second == 12
    assert "100 faces" in scorer.cad


def subdivided(mesh):
    """Each face split in four."""
    corners = mesh.vertices[mesh.faces]
    middles = (corners + np.roll(corners, -1, axis=1)) / 2
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = middles[:, 0], middles[:, 1], middles[:, 2]
    triangles = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    vertices, inverse = np.unique(triangles.reshape(-1, 3), axis=0, return_inverse=True)
    return type(mesh)(vertices.astype(np.float32), inverse.reshape(-1, 3).astype(np.int32))
