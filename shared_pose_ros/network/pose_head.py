"""The pose head: from a latent code to n weighted hypotheses for each of k objects, and the mask that selects one.

Output layout of the last layer: k·n confidence logits, then k·n·6 pose numbers, object-major in both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_pose_ros.network.encoder import LATENT_SIZE

_HIDDEN = 128
_LAST = 64


class PoseHead(nn.Module):
    """Six small layers with skip concatenations, batch norm before the ReLU.

    Args:
        objects: k >= 1.
        hypotheses: n >= 1 per object.
        latent_size: of the latent code.
    """

    def __init__(self, objects: int, hypotheses: int, latent_size: int = LATENT_SIZE) -> None:
        super().__init__()
        if objects < 1 or hypotheses < 1:
            raise ValueError(f"a head for {objects} objects with {hypotheses} hypotheses: both must be at least 1")
        self.objects = objects
        self.hypotheses = hypotheses
        self.layer1 = _layer(latent_size, _HIDDEN)
        self.layer2 = _layer(latent_size + _HIDDEN, _HIDDEN)
        self.layer3 = _layer(2 * _HIDDEN, _HIDDEN)
        self.layer4 = _layer(2 * _HIDDEN, _HIDDEN)
        self.layer5 = _layer(2 * _HIDDEN, _HIDDEN)
        self.layer6 = _layer(_HIDDEN, _LAST)
        self.output = nn.Linear(_LAST, objects * hypotheses * 7)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, mode="fan_out")

    def forward(self, code: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Hypotheses of one object per row.

        Args:
            code: latent, ``(B, 128)``.
            object_index: ``(B,)`` int64 in 0…k−1.

        Returns:
            6D vectors ``(B, n, 6)`` and confidence logits ``(B, n)``.
        """
        x1 = F.relu(self.layer1(code))
        x2 = F.relu(self.layer2(torch.cat([code, x1], dim=1)))
        x3 = F.relu(self.layer3(torch.cat([x1, x2], dim=1)))
        x4 = F.relu(self.layer4(torch.cat([x2, x3], dim=1)))
        x5 = F.relu(self.layer5(torch.cat([x3, x4], dim=1)))
        y = self.output(F.relu(self.layer6(x5)))
        split = self.objects * self.hypotheses
        logits = y[:, :split].reshape(-1, self.objects, self.hypotheses)
        vectors = y[:, split:].reshape(-1, self.objects, self.hypotheses, 6)
        rows = torch.arange(code.shape[0], device=code.device)
        return vectors[rows, object_index], logits[rows, object_index]


def _layer(features_in: int, features_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features_in, features_out), nn.BatchNorm1d(features_out))
