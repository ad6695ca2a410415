"""Where the package's data files (config/, models/) are, in a checkout and in an installation."""

from __future__ import annotations

import contextlib
import os
import sysconfig
from pathlib import Path

PACKAGE = "shared_pose_ros"
DDS_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Fast DDS reads the first one up to version 2, the second one from version 3."""


def share_folder() -> Path:
    """The folder that holds config/ and models/.

    Raises:
        FileNotFoundError: neither a checkout nor an installed share folder is found.
    """
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "config").is_dir() and (checkout / "package.xml").is_file():
        return checkout
    candidates = [Path(__file__).resolve().parents[level] / "share" / PACKAGE for level in (3, 4)]
    candidates.append(Path(sysconfig.get_path("data")) / "share" / PACKAGE)
    for candidate in candidates:
        if (candidate / "config").is_dir():
            return candidate
    places = ", ".join(map(str, candidates))
    raise FileNotFoundError(f"no share folder of {PACKAGE} (looked at {places}); reinstall the package")


def share_cores() -> None:
    """Let torch's threads sleep while they wait for each other, unless the user has said how. Call it before torch.

    By default they spin. Where other programs want the same cores, that makes a batch 10 times slower and more
    (measured: 2 cores; refinement of eight objects beside a training 700 ms instead of 25 ms).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_dds_profile() -> None:
    """Let large images pass through Fast DDS, unless the user has named a profile. Call it before ROS starts.

    With its default transports a third of 640x480 images, and most larger ones, were lost.
    """
    if any(name in os.environ for name in DDS_PROFILES):
        return
    # Without the file things work as they did, only worse.
    with contextlib.suppress(FileNotFoundError):
        os.environ.update(dict.fromkeys(DDS_PROFILES, str(share_folder() / "config" / "fastdds.xml")))
