"""What the rest of the package asks of an encoder.

A new one is a subclass and an entry in encoder_registry.py: docs/extending.md.
"""

from __future__ import annotations

from torch import Tensor, nn

LATENT_SIZE = 128


class Encoder(nn.Module):
    """Normalised crops ``(B, 3, S, S)`` to latent codes ``(B, latent_size)``.

    ``forward`` is scripted when a bundle is exported; the other methods serve in training. All tensors are parameters
    or persistent buffers: a bundle keeps no others.

    Args:
        crop_size: S in pixels.
    """

    channels: tuple[int, int, int, int]
    """Of the four feature maps."""
    latent_size: int = LATENT_SIZE

    def __init__(self, crop_size: int) -> None:
        super().__init__()

    def maps(self, crops: Tensor) -> list[Tensor]:
        """Feature maps ``(B, channels[i], S/2^(i+1), S/2^(i+1))`` for i = 0…3 of crops ``(B, 3, S, S)``."""
        raise NotImplementedError

    def code_of(self, features: Tensor) -> Tensor:
        """Latent codes ``(B, latent_size)`` of the last feature map."""
        raise NotImplementedError

    def first_layer(self) -> nn.Module:
        """The layer that reads pixels; Muon leaves it to Adam."""
        raise NotImplementedError

    def last_layer(self) -> nn.Module:
        """The layer that learns with ``tuning: last_layer``."""
        raise NotImplementedError

    @staticmethod
    def resized(weights: dict[str, Tensor], crop_size: int, new_crop_size: int) -> dict[str, Tensor]:
        """The state of an encoder of crops of side ``crop_size`` for a new one: the same if size does not matter."""
        return weights
