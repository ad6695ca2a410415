"""BOP datasets: round trip, box conventions, image types, and messages for broken folders."""

import json

import cv2
import numpy as np
import pytest
from evaluation_scene import CAMERA, SIZE, write_dataset

from shared_pose_ros.evaluation.bop import BopError, SceneImage, load_bop, write_bop_scene, write_bop_targets
from shared_pose_ros.geometry.boxes import box_from_mask


@pytest.fixture
def scene(tmp_path, scorer):
    written, poses = write_dataset(tmp_path, scorer)
    return tmp_path, written, poses


def test_round_trip(scene):
    root, written, poses = scene
    dataset = load_bop(root)
    assert [(f.scene_id, f.image_id) for f in dataset.frames] == [(1, 0), (1, 1)]
    assert dataset.targets is None
    for frame, image in zip(dataset.frames, written):
        np.testing.assert_allclose(frame.camera, CAMERA)
        np.testing.assert_array_equal(frame.image(), image.image)
        np.testing.assert_allclose(frame.depth(), image.depth, atol=0.6e-5)
        for gt_id, instance in enumerate(frame.instances):
            assert instance.gt_id == gt_id and instance.class_id == str(gt_id + 1)
            np.testing.assert_allclose(instance.rotation, image.rotations[gt_id])
            np.testing.assert_allclose(instance.translation, image.translations[gt_id], atol=1e-12)
            np.testing.assert_array_equal(frame.visible_mask(gt_id), image.visible_masks[gt_id])
            shown = image.visible_masks[gt_id].sum() / image.masks[gt_id].sum()
            assert instance.visibility == pytest.approx(shown)


def test_boxes_cover_the_visible_pixels_with_and_without_masks(scene):
    root, written, _ = scene
    expected = [box_from_mask(mask) for mask in written[0].visible_masks]
    frame = load_bop(root).frames[0]
    np.testing.assert_allclose([frame.visible_box(0), frame.visible_box(1)], expected)
    for mask in (root / "test" / "000001" / "mask_visib").iterdir():
        mask.unlink()
    np.testing.assert_allclose([frame.visible_box(0), frame.visible_box(1)], expected)


def test_the_mask_decides_over_the_annotated_box(scene):
    root, written, _ = scene
    path = root / "test" / "000001" / "scene_gt_info.json"
    info = json.loads(path.read_text())
    info["0"][0]["bbox_visib"] = [0, 0, 5, 5]
    path.write_text(json.dumps(info))
    frame = load_bop(root).frames[0]
    np.testing.assert_allclose(frame.visible_box(0), box_from_mask(written[0].visible_masks[0]))
    np.testing.assert_allclose(frame.instances[0].box, [2.5, 2.5, 6, 6])


def test_bop_boxes_are_written_as_the_benchmark_does(tmp_path):
    mask = np.zeros((1, *SIZE), dtype=bool)
    mask[0, 20:31, 40:44] = True
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    eye, far = np.eye(3)[None], np.array([[0, 0, 1.0]])
    write_bop_scene(tmp_path, "test", 7, [SceneImage(image, CAMERA, [5], eye, far, mask, mask & False)])
    info = json.loads((tmp_path / "test" / "000007" / "scene_gt_info.json").read_text())["0"][0]
    assert info["bbox_obj"] == [40, 20, 3, 10] and info["px_count_all"] == 44
    assert info["bbox_visib"] == [-1, -1, -1, -1] and info["visib_fract"] == 0.0
    frame = load_bop(tmp_path).frames[0]
    assert frame.instances[0].box is None and frame.visible_box(0) is None and frame.depth() is None


def test_targets_list_what_is_visible(scene):
    root, written, _ = scene
    write_bop_targets(root, visibility_min=0.1)
    expected = {
        (1, i, str(k + 1)): 1
        for i, image in enumerate(written)
        for k in range(2)
        if image.visible_masks[k].sum() >= 0.1 * image.masks[k].sum()
    }
    assert load_bop(root).targets == expected
    (root / "test").rename(root / "test_primesense")
    assert load_bop(root, "test_primesense").targets == expected
    (root / "test_primesense").rename(root / "val")
    assert load_bop(root, "val").targets is None


@pytest.mark.parametrize(("ending", "dtype"), [("tif", np.uint8), ("png", np.uint16), ("jpg", np.uint8)])
def test_gray_images_become_rgb(scene, ending, dtype):
    root, _, _ = scene
    folder = root / "test" / "000001"
    (folder / "rgb" / "000000.png").unlink()
    (folder / "gray").mkdir()
    scale = 256 if dtype == np.uint16 else 1
    gray = (np.full(SIZE, 100) * scale).astype(dtype)
    cv2.imwrite(str(folder / "gray" / f"000000.{ending}"), gray)
    image = load_bop(root).frames[0].image()
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert (image == 100).all()


@pytest.mark.parametrize(("ending", "dtype"), [("tif", np.uint16), ("png", np.uint16), ("jpg", np.uint8)])
def test_colour_images_keep_their_colours(scene, ending, dtype):
    root, _, _ = scene
    folder = root / "test" / "000001" / "rgb"
    (folder / "000000.png").unlink()
    scale = 256 if dtype == np.uint16 else 1
    colour = np.full((*SIZE, 3), (200, 100, 50)) * scale
    cv2.imwrite(str(folder / f"000000.{ending}"), colour[:, :, ::-1].astype(dtype))
    image = load_bop(root).frames[0].image()
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), (200, 100, 50), atol=2)


def test_depth_units_are_the_images_own(scene):
    root, written, _ = scene
    folder = root / "test" / "000001"
    path = folder / "scene_camera.json"
    cameras = json.loads(path.read_text())
    cameras["1"]["depth_scale"] *= 2
    path.write_text(json.dumps(cameras))
    frames = load_bop(root).frames
    np.testing.assert_allclose(frames[0].depth(), written[0].depth, atol=0.6e-5)
    np.testing.assert_allclose(frames[1].depth(), 2 * written[1].depth, atol=1.2e-5)
    assert frames[0].has_depth()
    (folder / "depth" / "000000.png").unlink()
    assert [frame.has_depth() for frame in load_bop(root).frames] == [False, True]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "test" / "000001" / "scene_gt_info.json").unlink(), "scene_gt_info.json is missing"),
        (lambda root: (root / "test" / "000001" / "scene_gt.json").write_text("{"), "scene_gt.json cannot be read"),
        (lambda root: (root / "test" / "000001" / "scene_camera.json").write_text("{}"), "image 0 lacks '0'"),
        (lambda root: (root / "test" / "000001" / "scene_gt.json").write_text('{"0": []}'), "image 0 has 0 poses"),
        (lambda root: (root / "test" / "000001").rename(root / "elsewhere"), "no scene folders"),
        (lambda root: (root / "test").rename(root / "val"), r"here: \['val'\]"),
    ],
)
def test_broken_folders_are_named(scene, damage, message):
    root, _, _ = scene
    damage(root)
    with pytest.raises(BopError, match=message):
        load_bop(root)


def test_missing_and_undecodable_images_are_named(scene):
    root, _, _ = scene
    frame = load_bop(root).frames[0]
    path = root / "test" / "000001" / "rgb" / "000000.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BopError, match="000000.png cannot be decoded"):
        frame.image()
    path.unlink()
    with pytest.raises(BopError, match="no rgb or gray image 000000"):
        frame.image()


def test_writing_twice_or_too_deep_is_refused(scene):
    root, written, _ = scene
    with pytest.raises(BopError, match="exists already"):
        write_bop_scene(root, "test", 1, written)
    deep = SceneImage(**{**vars(written[0]), "depth": written[0].depth + 1.0})
    with pytest.raises(BopError, match="exceeds 0.655 m in 16 bit"):
        write_bop_scene(root, "test", 2, [deep])
