"""Outlines of CAD models over images.

Convention: images ``(H, W, 3)`` uint8 RGB; K in pixels, metres, X_cam = R X_model + t. Outlines come from the
rasterised face ids, see ``drawing.draw_outline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from shared_pose_ros.drawing import draw_outline
from shared_pose_ros.rendering.rasterizer import PackedMeshes, Rasterizer

TRUTH_COLOUR = (40, 220, 60)
ESTIMATE_COLOUR = (255, 120, 0)


@dataclass(frozen=True)
class DrawnPose:
    """A pose to draw.

    Attributes:
        object_index: position in the pack of meshes.
        rotation: R_m2c ``(3, 3)``.
        translation: ``(3,)`` metres.
        colour: RGB 0…255.
        label: written beside the object; empty for none.
    """

    object_index: int
    rotation: np.ndarray
    translation: np.ndarray
    colour: tuple[int, int, int] = ESTIMATE_COLOUR
    label: str = ""


def draw_poses(
    image: np.ndarray,
    camera: np.ndarray,
    poses: Sequence[DrawnPose],
    meshes: PackedMeshes,
    rasterizer: Rasterizer,
) -> np.ndarray:
    """Draw the outlines of CAD models over an image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, left as it is.
        camera: K ``(3, 3)``.
        poses: what to draw; later ones lie on top.
        meshes: the CAD, metres (``PoseScorer.meshes``).
        rasterizer: the backend (``PoseScorer.rasterizer``).

    Returns:
        A new image of the same shape.
    """
    drawn = np.ascontiguousarray(image).copy()
    size = image.shape[0], image.shape[1]
    device = meshes.vertices.device
    k = torch.as_tensor(np.asarray(camera, dtype=np.float32)).to(device)
    for pose in poses:
        r = torch.as_tensor(np.asarray(pose.rotation, dtype=np.float32)).to(device)
        t = torch.as_tensor(np.asarray(pose.translation, dtype=np.float32)).to(device)
        index = torch.tensor([pose.object_index], device=device)
        face = rasterizer.rasterize(meshes, index, r[None], t[None], k, size)[0]
        normals = (meshes.normals[face.clamp(min=0)] @ r.T).cpu().numpy()
        mask = (face >= 0).cpu().numpy()
        draw_outline(drawn, mask, normals, pose.colour, 2)
        if pose.label and mask.any():
            _label(drawn, mask, pose)
    return drawn


def _label(drawn: np.ndarray, mask: np.ndarray, pose: DrawnPose) -> None:
    rows, columns = mask.nonzero()
    place = int(columns.min()), max(int(rows.min()) - 6, 14)
    cv2.putText(drawn, pose.label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(drawn, pose.label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, pose.colour, 1, cv2.LINE_AA)
