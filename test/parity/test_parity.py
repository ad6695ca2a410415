"""Warp against PyTorch3D, 100 random poses of each CAD set: face ids, depth, gradient; mixed objects in a batch."""

import dataclasses

import numpy as np
import pytest
import torch
from zbuffer import corners_of, intersect, pixel_ray

from shared_pose_ros.geometry.rotations import random_rotations
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.rendering.depth import plane_depth
from shared_pose_ros.rendering.rasterizer import PackedMeshes, make_rasterizer, pack_meshes
from shared_pose_ros.training.losses import LOSS_DISTANCE, loss_camera

POSES = 50  # under each of the two cameras
EDGE = 2e-3  # pixels: nearer to an edge than this, float32 may decide either way


@dataclasses.dataclass
class Renders:
    """A batch of poses and what both backends drew."""

    meshes: PackedMeshes
    object_index: torch.Tensor
    rotation: torch.Tensor
    translation: torch.Tensor
    camera: torch.Tensor
    size: tuple[int, int]
    warp: torch.Tensor  # (B, H, W) face ids
    reference: torch.Tensor
    twist: torch.Tensor  # (B, 3): zeros that the depth below depends on
    reference_depth: torch.Tensor

    @property
    def agreed(self):
        """Pixels in which both found the same face."""
        return (self.warp == self.reference) & (self.warp >= 0)


def odd_cameras(generator):
    """One camera an image: focal lengths that differ, skew, off centre."""
    camera = torch.zeros(POSES, 3, 3)
    camera[:, 0, 0] = 150 + 100 * torch.rand(POSES, generator=generator)
    camera[:, 1, 1] = 150 + 100 * torch.rand(POSES, generator=generator)
    camera[:, 0, 1] = 40 * torch.rand(POSES, generator=generator) - 20
    camera[:, 0, 2] = 39.5 + 8 * torch.randn(POSES, generator=generator)
    camera[:, 1, 2] = 23.5 + 4 * torch.randn(POSES, generator=generator)
    camera[:, 2, 2] = 1
    return camera


@pytest.fixture(scope="session", params=["loss camera", "odd cameras"])
def renders(request, cad):
    """Full-resolution meshes, every object in the batch; the training's renders, or wide ones anywhere in the image."""
    objects = ObjectSet.load(cad)
    meshes = pack_meshes([model.normalized() for model in objects])
    generator = torch.Generator().manual_seed(7)
    rotation = random_rotations(POSES, generator)
    translation = torch.tensor([0.0, 0.0, LOSS_DISTANCE]).repeat(POSES, 1)
    camera, size = loss_camera(64), (64, 64)
    if request.param == "odd cameras":
        camera, size = odd_cameras(generator), (48, 80)
        translation += torch.rand(POSES, 3, generator=generator) * 200 - 100
        rotation = random_rotations(POSES, generator)
    index = torch.arange(POSES) % len(objects)
    warp = make_rasterizer("warp").rasterize(meshes, index, rotation, translation, camera, size)
    twist = torch.zeros(POSES, 3, requires_grad=True)
    draw = make_rasterizer("pytorch3d").draw
    reference, depth = draw(meshes, index, turned(rotation, twist), translation, camera, size)
    assert all((face_id >= 0).flatten(1).sum(1).min() > 50 for face_id in (warp, reference))
    return Renders(meshes, index, rotation, translation, camera, size, warp, reference, twist, depth)


def turned(rotation, twist):
    """exp([twist]) R: rotations near R, differentiable in the three numbers of the twist."""
    x, y, z = twist.unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew) @ rotation


def is_disputable(triangles, camera, x, y):
    """Whether, in float64, another face (or none) wins within EDGE of the pixel's centre, or two lie at one depth."""
    winners, tie = set(), False
    for right, down in ((0, 0), (-EDGE, -EDGE), (EDGE, -EDGE), (-EDGE, EDGE), (EDGE, EDGE)):
        z, margin = intersect(triangles, pixel_ray(camera, x + right, y + down))
        z = np.where((margin >= 0) & (z > 0), z, np.inf)
        winners.add(z.argmin() if z.min() < np.inf else -1)
        tie |= z.min() < np.inf and (z < z.min() * (1 + 1e-5)).sum() > 1
    return tie or len(winners) > 1


def test_face_ids_are_equal_away_from_edges(renders, measured):
    differ = renders.warp != renders.reference
    share = (differ.sum() / ((renders.warp >= 0) | (renders.reference >= 0)).sum()).item()
    measured("share of pixels that differ", share)
    assert share < 2e-3
    cameras = renders.camera.reshape(-1, 3, 3).expand(POSES, 3, 3)
    for image in differ.flatten(1).any(1).nonzero().flatten().tolist():
        index = int(renders.object_index[image])
        faces = renders.meshes.faces[renders.meshes.face_offsets[index] : renders.meshes.face_offsets[index + 1]]
        triangles = corners_of(renders.meshes.vertices, faces, renders.rotation[image], renders.translation[image])
        for y, x in differ[image].nonzero().tolist():
            found = renders.warp[image, y, x].item(), renders.reference[image, y, x].item()
            assert is_disputable(triangles, cameras[image], x, y), f"image {image}, pixel ({x}, {y}): faces {found}"


def test_depths_are_equal_to_a_ten_thousandth(renders, measured):
    ours = plane_depth(renders.warp, renders.meshes, renders.rotation, renders.translation, renders.camera)
    theirs = renders.reference_depth.detach()
    assert torch.equal(theirs > 0, renders.reference >= 0)
    error = ((ours - theirs).abs() / theirs)[renders.agreed].max().item()
    measured("worst relative depth error", error)
    assert error < 1e-4


def gradient_of_plane_depth(renders, weights, dtype):
    """Of the weighted sum of our depth in the twist, (B, 3), computed in this precision."""
    twist = torch.zeros(POSES, 3, dtype=dtype, requires_grad=True)
    pose = turned(renders.rotation.to(dtype), twist), renders.translation.to(dtype)
    depth = plane_depth(renders.warp, renders.meshes, *pose, renders.camera.to(dtype))
    return torch.autograd.grad((depth * weights.to(dtype)).sum(), twist)[0].double()


def exact_gradient(renders, weights):
    """The same in closed form in float64: by a small twist w the point p = z d of a face's plane moves by w × (p − t).

    With the plane's normal n the depth along the ray d so changes by w · ((p − t) × n) / (n · d).
    """
    found = torch.zeros(POSES, 3, dtype=torch.float64)
    cameras = renders.camera.reshape(-1, 3, 3).expand(POSES, 3, 3).double().numpy()
    for image in range(POSES):
        y, x = renders.agreed[image].nonzero(as_tuple=True)
        faces, translation = renders.meshes.faces[renders.warp[image, y, x]], renders.translation[image]
        corners = corners_of(renders.meshes.vertices, faces, renders.rotation[image], translation)
        a, b, c = corners.swapaxes(0, 1)
        normal = np.cross(b - a, c - a)
        ray = np.linalg.solve(cameras[image], np.stack([x, y, np.ones_like(x)])).T
        slope = (normal * ray).sum(axis=1)
        arm = ray * ((normal * a).sum(axis=1) / slope)[:, None] - translation.numpy()
        found[image] = torch.from_numpy((weights[image, y, x].numpy() / slope) @ np.cross(arm, normal))
    return found


def test_gradients_in_the_rotation_are_equal_to_a_thousandth(renders, measured):
    weights = torch.rand(renders.warp.shape, generator=torch.Generator().manual_seed(1)) * renders.agreed
    (theirs,) = torch.autograd.grad((renders.reference_depth * weights).sum(), renders.twist, retain_graph=True)
    exact = exact_gradient(renders, weights)
    # Where the pixels' contributions cancel, both round in float32 to some 1e-4 of their small sum, so neither can be
    # the other's measure. In float64 ours has only the pack's normals in float32.
    for name, gradient, limit in [
        ("PyTorch3D's", theirs, 5e-4),
        ("our", gradient_of_plane_depth(renders, weights, torch.float32), 1e-3),
        ("our float64", gradient_of_plane_depth(renders, weights, torch.float64), 2e-4),
    ]:
        error = ((gradient - exact).norm(dim=1) / exact.norm(dim=1)).max().item()
        measured(f"worst relative error of {name} gradient", error)
        assert error < limit, name
