"""Where this checkout is, for tests that read or run its files."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# On a ROS machine ROS and its messages come from elsewhere, and versions are its own.
made_by_make = pytest.mark.skipif(
    not (Path(sys.prefix) / "setup.json").is_file(), reason="checks the environment that `make setup` makes"
)
