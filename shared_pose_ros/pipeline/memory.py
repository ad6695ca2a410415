"""Memory: whether an error says that there is none left, and what the process holds. No ROS. MiB is 2**20 bytes.

Errors of allocation have no class in common: torch on a GPU raises torch.OutOfMemoryError, on the CPU a RuntimeError
("DefaultCPUAllocator: can't allocate memory"), inside TorchScript either one as another RuntimeError that holds its
text, numpy a MemoryError, OpenCV a cv2.error ("Insufficient memory").
"""

from __future__ import annotations

import gc
import os

import torch

MIB = 2**20
_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "insufficient memory",
    "not enough memory",
    "bad_alloc",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory could not be allocated, on the CPU or on a GPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _PHRASES)


def cause(error: BaseException) -> str:
    """An error's class and the line of its text that tells most.

    That is the one about memory, or the last one, since TorchScript puts its own stack before the cause.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if any(phrase in line.lower() for phrase in _PHRASES)] or lines[-1:]
    return ": ".join([type(error).__name__, *told[:1]])


def release_cached(cycles: bool = False) -> None:
    """Give back the GPU memory that torch keeps for later, with `cycles` that of Python's cycles too (0.1 s).

    Call it outside of `except`: an error's traceback keeps the tensors of its functions alive.
    """
    if cycles:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def resident_mib() -> float | None:
    """Memory of this process that is in RAM; None where the system does not tell (no /proc)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (OSError, ValueError, IndexError):
        return None


def thread_count() -> int | None:
    """Threads of this process, also those of torch and the middleware; None where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


def gpu_mib(device: torch.device | None) -> tuple[float | None, float | None]:
    """(allocated by tensors, reserved by torch) on a CUDA device; (None, None) for the CPU or no device."""
    if device is None or device.type != "cuda":
        return None, None
    return torch.cuda.memory_allocated(device) / MIB, torch.cuda.memory_reserved(device) / MIB
