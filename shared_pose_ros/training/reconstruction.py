"""The autoencoder's loss, and pictures of what it reconstructs (METHOD 5b)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_COLUMNS = 10
_SHOWN = 40  # at most this many samples in a picture
_SMALLEST_TILE = 64  # pixels; smaller crops are enlarged


def bootstrapped_loss(reconstructions: Tensor, targets: Tensor, ratio: int) -> Tensor:
    """Mean squared error over the hardest 1/ratio of each image's pixel values (Sundermeyer et al., ECCV 2018, 3.4).

    Without it the black background, most of every target, drowns the object.

    Args:
        reconstructions: ``(B, 3, S, S)``.
        targets: ``(B, 3, S, S)``.
        ratio: of all values to those that count; 1 is the plain mean.

    Returns:
        The mean over images, a scalar.
    """
    errors = (reconstructions - targets).square().flatten(1)
    return errors.topk(max(errors.shape[1] // ratio, 1), dim=1, sorted=False).values.mean()


def reconstruction_picture(crops: Tensor, targets: Tensor, reconstructions: Tensor, objects: int) -> NDArray[np.uint8]:
    """Rows of inputs, of their targets and of their reconstructions, three by three.

    Args:
        crops: ``(k·m, 3, S, S)`` in [0, 1], object by object.
        targets: the same shape.
        reconstructions: the same shape.
        objects: k.

    Returns:
        ``(H, W, 3)`` uint8 RGB; one image of every object in the first rows, then a second one, at most 40 in all.
    """
    layers = torch.stack([crops, targets, reconstructions]).float().clamp(0, 1).cpu()
    enlargement = -(-_SMALLEST_TILE // crops.shape[-1])
    layers = layers.repeat_interleave(enlargement, dim=3).repeat_interleave(enlargement, dim=4)
    layers = layers.unflatten(1, (objects, -1)).transpose(1, 2).flatten(1, 2)[:, :_SHOWN]
    columns = min(objects, _COLUMNS)
    rows = [_row(layers[:, start : start + columns], columns) for start in range(0, layers.shape[1], columns)]
    return (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def _row(layers: Tensor, columns: int) -> Tensor:
    """``(3, n, 3, S, S)`` as one picture ``(3, 3·S, columns·S)``, black where n is less than ``columns``."""
    layers = F.pad(layers, (0, 0) * 3 + (0, columns - layers.shape[1]))
    return layers.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
