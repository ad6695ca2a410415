"""The estimator: names, bad inputs, the ray correction, translations, devices."""

import dataclasses
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bundle_facts import make_metadata
from evaluation_scene import box_mesh

from shared_pose_ros.bundle import Bundle, BundleError, export_bundle
from shared_pose_ros.estimator import PoseEstimator, choose_device
from shared_pose_ros.geometry.boxes import box_from_mask
from shared_pose_ros.geometry.cameras import ray_rotation, viewing_ray
from shared_pose_ros.geometry.positions import BOX_DEVIATION
from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.rendering.depth import plane_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes

CAMERA = np.array([[500.0, 0.0, 79.5], [0.0, 490.0, 59.5], [0.0, 0.0, 1.0]])
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
BOXES = np.array([[40.0, 30.0, 30.0, 20.0], [120.0, 100.0, 50.0, 40.0]])
INDEX = np.array([2, 0])


@pytest.fixture(scope="module")
def estimator(tiny_bundle):
    return PoseEstimator.load(tiny_bundle, "cpu")


class Oracle(torch.nn.Module):
    """Stands in for the network: answers with given rotations as the crops show them."""

    def __init__(self, rotations):
        super().__init__()
        self.rotations = rotations

    def forward(self, image, boxes, object_index):
        return self.rotations[:, None], torch.ones(len(boxes), 1)


def test_class_ids_and_aliases_are_known(estimator):
    assert [estimator.object_index(name) for name in ("part_0", "part_2", "1", "0")] == [0, 2, 1, 0]
    assert estimator.object_index("part_3") is None and estimator.object_index("") is None
    assert estimator.metadata.name == "tiny"


def test_a_class_id_wins_over_another_objects_alias():
    metadata = make_metadata()
    first = dataclasses.replace(metadata.objects[0], aliases=("part_1", "part_2"))
    metadata = dataclasses.replace(metadata, objects=(first, *metadata.objects[1:]))
    estimator = PoseEstimator(Bundle(Oracle(torch.eye(3)[None]), metadata), torch.device("cpu"))
    assert [estimator.object_index(f"part_{i}") for i in range(3)] == [0, 1, 2]


def test_estimates_have_the_promised_shapes_and_types(estimator):
    estimate = estimator.estimate(IMAGE, BOXES, INDEX, CAMERA)
    assert estimate.rotations.shape == (2, 4, 3, 3) and estimate.rotations.dtype == np.float32
    assert estimate.confidences.shape == (2, 4) and estimate.confidences.dtype == np.float32
    assert estimate.translations.shape == (2, 3) and estimate.translations.dtype == np.float32
    assert estimate.ray_corrected
    np.testing.assert_allclose(estimate.confidences.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(estimate.confidences, axis=1) <= 0).all()
    products = estimate.rotations @ estimate.rotations.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)


def test_the_correction_is_the_rays_rotation_times_the_networks(estimator):
    plain = estimator.estimate(IMAGE, BOXES, INDEX)
    corrected = estimator.estimate(IMAGE, BOXES, INDEX, CAMERA)
    assert plain.translations is None and not plain.ray_corrected
    turn = ray_rotation(viewing_ray(torch.from_numpy(CAMERA), torch.from_numpy(BOXES[:, :2]))).numpy()
    np.testing.assert_allclose(corrected.rotations, turn[:, None] @ plain.rotations, atol=1e-5)
    np.testing.assert_array_equal(corrected.confidences, plain.confidences)


def test_objects_do_not_influence_each_other(estimator):
    both = estimator.estimate(IMAGE, BOXES, INDEX, CAMERA)
    for row in range(2):
        alone = estimator.estimate(IMAGE, BOXES[row : row + 1], INDEX[row : row + 1], CAMERA)
        np.testing.assert_allclose(alone.rotations[0], both.rotations[row], atol=1e-4)
        np.testing.assert_allclose(alone.translations[0], both.translations[row], atol=1e-5)


@pytest.mark.parametrize("camera", [None, CAMERA])
@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.zeros(0), []])
def test_no_objects_are_no_poses(estimator, camera, boxes):
    estimate = estimator.estimate(IMAGE, boxes, np.zeros(0, dtype=np.int64), camera)
    assert estimate.rotations.shape == (0, 4, 3, 3) and estimate.confidences.shape == (0, 4)
    assert estimate.translations is None if camera is None else estimate.translations.shape == (0, 3)
    seen = estimator.estimate(IMAGE, boxes, np.zeros(0, dtype=np.int64), camera, np.ones((120, 160)))
    assert seen.depth_problems == () and (camera is None or seen.position_covariances.shape == (0, 3, 3))


def test_layouts_types_and_read_only_memory_do_not_matter(estimator):
    expected = estimator.estimate(IMAGE, BOXES, INDEX, CAMERA)
    padded = np.zeros((120, 170, 3), dtype=np.uint8)
    padded[:, :160] = IMAGE
    frozen = np.frombuffer(IMAGE.tobytes(), dtype=np.uint8).reshape(IMAGE.shape)
    mirrored = np.ascontiguousarray(IMAGE[:, ::-1])[:, ::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (padded[:, :160], frozen, mirrored):
            found = estimator.estimate(image, BOXES.astype(np.float32), INDEX.astype(np.int32), CAMERA.tolist())
            np.testing.assert_array_equal(found.rotations, expected.rotations)
        frozen_boxes = BOXES.copy()
        frozen_boxes.setflags(write=False)
        estimator.estimate(IMAGE, frozen_boxes, INDEX.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": IMAGE.astype(np.float32)}, "image is float32.*give uint8 RGB"),
        ({"image": IMAGE[:, :, 0]}, r"image is uint8 \(120, 160\)"),
        ({"image": np.zeros((5, 5, 4), np.uint8)}, r"\(5, 5, 4\)"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, "no pixels"),
        ({"image": [[1, 2]]}, "image is list"),
        ({"boxes": BOXES[:1]}, r"boxes have shape \(1, 4\) for 2 objects"),
        ({"boxes": BOXES[:, :3]}, r"shape \(2, 3\)"),
        ({"boxes": BOXES.ravel()}, r"shape \(8,\)"),
        ({"boxes": BOXES * [1, 1, 0, 1]}, "positive width and height.*drop"),
        ({"boxes": BOXES * [1, 1, 1, -1]}, "positive width and height"),
        ({"boxes": BOXES * [np.nan, 1, 1, 1]}, "finite"),
        ({"boxes": BOXES * [1, 1, np.inf, 1]}, "finite"),
        ({"boxes": BOXES * [1e300, 1, 1, 1]}, "finite"),
        ({"boxes": BOXES * [1, 1, 1e-300, 1]}, "positive"),
        ({"object_index": np.array([0, 3])}, r"object_index \[0, 3\] is outside 0…2, the objects of tiny"),
        ({"object_index": np.array([-1, 0])}, "outside 0…2"),
        ({"object_index": np.array([0.5, 1.0])}, "float64.*give integers"),
        ({"object_index": np.array([[0], [1]])}, r"shape \(2, 1\)"),
        ({"camera_matrix": np.zeros((3, 3))}, "fx=0.0.*positive"),
        ({"camera_matrix": CAMERA[:2]}, "3×3"),
        ({"camera_matrix": CAMERA * np.nan}, "not finite"),
        ({"depth": np.ones((120, 160), np.uint16)}, "depth is uint16.*give metres as floats"),
        ({"depth": np.ones((120, 160, 1))}, r"of shape \(120, 160, 1\)"),
        ({"depth": np.ones((0, 0))}, r"of shape \(0, 0\)"),
        ({"depth": np.ones((120, 120))}, "depth of 120x120 pixels is no view of the image of 160x120"),
    ],
)
def test_bad_inputs_are_refused_by_name(estimator, changes, message):
    values = {"image": IMAGE, "boxes": BOXES, "object_index": INDEX, "camera_matrix": CAMERA, **changes}
    with pytest.raises(ValueError, match=message):
        estimator.estimate(**values)


@pytest.mark.slow
def test_where_there_is_a_mesh_it_fills_the_box(tiny_network, tiny_bundle, tmp_path):
    export_bundle(tiny_network, make_metadata(), tmp_path / "plain.pose.pt")
    camera = np.array([[300.0, 0.0, 80.0], [0.0, 310.0, 60.0], [0.0, 0.0, 1.0]])
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes = np.array([[90.0, 50.0, 40.0, 30.0], [40.0, 70.0, 30.0, 50.0]])
    with_mesh, plain = (PoseEstimator.load(path, "cpu") for path in (tiny_bundle, tmp_path / "plain.pose.pt"))
    found, rough = (one.estimate(image, boxes, np.array([1, 2]), camera) for one in (with_mesh, plain))
    np.testing.assert_array_equal(found.rotations, rough.rotations)
    np.testing.assert_array_equal(found.translations[1], rough.translations[1])  # object 2 has no mesh
    points = with_mesh.meshes[1].vertices @ found.rotations[0, 0].T + found.translations[0]
    pixels = ((points / points[:, 2:]) @ camera.T)[:, :2]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, boxes[0, :2], atol=0.05)
    assert np.linalg.norm(high - low) == pytest.approx(50.0, abs=0.05)
    assert abs(found.translations[0] - rough.translations[0]).max() > 1e-3


def test_translation_and_rotation_of_a_rendered_object():
    # Object 1 of the tiny metadata: 60×40×20 mm about (0, 0, 10 mm), seen all over the image.
    metadata = make_metadata()
    part = metadata.objects[1]
    mesh = box_mesh(*part.extents, offset=part.centre)
    count = 12
    generator = torch.Generator().manual_seed(4)
    rotation = random_rotations(count, generator)
    low, span = torch.tensor([-0.05, -0.04, 0.6]), torch.tensor([0.10, 0.08, 0.3])
    centre = low + span * torch.rand(count, 3, generator=generator)
    origin = centre - (rotation @ torch.tensor(part.centre))
    camera = torch.from_numpy(CAMERA).float()
    packed = pack_meshes([(mesh.vertices, mesh.faces)])
    face_id = make_rasterizer().rasterize(packed, torch.zeros(count).long(), rotation, origin, camera, (120, 160))
    boxes = np.stack([box_from_mask(picture.numpy() >= 0) for picture in face_id])
    # What a perfect network would see in each crop: the object turned back onto the optical axis.
    seen = ray_rotation(viewing_ray(camera, torch.from_numpy(boxes[:, :2]).float())).transpose(1, 2) @ rotation
    estimator = PoseEstimator(Bundle(Oracle(seen), metadata), torch.device("cpu"))
    estimate = estimator.estimate(IMAGE, boxes, np.ones(count, dtype=int), CAMERA)
    np.testing.assert_allclose(estimate.rotations[:, 0], rotation.numpy(), atol=1e-4)
    # The part fills its box, so the distance comes out short: within what is stated.
    distance, lateral = errors(estimate, origin)
    assert distance.max() < 2 * BOX_DEVIATION * 0.9 and lateral.max() < 0.006
    # Each in a depth image of its own, of half the size.
    depth = plane_depth(face_id, packed, rotation, origin, camera).numpy()[:, ::2, ::2]
    refined = []
    for row in range(count):
        alone = PoseEstimator(Bundle(Oracle(seen[row : row + 1]), metadata), torch.device("cpu"))
        refined.append(alone.estimate(IMAGE, boxes[row : row + 1], np.ones(1, dtype=int), CAMERA, depth[row]))
        np.testing.assert_array_equal(refined[row].rotations, estimate.rotations[row : row + 1])
    assert [answer.depth_problems for answer in refined] == [("",)] * count and estimate.depth_problems == ()
    found = np.concatenate([answer.translations for answer in refined])
    distance, lateral = errors(SimpleNamespace(translations=found), origin)
    assert np.median(distance) < 0.005 and distance.max() < 0.015 and lateral.max() < 0.006
    smaller = [np.linalg.det(answer.position_covariances[0]) for answer in refined]
    assert (smaller < np.linalg.det(estimate.position_covariances)).all()


def errors(estimate, origin):
    """Errors of the CAD origins along and across the ray, metres."""
    ray = (origin / origin.norm(dim=1, keepdim=True)).numpy()
    error = estimate.translations - origin.numpy()
    along = (error * ray).sum(axis=1)
    return np.abs(along), np.linalg.norm(error - along[:, None] * ray, axis=1)


def test_warm_up_runs_every_batch_size(estimator, monkeypatch):
    seen = []
    original = PoseEstimator.estimate

    def spy(self, image, boxes, object_index, camera_matrix=None):
        seen.append((image.shape, len(boxes)))
        return original(self, image, boxes, object_index, camera_matrix)

    monkeypatch.setattr(PoseEstimator, "estimate", spy)
    estimator.warm_up((48, 64), [1, 3])
    assert {shape for shape, _ in seen} == {(48, 64, 3)} and sorted(n for _, n in seen) == [1, 1, 3, 3]


def test_devices(tmp_path, tiny_bundle, monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="'cuda' was asked for, but 0 GPUs"):
        choose_device("cuda")
    for name in ("gpu", "cuda:x", "meta", "mps"):
        with pytest.raises(ValueError, match=f"device '{name}'.*auto, cpu, cuda"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto").type == "cuda" and choose_device("cuda:1").index == 1
    with pytest.raises(ValueError, match="'cuda:2' was asked for, but 2 GPUs"):
        choose_device("cuda:2")
    with pytest.raises(BundleError, match="no bundle"):
        PoseEstimator.load(tmp_path / "none.pose.pt", "cpu")
