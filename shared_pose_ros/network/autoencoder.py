"""The multi-path augmented autoencoder that pre-trains the encoder: one decoder per object on one encoder.

The architecture is that of Sundermeyer et al. (CVPR 2020). It serves in training only: the decoders are thrown away.
Convention: batches are object-major, the same number m of images of each of the k objects.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder import Encoder
from shared_pose_ros.network.encoder_registry import encoder_class

# Of an image enlarged ×2 by repetition, the five taps of a filter at position 2i + a fall on three pixels of the small
# one, i − 1, i and i + 1: row a of the table says which.
_TAPS = (
    ((1, 1, 0, 0, 0), (0, 0, 1, 1, 0), (0, 0, 0, 0, 1)),
    ((1, 0, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 1)),
)


class UpConvolution(nn.Module):
    """Nearest enlargement ×2, then a 5×5 convolution with zero padding; computed without enlarging.

    Each of the four pixels that come from one is a 3×3 convolution of the small image, with sums of the 5×5 weights:
    36 multiplications instead of 100. The parameters are those of the 5×5 convolution.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel_size=5, padding=2)
        self.taps: Tensor
        taps = torch.tensor(_TAPS, dtype=torch.float32)
        # (25, 36): from a 5×5 filter to its four 3×3 ones. One matrix product: an einsum of three spends more time on
        # the weights than the convolution on a small batch.
        taps = torch.einsum("apy,bqx->yxabpq", taps, taps).reshape(25, 36)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, S, S)`` -> ``(B, C', 2S, 2S)``."""
        weight, bias = self.convolution.weight, self.convolution.bias
        channels_out, channels_in = weight.shape[:2]
        phases = (weight.flatten(2) @ self.taps).reshape(channels_out, channels_in, 4, 3, 3).transpose(1, 2)
        # (4·C', C, 3, 3), the four side by side, as pixel_shuffle takes them apart.
        fine = F.conv2d(features, phases.flatten(0, 1), cast(Tensor, bias).repeat_interleave(4), padding=1)
        return F.pixel_shuffle(fine, 2)


class Decoder(nn.Module):
    """Latent codes ``(m, 128)`` of one object to its images ``(m, 3, S, S)``; channels mirror the encoder's.

    Args:
        encoder: or its class.
        crop_size: S in pixels, a multiple of 16.
    """

    def __init__(self, encoder: Encoder | type[Encoder], crop_size: int) -> None:
        super().__init__()
        channels = encoder.channels[::-1]
        self.grid = (channels[0], crop_size // 16, crop_size // 16)
        self.linear = nn.Linear(encoder.latent_size, channels[0] * (crop_size // 16) ** 2)
        # One mean and variance per channel, as in the encoder; m is too few for one per value of the linear layer.
        self.norm = nn.BatchNorm2d(channels[0], eps=1e-3)
        self.convolutions = nn.ModuleList(UpConvolution(a, b) for a, b in zip(channels, channels[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, eps=1e-3) for count in channels[1:])
        self.output = UpConvolution(channels[-1], 3)

    def forward(self, code: Tensor) -> Tensor:
        """Images ``(m, 3, S, S)`` in (0, 1), float32 also under autocast."""
        features = self.norm(F.relu(self.linear(code)).unflatten(1, self.grid))
        for convolution, norm in zip(self.convolutions, self.norms):
            features = norm(F.relu(convolution(features)))
        return torch.sigmoid(self.output(features).float())


class Autoencoder(nn.Module):
    """One encoder, k decoders.

    The decoders run in a loop over the objects, each on all its m images. One grouped convolution for all of them does
    the same arithmetic and is as fast on a CPU (ten objects, four images of each, compact width, 48 pixels, one core,
    forward and backward: 199 ms looped, 193 ms grouped), and a loop leaves every decoder a module of its own. On a GPU,
    unmeasured, it keeps to dense kernels, and at the paper's width one object's layer is work enough to hide a launch.

    Args:
        objects: k >= 1.
        width: of the encoder, a key of ``ENCODERS``.
        crop_size: S in pixels, a multiple of 16.

    Raises:
        ValueError: no object, an unknown width or a wrong crop size.
    """

    def __init__(self, objects: int, width: str, crop_size: int) -> None:
        super().__init__()
        if objects < 1:
            raise ValueError(f"an autoencoder of {objects} objects; it must be at least 1")
        self.encoder = encoder_class(width)(crop_size)
        self.decoders = nn.ModuleList(Decoder(self.encoder, crop_size) for _ in range(objects))

    def forward(self, crops: Tensor) -> Tensor:
        """Reconstructions of normalised crops.

        Args:
            crops: ``(k·m, 3, S, S)``, m of each object, object by object.

        Returns:
            ``(k·m, 3, S, S)`` in (0, 1).

        Raises:
            ValueError: the batch is no multiple of k.
        """
        count = len(self.decoders)
        if crops.shape[0] % count:
            raise ValueError(f"a batch of {crops.shape[0]} crops for {count} decoders; give as many of each object")
        codes = self.encoder(crops).chunk(count)
        return torch.cat([decoder(code) for decoder, code in zip(self.decoders, codes)])
