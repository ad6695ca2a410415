"""Memory that was freed stays in the process: using it again faults no pages in."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from shared_pose_ros.network.allocator import tune_allocator
if sys.argv[1] == "tuned":
    tune_allocator()
def use():
    np.empty(40_000_000, np.uint8).fill(1)  # more than glibc keeps by itself
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_memory_is_used_again_without_page_faults():
    root = Path(__file__).resolve().parents[1]
    faults = {
        name: int(
            subprocess.run([sys.executable, "-c", PROGRAM, name], cwd=root, capture_output=True, check=True).stdout
        )
        for name in ("as it is", "tuned")
    }
    assert faults["tuned"] < 10 < 50 <= faults["as it is"], faults
