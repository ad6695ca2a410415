"""STL files, binary and ASCII. Only corners are read: normals and colours are not. Lengths stay in the file's unit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.file_text import text_of
from shared_pose_ros.meshes.polygons import Polygons

_HEAD, _ROW = 84, 50
_ROWS = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")])
_NAMES = re.compile(r"^[ \t]*(?:end[ \t]*)?solid\b(?:(?!\bfacet\s+normal\b)[^\n])*", re.MULTILINE)
_CORNER = re.compile(r"vertex\s+(\S+)\s+(\S+)\s+(\S+)")
_WORDS = re.compile(r"\b(?:facet|endfacet|end facet|loop|endloop|end loop|vertex)\b")
_CORNERS = ("vertex", "", "", "") * 3
_FACET = ("facet", "normal", "", "", "", "outer", "loop", *_CORNERS, "endloop", "endfacet")
_LARGEST = 1e12  # no coordinate of a part in any unit: such "numbers" are other data


def read_stl(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | Polygons]:
    """Read corners and faces.

    A file is binary if and only if its size says so: 84 bytes and 50 for each triangle that its header announces, and
    whatever may follow. Anything else is ASCII, in upper or lower case, of one solid or several.

    Args:
        path: the file.

    Returns:
        Vertices ``(V, 3)`` in the file's unit and triangles ``(F, 3)``, or polygons; no faces share vertices.

    Raises:
        ValueError: neither of the two, or cut off; in words for people.
    """
    data = path.read_bytes()
    announced = int.from_bytes(data[80:_HEAD], "little")
    text = "" if len(data) >= _HEAD + _ROW * max(announced, 1) else text_of(data)
    if re.search(r"vertex", text, re.IGNORECASE):
        return _ascii(text.lower())
    if text.lstrip()[:5].lower() == "solid" and "\x00" not in text:
        raise ValueError("it is an ASCII STL without a facet: an empty solid; export a part that has a volume")
    if len(data) < _HEAD or len(data) < _HEAD + _ROW * announced or announced == 0:
        raise ValueError(_not_binary(data, announced))
    corners = np.frombuffer(data, _ROWS, announced, _HEAD)["corners"]
    return corners.reshape(-1, 3).astype(np.float64), np.arange(3 * announced).reshape(-1, 3)


def _not_binary(data: bytes, announced: int) -> str:
    """Why bytes that are not ASCII STL are not binary STL either; a cut only where whole triangles were found."""
    if len(data) < _HEAD:
        return f"it is no STL: {len(data)} bytes, and no ASCII facet; a binary file has at least {_HEAD}"
    if announced == 0:
        following = len(data) - _HEAD
        return f"its header announces 0 triangles, {following} bytes follow; export it again with its facets"
    whole = np.frombuffer(data, _ROWS, (len(data) - _HEAD) // _ROW, _HEAD)
    numbers = np.concatenate([whole["corners"].ravel(), whole["normal"].ravel()]).astype(np.float64)
    needed = _HEAD + _ROW * announced
    if len(whole) and np.isfinite(numbers).all() and np.abs(numbers).max() < _LARGEST and numbers.any():
        return (
            f"the file is truncated: {len(data)} bytes of {needed} for {announced} triangles, of which {len(whole)} "
            "are there; copy or export it again"
        )
    return (
        f"it is no STL: not ASCII (it has no 'vertex'), and not binary ({len(data)} bytes, while its bytes 80 to 83 "
        f"would announce {announced} triangles in {needed} bytes); convert it from what it is"
    )


def _ascii(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64] | Polygons]:
    """Corners and faces of lower-case text; every loop is a face."""
    ended = text.rfind("endsolid") > text.rfind("vertex")
    text = _NAMES.sub("", text)  # a solid's name may hold any word
    if (usual := _usual(text.split())) is not None:
        return usual, np.arange(len(usual)).reshape(-1, 3)
    found = _CORNER.findall(text)
    kinds = np.array([word.replace(" ", "") for word in _WORDS.findall(text)])
    if not (kinds == "vertex").any():
        raise ValueError("it is an ASCII STL without a facet: an empty solid; export a part that has a volume")
    whole = int((kinds == "endfacet").sum())
    if kinds[-1] != "endfacet" and not ended:
        raise ValueError(f"the file is truncated: it ends within facet {whole + 1}; copy or export it again")
    if kinds[-1] != "endfacet" or (kinds == "vertex").sum() != len(found):
        raise ValueError("a facet lacks its 'endfacet', or a vertex its three numbers; check it in a text editor")
    try:
        corners = np.array([[float(word) for word in corner] for corner in found])
    except ValueError as error:
        raise ValueError(_odd_number(found)) from error
    ends = np.cumsum(kinds == "vertex")[kinds == "endloop"]
    sizes = np.diff(ends, prepend=0)
    if ends.sum() == 0 or ends[-1] != len(corners) or len(ends) != (kinds == "loop").sum():
        raise ValueError("its 'outer loop' and 'endloop' do not pair up; check it in a text editor")
    if (sizes == 3).all():
        return corners, np.arange(len(corners)).reshape(-1, 3)
    return corners, Polygons(np.arange(len(corners)), sizes)


def _usual(words: list[str]) -> NDArray[np.float64] | None:
    """Corners ``(3F, 3)`` where every facet is written out in the usual 21 words; None for another file."""
    size = len(_FACET)
    if len(words) % size or any(set(words[k::size]) != {word} for k, word in enumerate(_FACET) if word):
        return None
    columns = [k for k, word in enumerate(_FACET) if not word and k > 4]
    try:
        values = [np.fromiter(map(float, words[k::size]), np.float64) for k in columns]
    except ValueError:
        return None
    return np.stack(values, axis=1).reshape(-1, 3)


def _odd_number(found: list[tuple[str, str, str]]) -> str:
    """What the first corner that is not three numbers looks like."""
    for corner in found:
        try:
            [float(word) for word in corner]
        except ValueError:
            break
    hint = "write decimals with a point" if any("," in word for word in corner) else "check it in a text editor"
    return f"'vertex {' '.join(corner)}' is not three numbers; {hint}"
