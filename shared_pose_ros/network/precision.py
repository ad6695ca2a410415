"""The precision that the encoder runs in (network/quick.py), and that its weights are stored in.

The encoder is nearly all of the network's work. Processors with bf16 instructions run it twice as fast in bf16 as in
fp32; crop, head, rotations and merging stay in fp32. Measured: docs/benchmarks.md, section Inference.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
STORAGES = ("fp32", "fp16")
# Largest difference of the codes from those in fp32, over the largest code. Found: 1e-6, 5e-3, and fp16 not tried; what
# computes wrongly shows far above.
CODE_TOLERANCES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05}
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def choose_precision(name: str, device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The precision that a network runs in.

    Args:
        name: one of ``PRECISIONS``. auto is bf16 on an x86 processor with bf16 instructions, else fp32: only what has
            been measured is chosen unasked, and GPUs have not been.
        device: where the network runs.
        cpuinfo: of Linux (proc(5)); where there is none, no bf16 instructions are assumed.

    Returns:
        "fp32", "bf16" or "fp16".

    Raises:
        ValueError: an unknown name, or a precision that the device cannot compute in.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return "bf16" if device.type == "cpu" and has_bf16(cpuinfo) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 is for GPUs, not for {device}; give auto, fp32 or bf16")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"the GPU {device} has no bf16; give auto, fp32 or fp16")
    return name


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is an x86 processor with bf16 instructions."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in _CPU_FLAGS)


def halve(module: nn.Module) -> None:
    """Round all matrices and kernels to fp16, in place: half the memory. Biases and norms stay; they are small.

    Raises:
        ValueError: a weight beyond fp16's range.
    """
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dtype == torch.float32 and tensor.ndim > 1:
                if not torch.isfinite(tensor.half()).all():
                    raise ValueError(f"{name} reaches {float(tensor.abs().max()):.3g}, fp16 ends at 65504")
                tensor.data = tensor.half()
