"""PoseEstimator: the one inference path, called by the node, the evaluation and the replay.

Convention: rotations are R_m2c in the OpenCV optical frame; boxes (cx, cy, w, h) in pixels; metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shared_pose_ros.bundle import Bundle, BundleMetadata, Refiner, load_bundle
from shared_pose_ros.geometry.cameras import check_camera_matrix, ray_rotation, viewing_ray
from shared_pose_ros.geometry.depth_window import same_view
from shared_pose_ros.geometry.display_mesh import DisplayMesh
from shared_pose_ros.geometry.mesh_points import mesh_points
from shared_pose_ros.geometry.positions import estimate_positions


@dataclass(frozen=True)
class PoseEstimate:
    """Poses of B objects with n hypotheses each.

    Attributes:
        rotations: ``(B, n, 3, 3)`` float32 R_m2c, most confident first.
        confidences: ``(B, n)`` float32, rows sum to 1.
        translations: ``(B, 3)`` float32 metres, the CAD origin in the camera frame for the first hypothesis, from box,
            mesh and depth (``geometry.positions``); None without a camera matrix.
        ray_corrected: rotations include the allocentric-to-egocentric correction (along the viewing ray); false without
            a camera matrix.
        position_covariances: ``(B, 3, 3)`` float32 m² of the centre of the CAD's box; None without a camera matrix.
        depth_problems: why depth was not used, for each object, empty where it was; ``()`` without a depth image.
        deviations: ``(B,)`` radians, the standard deviation of one component of the rotation vector by which a refined
            hypothesis misses its own pose; NaN for those not refined, None where none is.
        refined_by: for each object "rendering", "depth" (maybe after rendering), or "" where the network's answer
            stays; ``()`` before refinement.
    """

    rotations: NDArray[np.float32]
    confidences: NDArray[np.float32]
    translations: NDArray[np.float32] | None
    ray_corrected: bool
    position_covariances: NDArray[np.float32] | None = None
    depth_problems: tuple[str, ...] = ()
    deviations: NDArray[np.float64] | None = None
    refined_by: tuple[str, ...] = ()


class PoseEstimator:
    """Runs a bundle.

    Args:
        bundle: loaded on ``device``.
        device: where it runs.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self._module, self.device = bundle.module, device
        self.metadata: BundleMetadata = bundle.metadata
        self.refiner: Refiner | None = bundle.refiner
        """Of hypotheses, None where the bundle has none."""
        self.precision, self.remark = bundle.precision, bundle.remark
        """Of the encoder; and why the network runs slower than it could, empty if it does not."""
        self._index = {
            name: index for index, item in enumerate(self.metadata.objects) for name in (*item.aliases, item.class_id)
        }
        # A class id wins over another object's alias of the same name.
        self._index.update({item.class_id: index for index, item in enumerate(self.metadata.objects)})
        self._extents = torch.tensor([item.extents for item in self.metadata.objects], dtype=torch.float32)
        self._centres = torch.tensor([item.centre for item in self.metadata.objects], dtype=torch.float32)
        self.use_meshes(bundle.meshes or (None,) * len(bundle.metadata.objects), bundle.fine_meshes)

    def use_meshes(
        self, meshes: tuple[DisplayMesh | None, ...], fine_meshes: tuple[DisplayMesh | None, ...] = ()
    ) -> None:
        """Take these meshes, one or None for each object, from now on.

        Args:
            meshes: for pictures, positions and the alignment to depth.
            fine_meshes: for refinement by rendering, which takes the others where there are none.
        """
        self.meshes, self.fine_meshes = meshes, fine_meshes or meshes
        self._points = mesh_points(meshes, self._centres)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", precision: str = "auto") -> PoseEstimator:
        """Load and verify a bundle file.

        Args:
            path: of a ``.pose.pt`` file.
            device: "cpu", "cuda", "cuda:1", …; "auto" takes a GPU if there is one.
            precision: of the encoder, "fp32", "bf16", "fp16" or "int8"; "auto" takes the fastest one measured.

        Raises:
            BundleError: the file cannot be used.
            ValueError: the device is unknown or absent, or cannot compute in that precision.
        """
        chosen = choose_device(device)
        return cls(load_bundle(path, chosen, precision), chosen)

    def object_index(self, class_id: str) -> int | None:
        """The network's index of a class id or alias, None if the bundle does not know it."""
        return self._index.get(class_id)

    def warm_up(self, image_size: tuple[int, int], batch_sizes: Sequence[int]) -> None:
        """Run every batch size twice, so that the first real frame pays no compilation.

        Args:
            image_size: (height, width).
            batch_sizes: numbers of objects.
        """
        image = np.zeros((*image_size, 3), dtype=np.uint8)
        height, width = image_size
        for count in batch_sizes:
            boxes = np.tile(np.array([width / 2, height / 2, width / 8, height / 8]), (count, 1))
            for _ in range(2):
                self.estimate(image, boxes, np.zeros(count, dtype=np.int64), None)

    def estimate(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.floating],
        object_index: NDArray[np.integer],
        camera_matrix: NDArray[np.floating] | None = None,
        depth: NDArray[np.floating] | None = None,
    ) -> PoseEstimate:
        """Poses of all objects of one image, in one batch.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            boxes: ``(B, 4)`` (cx, cy, w, h) in pixels, finite, w and h positive.
            object_index: ``(B,)`` in 0…k−1.
            camera_matrix: K ``(3, 3)``, or None: no allocentric-to-egocentric correction, no translation.
            depth: ``(h, w)`` metres along z, 0 where nothing was measured: the same view as the image, maybe of another
                size. Refines the translations; None, or no camera matrix: they come from the boxes.

        Raises:
            ValueError: an input of the wrong type, shape or range; the message names value and limit.
        """
        pixels = _image_tensor(image).to(self.device)
        index_tensor = _index_tensor(object_index, len(self.metadata.objects), self.metadata.name)
        box_tensor = _box_tensor(boxes, len(index_tensor))
        camera = None
        if camera_matrix is not None:
            camera = torch.from_numpy(np.array(camera_matrix, dtype=np.float32))
            check_camera_matrix(camera)
        depth_tensor = None if depth is None else _depth_tensor(depth, image.shape[:2])
        with torch.inference_mode():
            rotations, confidences = self._module(pixels, box_tensor.to(self.device), index_tensor.to(self.device))
            rotations, confidences = rotations.cpu(), confidences.cpu()
            if camera is None:
                return PoseEstimate(rotations.numpy(), confidences.numpy(), None, False)
            # The small rest is done where the result is needed.
            positions = estimate_positions(
                box_tensor,
                camera,
                rotations[:, 0],
                self._extents[index_tensor],
                depth_tensor,
                image.shape[:2],
                self._points.take(index_tensor, surface=depth is not None),
            )
            correction = ray_rotation(viewing_ray(camera, box_tensor[:, :2]))
            rotations = correction[:, None] @ rotations
            origin = positions.centres - (rotations[:, 0] @ self._centres[index_tensor][:, :, None])[:, :, 0]
        return PoseEstimate(
            rotations.numpy(),
            confidences.numpy(),
            origin.numpy(),
            True,
            positions.covariances.numpy(),
            positions.problems,
        )


def _image_tensor(image: object) -> torch.Tensor:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}".strip()
        raise ValueError(f"image is {got}; give uint8 RGB of shape (H, W, 3)")
    if image.size == 0:
        raise ValueError(f"image of shape {image.shape} has no pixels; give at least one")
    # torch warns of memory that may not be written, such as a message's bytes.
    return torch.from_numpy(np.require(image, requirements=["C", "W"]))


def _index_tensor(object_index: NDArray[np.integer], known: int, name: str) -> torch.Tensor:
    index = np.asarray(object_index)
    if index.ndim != 1 or (index.size and not np.issubdtype(index.dtype, np.integer)):
        raise ValueError(f"object_index is {index.dtype} of shape {index.shape}; give integers of shape (B,)")
    if index.size and not ((index >= 0) & (index < known)).all():
        raise ValueError(f"object_index {index.tolist()} is outside 0…{known - 1}, the objects of {name}")
    return torch.from_numpy(np.array(index, dtype=np.int64))


def _box_tensor(boxes: NDArray[np.floating], count: int) -> torch.Tensor:
    given = np.asarray(boxes)
    if given.shape != (count, 4) and not (given.size == 0 and count == 0):
        raise ValueError(f"boxes have shape {given.shape} for {count} objects; give (B, 4) and object_index (B,)")
    # As the network sees them: what float32 cannot hold is not finite, or not positive.
    with np.errstate(over="ignore", under="ignore"):
        values = np.array(given, dtype=np.float32).reshape(-1, 4)
    if not np.isfinite(values).all() or (values[:, 2:] <= 0).any():
        raise ValueError(
            f"boxes must be finite with positive width and height, got {given.tolist()}; drop the bad ones"
        )
    return torch.from_numpy(values)


def _depth_tensor(depth: NDArray[np.floating], image_size: tuple[int, int]) -> torch.Tensor:
    given = np.asarray(depth)
    if given.ndim != 2 or given.size == 0 or not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"depth is {given.dtype} of shape {given.shape}; give metres as floats of shape (h, w)")
    if not same_view(given.shape, image_size):
        raise ValueError(
            f"depth of {given.shape[1]}x{given.shape[0]} pixels is no view of the image of "
            f"{image_size[1]}x{image_size[0]}: their sides must have one ratio; register it to the colour image"
        )
    return torch.from_numpy(np.array(given, dtype=np.float32))


def choose_device(name: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "cuda:N"; raises ValueError when it is unknown or absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ValueError(f"device {name!r} was asked for, but {found} GPUs are usable; give auto or cpu")
    return device
