"""The precision that the encoder runs in (network/backends/fused.py), and that its weights are stored in.

The encoder is nearly all of the network's work. Processors with bf16 instructions run it twice as fast in bf16 as in
fp32, those with 8-bit dot products again up to twice as fast in int8 (int8.py); crop, head, rotations and
merging stay in fp32. Measured: docs/benchmarks/inference.md.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
CPUINFO = Path("/proc/cpuinfo")
STORAGES = ("fp32", "fp16")
# Largest difference of the latent codes from those in fp32, over the largest number in them, for the bundle's example.
# Found: 1e-6, 5e-3, fp16 not tried. int8: 0.03 to 0.19, as the stripes there are stronger than what ranges are made for
# (crops of objects: 0.02). What computes wrongly, or an untrained network in int8, shows far above.
CODE_TOLERANCES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05, "int8": 0.25}
_BF16_FLAGS = ("avx512_bf16", "amx_bf16")
_INT8_FLAGS = ("avx512_vnni", "avx_vnni")  # the first has been measured


def usable_precisions(name: str, device: torch.device, cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """The precisions that a network may run in, the one to take first.

    Args:
        name: one of ``PRECISIONS``. auto is int8 (with avx512_vnni), bf16 and fp32 on an x86 processor, as far as it
            has the instructions: only what has been measured is chosen unasked, and GPUs have not been. The later ones
            are for networks that do not compute the same latent codes in an earlier one; other names leave no choice.
        device: where the network runs.
        cpuinfo: of Linux (proc(5)); where there is none, no instructions are assumed.

    Returns:
        Of "fp32", "bf16", "fp16" and "int8", at least one.

    Raises:
        ValueError: an unknown name, or a precision that the device cannot compute in.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if name == "auto" and device.type != "cpu":
        return ("fp32",)
    if name == "auto":
        int8 = ("int8",) if has_int8(cpuinfo, _INT8_FLAGS[:1]) else ()
        return (*int8, *(("bf16",) if has_bf16(cpuinfo) else ()), "fp32")
    if name == "int8" and device.type != "cpu":
        raise ValueError(f"precision int8 is for CPUs, not for {device}; give auto, fp32, bf16 or fp16")
    if name == "int8" and not has_int8(cpuinfo):
        raise ValueError(
            f"precision int8 needs an x86 processor with {' or '.join(_INT8_FLAGS)} instructions, and this one has "
            "none; give auto, fp32 or bf16"
        )
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 is for GPUs, not for {device}; give auto, fp32 or bf16")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"the GPU {device} has no bf16; give auto, fp32 or fp16")
    return (name,)


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this is an x86 processor with bf16 instructions."""
    return _has_any(_BF16_FLAGS, cpuinfo)


def has_int8(cpuinfo: Path = CPUINFO, flags: tuple[str, ...] = _INT8_FLAGS) -> bool:
    """Whether this is an x86 processor with 8-bit dot products (VNNI), and torch has oneDNN's layers in 8 bits."""
    layers = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qconv2d_pointwise")
    return layers and _has_any(flags, cpuinfo)


def _has_any(flags: tuple[str, ...], cpuinfo: Path) -> bool:
    """Whether Linux names one of an x86 processor's flags."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    found = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in found for flag in flags)


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
