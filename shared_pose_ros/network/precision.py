"""The precision that the encoder runs in, and that its weights are stored in.

The encoder is nearly all of the network's work. Processors with bf16 instructions run it twice as fast in bf16 as in
fp32; crop, head, rotations and merging stay in fp32. Measured: docs/benchmarks.md, section Inference.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
STORAGES = ("fp32", "fp16")
# Largest difference of the codes over their largest value, before and after the encoder changes its precision. bf16 has
# 8 bits: 0.5 to 1 % is found; a processor that computes it wrongly shows far above this.
CODE_TOLERANCE = 0.05
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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
        return "bf16" if device.type == "cpu" and _has_bf16(cpuinfo) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 is for GPUs, not for {device}; give auto, fp32 or bf16")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"the GPU {device} has no bf16; give auto, fp32 or fp16")
    return name


def _has_bf16(cpuinfo: Path) -> bool:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in _CPU_FLAGS)


class QuickNetwork(nn.Module):
    """A network around its encoder in another precision. Scriptable.

    Args:
        network: ``PoseNetwork`` or ``CodebookNetwork``, scripted or not. Its encoder is converted in place, so that the
            weights are in memory once.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = network
        self.head = network.head  # PixelsToHypotheses asks it for n
        self.dtype = _DTYPES[precision]
        if precision != "fp32":
            network.encoder.to(self.dtype, memory_format=torch.channels_last)
            for name, norm in network.encoder.named_modules():
                if name.endswith(".norm"):
                    norm.float()

    def forward(self, crops: Tensor, object_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations ``(B, n, 3, 3)`` and logits ``(B, n)`` of normalised crops ``(B, 3, S, S)``, all float32."""
        return self.network.hypotheses(self.code(crops), object_index)

    def code(self, crops: Tensor) -> Tensor:
        """Codes ``(B, 128)`` float32 of normalised crops ``(B, 3, S, S)`` float32."""
        if self.dtype != torch.float32:
            crops = crops.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.network._finish(self.network.encoder(crops).to(torch.float32))


def can_be_quick(network: nn.Module) -> bool:
    """Whether ``QuickNetwork`` can take the network apart: bundles of before had other parts."""
    return all(hasattr(network, name) for name in ("encoder", "head", "hypotheses", "_finish"))


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
