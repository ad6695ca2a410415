"""Wavefront OBJ files: positions and polygons, without textures, normals, groups, lines and points.

Lengths stay in the file's unit. Why not trimesh here: it counts negative indices from the file's last vertex instead of
from the face that holds them, and splits concave polygons into fans.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.file_text import text_of
from shared_pose_ros.meshes.polygons import Polygons

_CONTINUED = re.compile(r"\\[ \t]*\n")
_AFTER_SLASH = re.compile(r"\s*/[^\s]*")
_FREE_FORM = {"curv", "curv2", "surf", "cstype"}


def read_obj(path: Path) -> tuple[NDArray[np.float64], Polygons]:
    """Read positions and polygons.

    Args:
        path: the file.

    Returns:
        Vertices ``(V, 3)`` in the file's unit and polygons.

    Raises:
        ValueError: no vertices, a line that is not understood, or a face of vertices that are not there; in words for
            people.
    """
    text = text_of(path.read_bytes())
    lines = (_CONTINUED.sub(" ", text) if "\\" in text else text).split("\n")
    positions: list[str] = []
    faces: list[str] = []
    before: list[int] = []  # vertices above each face: negative indices count back from there
    others: set[str] = set()
    for line in lines:
        if "#" in line or "\t" in line or line[:2] not in ("v ", "f "):
            line = line.partition("#")[0].replace("\t", " ").strip()
        key, _, rest = line.partition(" ")
        if key == "v":
            positions.append(rest)
        elif key in ("f", "fo"):  # codespell:ignore fo
            faces.append(rest)
            before.append(len(positions))
        else:
            others.add(key)
    if not positions:
        raise ValueError("it has no line 'v x y z', so no vertices; export it as OBJ from what it is")
    if not faces and others & _FREE_FORM:
        raise ValueError("it holds free-form curves or surfaces and no faces; export it as polygons")
    return _positions(positions), _polygons(faces, np.array(before, dtype=np.int64), len(positions))


def _positions(lines: list[str]) -> NDArray[np.float64]:
    """``(V, 3)``; a fourth number (a weight) and colours are left out."""
    position = np.empty((len(lines), 3))
    for k, line in enumerate(lines):
        try:
            x, y, z = line.split()[:3]
            position[k] = float(x), float(y), float(z)
        except ValueError as error:
            hint = "write decimals with a point" if "," in line else "check it in a text editor"
            raise ValueError(f"'v {' '.join(line.split())[:80]}' is not three numbers; {hint}") from error
    return position


def _polygons(lines: list[str], before: NDArray[np.int64], count: int) -> Polygons:
    """Faces with indices from 0; ``before`` is the number of vertices above each."""
    text = "\n".join(lines)
    rows = (_AFTER_SLASH.sub("", text) if "/" in text else text).split("\n") if lines else []
    words = [row.split() for row in rows]
    sizes = np.array([len(row) for row in words], dtype=np.int64)
    flat = [word for row in words for word in row]
    try:
        index = np.fromiter(map(int, flat), np.int64, len(flat))
    except ValueError as error:
        number = re.compile(r"[-+]?\d+")
        odd = next(line for line, row in zip(lines, words) if not all(map(number.fullmatch, row)))
        raise ValueError(f"'f {odd.strip()[:80]}' is not a row of vertices; check it in a text editor") from error
    above = np.repeat(before, sizes)
    index = np.where(index > 0, index - 1, np.where(index < 0, above + index, -1))
    wrong = (index < 0) | (index >= count)
    if wrong.any():
        face = int(np.searchsorted(np.cumsum(sizes), int(wrong.argmax()), side="right"))
        raise ValueError(
            f"face {face + 1} ('f {lines[face].strip()[:80]}') names vertex {flat[int(wrong.argmax())]}, and the file "
            f"has {count}, counted from 1, {int(before[face])} of them above that face; export it again"
        )
    return Polygons(index, sizes)
