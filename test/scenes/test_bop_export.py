"""Own parts as a BOP dataset: what is written agrees with the CAD and can be evaluated."""

import dataclasses
import json

import numpy as np
import pytest
from evaluation_scene import model
from shapes import tiny_objects

from shared_pose_ros.evaluation.bop import BopError, load_bop
from shared_pose_ros.evaluation.bundle_evaluation import frame_view
from shared_pose_ros.evaluation.pose_scorer import PoseScorer
from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.scenes.bop_export import render_bop, settings_for
from shared_pose_ros.scenes.clutter import SceneSettings

FEW = SceneSettings(scenes=1, views=2, parts=(2, 2), light_samples=(1, 2), tray=0.0, seed=5)


def nameless_objects():
    """The tiny objects without numbers among their names."""
    return ObjectSet(tuple(dataclasses.replace(item, aliases=()) for item in tiny_objects()))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "tiny"
    objects, seen = nameless_objects(), []
    settings = settings_for(objects, FEW, (150, 200))
    numbers = render_bop(root, objects, settings, progress=lambda *p: seen.append(p))
    assert seen == [(1, 2), (2, 2)]
    return root, objects, numbers


def test_depth_masks_and_poses_agree_with_the_cad(rendered):
    root, objects, numbers = rendered
    assert numbers == {"angle": 1, "spike": 2}
    dataset = load_bop(root)
    scorer = PoseScorer(ObjectSet.load(root / "models"))
    assert [(f.scene_id, f.image_id) for f in dataset.frames] == [(1, 0), (1, 1)]
    for frame in dataset.frames:
        assert frame.image().shape == (150, 200, 3)
        view, source = frame_view(frame, (150, 200), scorer)
        assert source == "from the sensor" and (view.depth > 0).all()
        parts = scorer.depth(frame.instances, frame.camera, (150, 200))
        shown = np.any([frame.visible_mask(i.gt_id) for i in frame.instances], axis=0)
        # Half a unit of depth, and edges where two faces meet.
        assert np.quantile(np.abs(view.depth - parts)[shown], 0.98) < 1e-4
        assert ((parts > 0) == shown).mean() > 0.999


def test_targets_and_camera(rendered):
    root, _, _ = rendered
    dataset = load_bop(root)
    assert dataset.targets == {(1, image, str(number)): 1 for image in (0, 1) for number in (1, 2)}
    camera = json.loads((root / "camera.json").read_text())
    k = dataset.frames[0].camera
    assert [camera["fx"], camera["fy"], camera["cx"], camera["cy"]] == [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
    assert (camera["width"], camera["height"], camera["depth_scale"]) == (200, 150, pytest.approx(0.1))


def test_a_split_is_never_overwritten_nor_put_beside_other_cad(rendered):
    root, objects, _ = rendered
    with pytest.raises(BopError, match="exists already"):
        render_bop(root, objects, FEW)
    with pytest.raises(BopError, match="holds other objects"):
        render_bop(root, ObjectSet(objects.objects[:1]), FEW, split="val")


def test_the_field_of_view_stays_and_the_heap_grows_with_the_parts():
    small = ObjectSet((model("a", Mesh(tiny_objects()[0].mesh.vertices * 2.0, tiny_objects()[0].mesh.faces)),))
    settings = settings_for(small, SceneSettings(), (240, 320))
    scale = small[0].diameter / 0.11
    assert settings.distance == pytest.approx((0.5 * scale, 0.7 * scale)) and settings.radius == pytest.approx(
        0.115 * scale
    )
    fx, _, cx, cy = SceneSettings().camera
    assert settings.camera[0] == pytest.approx(fx / 2)
    # A point at the image's corner stays there.
    assert (settings.camera[2] + 0.5) / 320 == pytest.approx((cx + 0.5) / 640)
    assert (settings.camera[3] + 0.5) / 240 == pytest.approx((cy + 0.5) / 480)
    huge = ObjectSet((model("a", Mesh(small[0].mesh.vertices * 20.0, small[0].mesh.faces)),))
    assert settings_for(huge, SceneSettings(), (480, 640)).radius == 0.23
    assert settings_for(huge, SceneSettings(), (480, 640)).tray == 0.0
    with pytest.raises(ValueError, match="give at least 64x64"):
        settings_for(small, SceneSettings(), (40, 640))
