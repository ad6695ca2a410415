"""Pinhole cameras: matrices, viewing rays, the off-axis correction.

Convention: OpenCV optical frame, x right, y down, z forward; pixel centres at integer coordinates; K is 3×3 in pixels;
metres. Functions take and return torch tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def camera_matrix(fx: float, fy: float, cx: float, cy: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """K from focal lengths and principal point, all in pixels.

    Returns:
        ``(3, 3)``.

    Example:
        >>> camera_matrix(500.0, 500.0, 320.0, 240.0)[0]
        tensor([500.,   0., 320.])
    """
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=dtype)


def check_camera_matrix(camera: Tensor) -> None:
    """Check that ``camera`` is a usable ``(3, 3)`` pinhole matrix in pixels.

    Raises:
        ValueError: another shape, not finite, fx or fy not positive, or a last row other than 0, 0, 1.
    """
    if tuple(camera.shape) != (3, 3):
        raise ValueError(f"camera matrix has shape {tuple(camera.shape)}; give a 3×3 matrix in pixels")
    if not torch.isfinite(camera).all():
        raise ValueError(f"camera matrix {camera.tolist()} is not finite; give the calibration's K in pixels")
    if camera[0, 0] <= 0 or camera[1, 1] <= 0:
        raise ValueError(
            f"focal lengths fx={float(camera[0, 0])}, fy={float(camera[1, 1])} must be positive; "
            "publish a calibrated CameraInfo or give no camera at all"
        )
    if camera[2].tolist() != [0.0, 0.0, 1.0]:
        raise ValueError(f"the last row of K is {camera[2].tolist()}; it must be 0, 0, 1")


def viewing_ray(camera: Tensor, pixels: Tensor) -> Tensor:
    """Unit vector from the camera centre through each pixel.

    Args:
        camera: K ``(3, 3)``.
        pixels: ``(..., 2)`` as (u, v).

    Returns:
        ``(..., 3)``, z > 0.
    """
    y = (pixels[..., 1] - camera[1, 2]) / camera[1, 1]
    x = (pixels[..., 0] - camera[0, 2] - camera[0, 1] * y) / camera[0, 0]
    ray = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return ray / ray.norm(dim=-1, keepdim=True)


def ray_rotation(ray: Tensor) -> Tensor:
    """The smallest rotation C that takes the optical axis (0, 0, 1) to a viewing ray (Rodrigues; exact).

    A crop shows an object as if it stood on the optical axis; its true rotation is C · R_network.

    Args:
        ray: ``(..., 3)`` unit vectors with z > −1.

    Returns:
        ``(..., 3, 3)``.
    """
    x, y, z = ray.unbind(-1)
    scale = 1.0 / (1.0 + z)
    rows = [
        1 - x * x * scale, -x * y * scale, x,
        -x * y * scale, 1 - y * y * scale, y,
        -x, -y, z,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
