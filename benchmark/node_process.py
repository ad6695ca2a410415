"""What the system says of a process and of itself: memory, processor time, name and number of the processors. Linux."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from node_metrics import rounded

from shared_pose_ros.training.provenance import processor_name

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20


def resident_mib(pid: int) -> tuple[float, float]:
    """(resident memory now, its highest value so far) of a process in MiB; ProcessLookupError once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise ProcessLookupError(f"process {pid} has ended") from error
    values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    if "VmRSS" not in values:
        raise ProcessLookupError(f"process {pid} has ended")
    return int(values["VmRSS"][0]) / 1024, int(values["VmHWM"][0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def system_seconds() -> tuple[float, float]:
    """(busy, all) processor time of the machine, over its processors."""
    fields = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS, sum(fields) / TICKS


class ProcessWatch:
    """Samples a process and the machine in a thread while its `with` block runs; `report()` afterwards."""

    def __init__(self, pid: int, period: float = 0.2) -> None:
        """`period`: seconds between two samples."""
        self.resident: list[tuple[float, float]] = []
        """(when, MiB) of each sample; when is of the monotonic clock."""
        self.highest = 0.0
        self._pid, self._period = pid, period
        self._loads: list[float] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._began, self._cpu = time.monotonic(), cpu_seconds(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._lasted = time.monotonic() - self._began

    def report(self) -> dict[str, float]:
        """ResourceMetrics of ros2_benchmark (percent of all processors), and the process's own share and memory."""
        found: dict[str, float] = {}
        if self._loads:
            loads = np.array(self._loads)
            for name, call in (("MAX", np.max), ("MIN", np.min), ("MEAN", np.mean), ("STDDEV", np.std)):
                found[f"ResourceMetrics.{name}_OVERALL_CPU_UTILIZATION"] = rounded(float(call(loads)))
        found["node_cpu_percent_of_one_core"] = rounded(100 * (self._last_cpu - self._cpu) / self._lasted)
        found["node_resident_mib"] = rounded(float(np.median([value for _, value in self.resident[-5:]])))
        found["node_resident_highest_mib"] = rounded(self.highest)
        return found

    def _run(self) -> None:
        before, self._last_cpu = system_seconds(), self._cpu
        while True:
            try:
                now, self.highest = resident_mib(self._pid)
                self._last_cpu = cpu_seconds(self._pid)
            except (ProcessLookupError, FileNotFoundError):
                return
            self.resident.append((time.monotonic(), now))
            if self._ending.wait(self._period):
                return
            after = system_seconds()
            if after[1] > before[1]:
                self._loads.append(100 * (after[0] - before[0]) / (after[1] - before[1]))
            before = after


def hardware() -> dict[str, Any]:
    """Processor, its number, memory and the load average of the last minute."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB / 1024
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": rounded(memory),
        "load": rounded(os.getloadavg()[0]),
    }
