"""The only file that names ``torch.jit``: TorchScript is deprecated upstream.

A bundle is written with it, runs faster with it, and needs it only for networks that this package has no classes for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from shared_pose_ros.bundle.archive import first_line


def script(module: nn.Module) -> nn.Module:
    """The module compiled: the same answers to the bit, without Python between the layers."""
    return torch.jit.script(module)


def script_if_possible(module: nn.Module) -> tuple[nn.Module, str]:
    """The module compiled, or as it is and the reason."""
    try:
        return script(module), ""
    except Exception as error:  # of a torch that has no TorchScript any more, or a module that it cannot take
        return module, f"TorchScript cannot compile it ({type(error).__name__}: {first_line(error)})"


def save(module: nn.Module, path: Path, extra: Mapping[str, bytes]) -> None:
    """Write a compiled module and extra entries; raises OSError or RuntimeError."""
    torch.jit.save(module, str(path), _extra_files=dict(extra))


def load(path: Path, device: torch.device) -> nn.Module:
    """The graph of a file in evaluation mode; raises RuntimeError or ValueError."""
    return torch.jit.load(str(path), map_location=device).eval()
