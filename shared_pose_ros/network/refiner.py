"""The refiner: compares a crop with a render of a hypothesis and says how to turn it, and how wrong it is.

Render-and-compare as in CosyPose (Labbé et al., ECCV 2020) and MegaPose (CoRL 2022), small enough for a CPU: two trunks
of the shared encoder's blocks, one for crops and one for renders, joined at three resolutions. It knows no object and
no symmetry, so it serves parts that it never saw. Convention: camera axes as the crop shows the object (allocentric),
before the viewing-ray correction; the refined rotation is increment · hypothesis.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from shared_pose_ros.geometry.rotations import rotation_from_6d
from shared_pose_ros.network.strided_encoder import CompactEncoder, EncoderBlock, StridedEncoder

REFINER_SIZE = 64
"""Side of crops and renders, pixels."""
RENDER_CHANNELS = 4
"""Of a render: its light, and the normal in the camera's axes."""
_JOINED = (128, 192, 192)
_HIDDEN = 256
# Scales of the last layer: an untrained refiner turns little and expects an error of exp(−2) radians.
_INCREMENT_SCALE, _LOG_ERROR = 0.3, -2.0


class PoseRefiner(nn.Module):
    """From a crop and a render to an increment and two expected errors.

    Args:
        encoder: whose blocks the trunks begin with, trained or not; by default a new compact one.
    """

    def __init__(self, encoder: StridedEncoder | None = None) -> None:
        super().__init__()
        encoder = encoder or CompactEncoder(REFINER_SIZE)
        self.crop_blocks: nn.Sequential = copy.deepcopy(encoder.blocks)
        self.render_blocks = _for_renders(encoder.blocks)
        *_, second, third, fourth = encoder.channels
        self.join_second = _block(2 * second, _JOINED[0], stride=2)
        self.join_third = _block(_JOINED[0] + 2 * third, _JOINED[1], stride=2)
        self.join_fourth = _block(_JOINED[1] + 2 * fourth, _JOINED[2], stride=1)
        cells = (REFINER_SIZE // 16) ** 2
        self.hidden = nn.Linear(_JOINED[2] * cells, _HIDDEN)
        self.output = nn.Linear(_HIDDEN, 8)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()

    def forward(self, crops: Tensor, renders: Tensor, crop_of: Tensor) -> tuple[Tensor, Tensor]:
        """Compare every render with its crop.

        Args:
            crops: ``(B, 3, S, S)`` normalised, S = ``REFINER_SIZE``.
            renders: ``(H, 4, S, S)``, of ``rendering.hypotheses``.
            crop_of: ``(H,)`` int64, the crop that each is compared with.

        Returns:
            Increments ``(H, 3, 3)``, and the logarithm of the expected rotation error in radians ``(H, 2)``: of the
            hypothesis as it was drawn, and after the increment.
        """
        return self.compare(self.seen(crops), renders, crop_of)

    def seen(self, crops: Tensor) -> list[Tensor]:
        """What ``compare`` needs of crops; it stays the same for all hypotheses and steps."""
        return self._maps(self.crop_blocks, crops)

    def compare(self, seen: list[Tensor], renders: Tensor, crop_of: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, with what ``seen`` gave."""
        drawn = self._maps(self.render_blocks, renders)
        joined = self.join_second(torch.cat([seen[0][crop_of], drawn[0]], dim=1))
        joined = self.join_third(torch.cat([joined, seen[1][crop_of], drawn[1]], dim=1))
        joined = self.join_fourth(torch.cat([joined, seen[2][crop_of], drawn[2]], dim=1))
        return self.answer(self.output(torch.relu(self.hidden(joined.flatten(1)))).float())

    @staticmethod
    def answer(found: Tensor) -> tuple[Tensor, Tensor]:
        """Increments and logarithms of expected errors, of the last layer's ``(H, 8)`` float32."""
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], device=found.device)
        return rotation_from_6d(_INCREMENT_SCALE * found[:, :6] + identity), found[:, 6:] + _LOG_ERROR

    @staticmethod
    def _maps(blocks: nn.Sequential, images: Tensor) -> list[Tensor]:
        """The last three feature maps of a trunk."""
        maps: list[Tensor] = []
        for block in blocks:
            images = block(images)
            maps.append(images)
        return maps[1:]


def _for_renders(blocks: nn.Sequential) -> nn.Sequential:
    """A copy whose first layer takes a render: its light as grey of three colours, and normals with weight zero."""
    copied: nn.Sequential = copy.deepcopy(blocks)
    first = copied[0]
    if not isinstance(first, EncoderBlock):
        raise ValueError(f"the refiner takes blocks of {EncoderBlock.__name__}, not of {type(first).__name__}")
    old = first.convolution
    first.convolution = nn.Conv2d(RENDER_CHANNELS, old.out_channels, kernel_size=5, stride=2)
    with torch.no_grad():
        first.convolution.weight.zero_()
        first.convolution.weight[:, 0] = old.weight.sum(dim=1)
        if old.bias is not None and first.convolution.bias is not None:
            first.convolution.bias.copy_(old.bias)
    return copied


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
