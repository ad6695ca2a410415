"""Builds codebooks: every view of every object, rendered and encoded (METHOD 7; Sundermeyer et al., CVPR 2020).

Convention: R_m2c; a view is where the camera stands around the object and how it is turned about its axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor

from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.network.codebook_network import Codebook, CodebookNetwork
from shared_pose_ros.network.encoder_registry import encoder_class
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.config import EncoderConfig
from shared_pose_ros.training.synthesis import Synthesizer
from shared_pose_ros.training.transfer import EncoderWeights

VIEWPOINTS = 2562  # of an icosphere after four subdivisions, as in the paper
IN_PLANE = 36
_BATCH = 256


def view_rotations(viewpoints: int = VIEWPOINTS, in_plane: int = IN_PLANE) -> Tensor:
    """Rotations spread over SO(3): every viewpoint of an icosphere with every turn about the optical axis.

    Args:
        viewpoints: at least this many; an icosphere has 12, 42, 162, 642, 2562, …
        in_plane: turns of each, evenly over 360°.

    Returns:
        ``(V, 3, 3)`` float32 R_m2c, V = 92,232 by default.
    """
    level = next(level for level in range(20) if 10 * 4**level + 2 >= viewpoints)
    towards_camera = torch.tensor(trimesh.creation.icosphere(subdivisions=level).vertices, dtype=torch.float64)
    z = -F.normalize(towards_camera, dim=1)
    # Any axis that is not the viewing direction's will do: all turns about that follow.
    other = torch.where(z[:, 2:].abs() < 0.9, torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])).double()
    x = F.normalize(torch.linalg.cross(other, z), dim=1)
    upright = torch.stack([x, torch.linalg.cross(z, x), z], dim=1)
    angles = torch.arange(in_plane, dtype=torch.float64) * (2 * math.pi / in_plane)
    turns = torch.zeros(in_plane, 3, 3, dtype=torch.float64)
    turns[:, 0, 0] = turns[:, 1, 1] = angles.cos()
    turns[:, 1, 0], turns[:, 0, 1], turns[:, 2, 2] = angles.sin(), -angles.sin(), 1.0
    return (turns[None] @ upright[:, None]).reshape(-1, 3, 3).float()


@torch.no_grad()
def build_codebook(
    objects: ObjectSet,
    source: EncoderWeights,
    synthesis: EncoderConfig,
    device: torch.device,
    rotations: Tensor,
    hypotheses: int = 10,
    half: bool = False,
    progress: Callable[[int], None] = lambda views: None,
) -> CodebookNetwork:
    """Render and encode all views: under the fixed light, alone on black, as the autoencoder's targets.

    Args:
        objects: the CAD, in the codebook's order.
        source: the pre-trained encoder.
        synthesis: the settings that it was trained with.
        device: where to render and encode.
        rotations: the views ``(V, 3, 3)``.
        hypotheses: that a query is answered with.
        half: store codes in half precision, 24 MB an object instead of 47 at 92,232 views.
        progress: called with the number of views done since the last call.

    Returns:
        The network, on the CPU.
    """
    encoder = encoder_class(source.width)(source.crop_size)
    encoder.load_state_dict(source.encoder)
    encoder.to(device).eval()
    synthesizer = Synthesizer(
        objects, synthesis.synthesis, synthesis.augmentation, source.crop_size, make_rasterizer(), device
    )
    shape = len(objects), len(rotations), encoder.latent_size
    codes = torch.empty(shape, dtype=torch.float16 if half else torch.float32)
    for index in range(len(objects)):
        for start in range(0, len(rotations), _BATCH):
            views = rotations[start : start + _BATCH].to(device)
            which = torch.full((len(views),), index, dtype=torch.int64, device=device)
            code = F.normalize(encoder(synthesizer.plain_crops(which, views)), dim=1)
            codes[index, start : start + len(views)] = code.cpu().to(codes.dtype)
            progress(len(views))
    return CodebookNetwork(encoder.cpu(), Codebook(codes, rotations, hypotheses))
