"""Metadata of bundles for tests."""

from __future__ import annotations

import numpy as np
from shapes import box

from shared_pose_ros.bundle import BundleMetadata, BundleObject
from shared_pose_ros.geometry.display_mesh import DisplayMesh


def make_metadata(objects: int = 3, hypotheses: int = 4, crop_size: int = 32, storage: str = "fp32") -> BundleMetadata:
    """Metadata of a network for ``objects`` boxes of 60×40×20 mm called part_0, part_1, …, with aliases "0", "1", …"""
    described = tuple(
        BundleObject(
            class_id=f"part_{index}",
            aliases=(str(index),),
            name=f"part number {index}",
            diameter=0.0748,
            extents=(0.06, 0.04, 0.02),
            centre=(0.0, 0.0, 0.01 * index),
            scale=0.03,
        )
        for index in range(objects)
    )
    return BundleMetadata(
        name="tiny", objects=described, hypotheses=hypotheses, crop_pad=1.2, crop_size=crop_size,
        encoder_width="compact", tuning="full", normalize_code=False, preset="test", samples=0, seed=0, commit="none",
        storage=storage,
    )  # fmt: skip


def make_meshes() -> tuple[DisplayMesh, DisplayMesh, None]:
    """Display meshes of three such objects, the last without."""
    vertices, faces = box(0.06, 0.04, 0.02)
    boxes = [
        DisplayMesh((vertices + (0.0, 0.0, 0.01 * index)).astype(np.float32), faces.astype(np.uint16))
        for index in range(2)
    ]
    return (*boxes, None)
