"""A tiny object set, BOP dataset and stand-in for the estimator, shared by the evaluation tests."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.evaluation.bop import SceneImage, write_bop_scene
from shared_pose_ros.evaluation.metrics import Comparison, nearest_points, support_points
from shared_pose_ros.meshes.mesh import Mesh
from shared_pose_ros.meshes.object_set import ObjectModel, ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries, rotation_about

CAMERA = np.array([[220.0, 0.0, 79.5], [0.0, 210.0, 61.0], [0.0, 0.0, 1.0]])
SIZE = (120, 160)


def turn(axis, degrees):
    """Rotation (3, 3) about an axis through the origin."""
    unit = np.array(axis, dtype=float) / np.linalg.norm(axis)
    return rotation_about(unit, np.radians([degrees]), np.zeros(3))[0, :3, :3]


def compared(rotation, translation, rotation_truth, translation_truth, points, symmetries=None, camera=CAMERA):
    """A Comparison of N poses; tensors or arrays."""
    poses = (rotation, translation, rotation_truth, translation_truth)
    symmetries = np.eye(4)[None] if symmetries is None else symmetries
    tensors = [torch.as_tensor(values).double() for values in (*poses, camera, points, symmetries)]
    *poses, camera, points, symmetries = tensors
    outline, nearest = support_points(points), lambda: nearest_points(points)
    return Comparison(*poses, camera, SIZE[1], None, points, symmetries, outline, nearest)


def box_mesh(width, height, depth, offset=(0.0, 0.0, 0.0)):
    """A closed box with its middle at `offset`, metres."""
    corners = [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    vertices = np.array(corners) * (width, height, depth) + offset
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return Mesh(vertices.astype(np.float32), np.array(faces, dtype=np.int32))


def model(class_id, mesh, symmetries=None, aliases=()):
    """An ObjectModel around a mesh."""
    diameter = max(np.linalg.norm(a - b) for a in mesh.vertices for b in mesh.vertices)
    return ObjectModel(
        class_id=class_id,
        aliases=tuple(aliases),
        name=class_id,
        mesh=mesh,
        diameter=float(diameter),
        extents=mesh.extents,
        centre=mesh.centre,
        scale=float(mesh.extents.max() / 2),
        symmetries=symmetries or Symmetries(),
        path=Path("unused.ply"),
    )


def objects():
    """Object 1: a box with a half turn about z as its only declared symmetry; object 2: off its origin, no symmetry."""
    half_turn = np.eye(4)
    half_turn[:3, :3] = turn([0, 0, 1], 180)
    return ObjectSet(
        (
            model("1", box_mesh(0.06, 0.04, 0.02), Symmetries(half_turn[None])),
            model("2", box_mesh(0.05, 0.03, 0.03, offset=(0.01, 0.0, 0.005)), aliases=("two",)),
        )
    )


def write_dataset(root, scorer, with_depth=True, images=2):
    """Scene 1 with object 1 before object 2 in each image; returns the poses as (image, object id, R, t)."""
    rng = np.random.default_rng(3)
    written, poses = [], []
    for image_id in range(images):
        rotations = np.stack([turn(rng.normal(size=3), rng.uniform(0, 180)) for _ in range(2)])
        translations = np.array([[-0.02, 0.01, 0.30], [0.015, -0.01, 0.36]])
        single = [depth_of(scorer, i, rotations[i], translations[i]) for i in range(2)]
        nearest = np.where(single[0] > 0, single[0], np.inf), np.where(single[1] > 0, single[1], np.inf)
        masks = np.stack([depth > 0 for depth in single])
        visible = np.stack([masks[0] & (nearest[0] <= nearest[1]), masks[1] & (nearest[1] < nearest[0])])
        depth = np.minimum(*nearest)
        depth[np.isinf(depth)] = 0.5
        picture = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        depth_or_none = depth if with_depth else None
        written.append(
            SceneImage(picture, CAMERA, [1, 2], rotations, translations, masks, visible, depth_or_none, depth_unit=1e-5)
        )
        poses += [(image_id, str(i + 1), rotations[i], translations[i]) for i in range(2)]
    write_bop_scene(root, "test", 1, written)
    return written, poses


def depth_of(scorer, index, rotation, translation):
    """Depth image of one object, rendered over the whole image."""
    instance = SimpleNamespace(class_id=scorer.objects[index].class_id, rotation=rotation, translation=translation)
    return scorer.depth([instance], CAMERA, SIZE)


class StandInEstimator:
    """Answers with the ground truth turned by a given rotation; knows the poses by the box that it is shown."""

    def __init__(self, dataset, error=None, known=("1", "2"), hypotheses=2):
        facts = SimpleNamespace(extents=(0.1,) * 3, centre=(0.0,) * 3, diameter=0.17, symmetries={})
        self.metadata = SimpleNamespace(name="stand-in", objects=[facts] * len(known), metrics={})
        self.meshes = self.fine_meshes = (None,) * len(known)
        self.refiner, self.device = None, None
        self.known = list(known)
        self.error = np.eye(3) if error is None else error
        self.hypotheses = hypotheses
        self.calls = []
        self.truth = [(f.visible_box(i.gt_id), i) for f in dataset.frames for i in f.instances]

    def object_index(self, class_id):
        return self.known.index(class_id) if class_id in self.known else None

    def estimate(self, image, boxes, object_index, camera_matrix, depth=None):
        assert image.dtype == np.uint8 and boxes.dtype == np.float32 and object_index.dtype == np.int64
        self.calls.append(camera_matrix is not None)
        rotations, translations = [], []
        for box, index in zip(boxes, object_index):
            same = [i for b, i in self.truth if b is not None and np.allclose(b, box, atol=0.2)]
            match = [i for i in same if i.class_id == self.known[index]]
            assert len(match) == 1
            first = match[0].rotation @ self.error
            rotations.append([first] + [match[0].rotation] * (self.hypotheses - 1))
            translations.append(match[0].translation)
        n = self.hypotheses
        return PoseEstimate(
            rotations=np.array(rotations, dtype=np.float32).reshape(-1, n, 3, 3),
            confidences=np.tile(np.linspace(0.9, 0.1, n, dtype=np.float32), (len(boxes), 1)),
            translations=None if camera_matrix is None else np.array(translations, dtype=np.float32),
            ray_corrected=camera_matrix is not None,
            position_covariances=None if camera_matrix is None else np.tile(np.eye(3), (len(boxes), 1, 1)),
        )
