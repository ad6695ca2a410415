"""The PyTorch3D backend: the reference that the Warp kernel is checked against, hundreds of times slower on a CPU.

Hard rasterisation (no blur, one face per pixel, perspective-correct, both sides of a face). PyTorch3D takes corners in
normalised device coordinates, x to the left, y up, ±1 at the ends of the image's shorter side, pixels in between: the
centre of column u is at (W − 1 − 2u)/min(W, H). We project with K ourselves, so every K is served, skew included.

Two limits of PyTorch3D: it leaves out faces of less than 5e-9 in these units (a hundredth of a pixel square in an image
of 200), and in float32 it loses some digits of faces far smaller than a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared_pose_ros.rendering.rasterizer import PackedMeshes

try:
    from pytorch3d.renderer.mesh import rasterize_meshes
    from pytorch3d.structures import Meshes
except ImportError as error:
    raise ImportError(
        f"rasterizer 'pytorch3d' needs the package pytorch3d, which does not load here ({error}); "
        "`make setup-pytorch3d` makes .venv-pytorch3d, an environment that has it, or choose the rasterizer 'warp'"
    ) from error

# Faces that reach behind the camera are cut at this share of the largest depth.
_NEAR = 1e-3


class PyTorch3DRasterizer:
    """Rasterises with PyTorch3D, every face against every pixel (its "naive" method: exact, no bins to overflow)."""

    @torch.no_grad()
    def rasterize(
        self,
        meshes: PackedMeshes,
        object_index: Tensor,
        rotation: Tensor,
        translation: Tensor,
        camera: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Draw one object an image; see ``Rasterizer.rasterize``."""
        return self.draw(meshes, object_index, rotation, translation, camera, size)[0]

    def draw(
        self,
        meshes: PackedMeshes,
        object_index: Tensor,
        rotation: Tensor,
        translation: Tensor,
        camera: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Face ids, and PyTorch3D's own z-buffer with its own gradient, to compare with ``depth.plane_depth``.

        Args:
            meshes: the pack, on the device of the poses.
            object_index: ``(B,)`` int64.
            rotation: ``(B, 3, 3)``.
            translation: ``(B, 3)``, unit of the vertices.
            camera: ``(3, 3)`` or ``(B, 3, 3)``.
            size: (height, width).

        Returns:
            ``(B, H, W)`` int64 as of ``rasterize``, and ``(B, H, W)`` float32 depth in the unit of the vertices, 0 at
            background, differentiable in rotation and translation.

        Raises:
            ValueError: the number of cameras is neither one nor that of the images.
        """
        batch = object_index.shape[0]
        if batch == 0:
            empty = torch.empty(0, *size, device=rotation.device)
            return empty.long(), empty
        camera = camera.to(rotation.device).double().reshape(-1, 3, 3)
        if camera.shape[0] not in (1, batch):
            raise ValueError(f"{camera.shape[0]} camera matrices for {batch} images; give one, or one per image")
        camera = camera.expand(batch, 3, 3)
        rotation, translation = rotation.double(), translation.double()
        parts = {index: _part(meshes, index) for index in set(object_index.tolist())}
        corners, faces = [], []
        for image, index in enumerate(object_index.tolist()):
            vertices, part_faces = parts[index]
            corners.append(vertices @ rotation[image].T + translation[image])
            faces.append(part_faces)
        depths = torch.cat([points[:, 2] for points in corners]).detach()
        near = _NEAR * float(depths.max())
        clip = near if float(depths.min()) < near else None
        projected = [_to_device_coordinates(points, k, size, near) for points, k in zip(corners, camera)]
        found, depth, _, _ = rasterize_meshes(
            Meshes(projected, faces),
            image_size=size,
            blur_radius=0.0,
            faces_per_pixel=1,
            bin_size=0,
            perspective_correct=True,
            clip_barycentric_coords=False,
            cull_backfaces=False,
            z_clip_value=clip,
        )
        found, depth = found[..., 0], depth[..., 0]
        # PyTorch3D numbers the faces of the batch, we those of the pack.
        counts = torch.tensor([len(part) for part in faces], device=found.device)
        shift = meshes.face_offsets.long()[object_index] - (counts.cumsum(0) - counts)
        hit = found >= 0
        return torch.where(hit, found + shift[:, None, None], -1), torch.where(hit, depth, 0.0)


def _part(meshes: PackedMeshes, index: int) -> tuple[Tensor, Tensor]:
    """Vertices ``(V, 3)`` float64 and faces ``(F, 3)`` int64 of one object of the pack."""
    first, last = meshes.face_offsets[index : index + 2].tolist()
    faces = meshes.faces[first:last].long()
    low, high = int(faces.min()), int(faces.max()) + 1
    return meshes.vertices[low:high].double(), faces - low


def _to_device_coordinates(points: Tensor, camera: Tensor, size: tuple[int, int], near: float) -> Tensor:
    """Camera-frame points ``(V, 3)`` as PyTorch3D's x, y and the depth, ``(V, 3)`` float32."""
    x, y, z = points.unbind(1)
    # A corner in the plane of the camera has no image; clipping, which works on x·z and y·z, needs a number.
    divisor = torch.where(z.abs() < 1e-3 * abs(near), 1e-3 * abs(near) + 1e-30, z)
    u = (camera[0, 0] * x + camera[0, 1] * y) / divisor + camera[0, 2]
    v = camera[1, 1] * y / divisor + camera[1, 2]
    height, width = size
    shorter = min(height, width)
    return torch.stack([(width - 1 - 2 * u) / shorter, (height - 1 - 2 * v) / shorter, divisor], dim=1).float()
