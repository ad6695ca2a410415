"""Objects, exact depth images of them, and what cameras do to those: for tests of the alignment to depth.

Convention: metres, 0 where nothing is measured, R_m2c, poses (R, centre of the CAD's box).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from checkout import ROOT
from evaluation_scene import box_mesh, turn
from scipy.spatial import ConvexHull

from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.rotations import rotation_angle
from shared_pose_ros.meshes.display import display_mesh
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.refinement.depth_alignment import DepthView, Starts
from shared_pose_ros.refinement.visible_points import VisiblePoints, fibonacci_directions, visible_points
from shared_pose_ros.rendering.depth import pixel_rays, render_depth
from shared_pose_ros.rendering.rasterizer import make_rasterizer, pack_meshes

SIZE = (240, 320)
CAMERA = torch.tensor([[400.0, 0.0, 155.0], [0.0, 400.0, 123.0], [0.0, 0.0, 1.0]])
FLOOR = 0.8
"""Distance of the plane behind everything."""
ROTATION = torch.tensor(turn([1.0, 2.0, 0.5], 130.0), dtype=torch.float32)
CENTRE = torch.tensor([0.02, -0.015, 0.6])


class Part:
    """A mesh with its table of visible points, centred: ``points`` has it as object 0."""

    def __init__(self, mesh: DisplayMesh) -> None:
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        self.centre = ((low + high) / 2).astype(np.float32)
        self.mesh = DisplayMesh(mesh.vertices - self.centre, mesh.faces)
        corners = torch.from_numpy(self.mesh.vertices)
        self.diameter = float(torch.cdist(corners, corners).max())
        self.points: VisiblePoints = visible_points([self.mesh], np.zeros((1, 3), np.float32))


@functools.cache
def part(name: str) -> Part:
    """A part of the demo as a bundle carries it; a "box", "plate", "ball" or "cylinder"."""
    if name in ("box", "plate"):
        made = box_mesh(*((0.1, 0.06, 0.03) if name == "box" else (0.3, 0.3, 0.004)))
        return Part(DisplayMesh(made.vertices, made.faces.astype(np.uint16)))
    if name in ("ball", "cylinder"):
        return Part(_ball() if name == "ball" else _cylinder())
    models = {model.class_id: model for model in ObjectSet.load(ROOT / "models/parts")}
    return Part(display_mesh(models[name].mesh))


def _cylinder(radius: float = 0.02, half: float = 0.05, around: int = 120) -> DisplayMesh:
    """About z."""
    angles = np.arange(around) * 2 * np.pi / around
    rim = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    rings = [np.column_stack([rim, np.full(around, z)]) for z in (half, -half)]
    vertices = np.concatenate([*rings, [[0, 0, half], [0, 0, -half]]])
    i, top, bottom = np.arange(around), np.full(around, 2 * around), np.full(around, 2 * around + 1)
    j = (i + 1) % around
    sides = [(top, i, j), (bottom, around + j, around + i), (i, around + i, j), (j, around + i, around + j)]
    return DisplayMesh(np.float32(vertices), np.concatenate([np.stack(f, axis=1) for f in sides]).astype(np.uint16))


def _ball(radius: float = 0.04) -> DisplayMesh:
    """Of 980 faces: the hull of evenly spread points."""
    points = fibonacci_directions(492)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, i]] for i in range(3))
    inwards = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    return DisplayMesh(np.float32(radius * points), faces.astype(np.uint16))


def ball_depth(centre=CENTRE, radius: float = 0.04, size=SIZE, camera=CAMERA, floor=FLOOR) -> torch.Tensor:
    """Depth of a true sphere: the nearer root along each pixel's ray."""
    rays = pixel_rays(camera, size)[0].double()
    a, b = (rays * rays).sum(dim=-1), (rays * centre.double()).sum(dim=-1)
    root = b * b - a * ((centre.double() ** 2).sum() - radius**2)
    return torch.where(root > 0, (b - root.clamp(min=0).sqrt()) / a, torch.tensor(floor).double()).float()


def exact_depth(placed, size=SIZE, camera=CAMERA, floor=FLOOR) -> torch.Tensor:
    """Depth image ``(h, w)`` of parts ``(Part, R, centre)`` before a plane that faces the camera (0: none)."""
    nearest = torch.full(size, floor)
    for item, rotation, centre in placed:
        pack = pack_meshes([(item.mesh.vertices, item.mesh.faces.astype(np.int32))])
        first = torch.zeros(1, dtype=torch.long)
        shown = render_depth(pack, first, rotation[None], centre[None], camera, size, make_rasterizer())[0]
        nearest = torch.where((shown > 0) & ((shown < nearest) | (nearest == 0)), shown, nearest)
    return nearest


def view_of(depth: torch.Tensor, camera=CAMERA, image_size=SIZE) -> DepthView:
    """The view of a depth image that is registered to an image of ``SIZE``."""
    return DepthView.of(depth, camera, image_size)


def start(item: Part, rotations, centres) -> Starts:
    """Starts of one part: ``(H, 3, 3)`` and ``(H, 3)``."""
    count = len(rotations)
    return Starts(torch.zeros(count, dtype=torch.long), rotations, centres, torch.full((count,), item.diameter))


def nearby(degrees: float, millimetres: float, count: int = 8, seed: int = 0):
    """Poses that miss (ROTATION, CENTRE) by exactly this much in random directions: ``(H, 3, 3)``, ``(H, 3)``."""
    random = np.random.default_rng(seed)
    turns = [torch.tensor(turn(random.normal(size=3), degrees), dtype=torch.float32) for _ in range(count)]
    shifts = torch.from_numpy(random.normal(size=(count, 3))).float()
    shifts = shifts / shifts.norm(dim=1, keepdim=True) * millimetres * 1e-3
    return torch.stack(turns) @ ROTATION, CENTRE + shifts


def errors(rotations, centres, rotation=ROTATION, centre=CENTRE):
    """Degrees ``(H,)`` and millimetres ``(H,)``."""
    angles = rotation_angle(rotations.double(), rotation.double())
    return torch.rad2deg(angles), 1e3 * (centres - centre).norm(dim=-1)
