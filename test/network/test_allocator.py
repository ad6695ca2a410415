"""Memory that was freed stays in the process: using it again faults no pages in."""

import subprocess
import sys

from checkout import ROOT

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


def test_freed_memory_is_used_again_without_page_faults():
    root = ROOT
    faults = {}
    for name in ("as it is", "tuned"):
        command = [sys.executable, "-c", PROGRAM, name]
        faults[name] = int(subprocess.run(command, cwd=root, capture_output=True, check=True).stdout)
    assert faults["tuned"] < 10 < 50 <= faults["as it is"], faults
