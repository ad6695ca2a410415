"""The encoders by the name that training settings and bundles have for them, ``width``."""

from __future__ import annotations

from shared_pose_ros.network.encoder import Encoder
from shared_pose_ros.network.strided_encoder import CompactEncoder, PaperEncoder

ENCODERS: dict[str, type[Encoder]] = {"paper": PaperEncoder, "compact": CompactEncoder}


def encoder_class(width: str) -> type[Encoder]:
    """The encoder of a name, to ask for sizes or to make one for a crop size; raises ValueError for an unknown name."""
    if width not in ENCODERS:
        raise ValueError(f"encoder width {width!r} is unknown; choose one of {sorted(ENCODERS)}")
    return ENCODERS[width]
