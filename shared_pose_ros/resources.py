"""Where the package's data files (config/, models/) are, in a checkout and in an installation."""

from __future__ import annotations

import sysconfig
from pathlib import Path

PACKAGE = "shared_pose_ros"


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
