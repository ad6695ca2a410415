"""Which files of a folder an object set leaves out, and why: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

# What the operating systems put beside files; "._part.stl" is macOS's, and is no STL.
_SYSTEM = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}
# Other formats of parts, by what they hold.
_EXACT = {".step", ".stp", ".iges", ".igs", ".brep", ".x_t", ".x_b", ".sat", ".jt", ".prt", ".sldprt", ".ipt", ".fcstd"}
_EXACT |= {".catpart", ".par", ".3dm", ".f3d", ".sldasm", ".catproduct", ".iam", ".asm", ".dwg", ".dxf"}
_MESHES = {".glb", ".gltf", ".3mf", ".dae", ".wrl", ".off", ".fbx", ".blend", ".3ds", ".amf", ".x3d", ".usd", ".usdz"}
_MESHES |= {".ctm", ".vtk", ".stlb", ".gz", ".zip", ".7z", ".rar"}
# Names written out per reason, and per sub-folder; of more, how many.
_MOST_NAMES = 100
_MATERIAL = {".mtl", ".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".dds"}


def left_out(folder: Path, taken: Collection[Path], formats: Collection[str], unlisted: str) -> list[str]:
    """One sentence per reason, with the names of all files and sub-folders that have it.

    Args:
        folder: where the set lies.
        taken: its files.
        formats: suffixes of mesh files that can be read, in lower case.
        unlisted: why a mesh file in ``folder`` may not be taken.
    """
    known = ", ".join(formats)
    resolved = {path.resolve() for path in taken}
    reasons: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.resolve() not in resolved:
            reasons.setdefault(_reason(path, formats, unlisted, known), []).append(_name(path, formats))
    return [f"{folder}: {_listed(names)}: {reason}" for reason, names in reasons.items()]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _name(path: Path, formats: Collection[str]) -> str:
    """The name of a file, or of a folder with the mesh files in it."""
    if not path.is_dir():
        return path.name
    meshes = _meshes(path, formats)
    return f"{path.name}/ ({_listed(meshes)})" if meshes else f"{path.name}/"


def _meshes(folder: Path, formats: Collection[str]) -> list[str]:
    """Mesh files anywhere below, as paths from there."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in formats and not is_system_file(path))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def is_system_file(path: Path) -> bool:
    """Whether the operating system put it there, whatever its suffix says."""
    return path.name.startswith("._") or path.name.lower() in _SYSTEM


def _reason(path: Path, formats: Collection[str], unlisted: str, known: str) -> str:
    suffix = path.suffix.lower()
    if is_system_file(path):
        return "left out, the operating system's own"
    if path.is_dir():
        inside = "sub-folders are not read: move their files up, or write an objects.yaml that lists them"
        return inside if _meshes(path, formats) else "left out, sub-folders without mesh files"
    if suffix in formats:
        return "left out, a link that leads nowhere" if not path.exists() else f"left out, {unlisted}"
    if suffix in _EXACT:
        return f"left out, CAD without triangles: export it as {known}"
    if suffix in _MESHES:
        return f"left out, another format: convert it to {known}"
    if suffix in _MATERIAL:
        return "left out, materials and pictures are not used"
    return f"left out, no mesh file by its name ({known})"
