"""Object orientations from one shared network, trained from CAD files alone, for ROS 2."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["__version__"]


def _version() -> str:
    """Version from package.xml beside a source tree, else from the installed package's metadata."""
    manifest = Path(__file__).resolve().parent.parent / "package.xml"
    if manifest.is_file():
        root = ElementTree.parse(manifest).getroot()
        if root.findtext("name") == __name__:
            return root.findtext("version", default="").strip()
    return metadata.version(__name__)


__version__ = _version()
