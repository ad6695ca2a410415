"""PLY files that trimesh does not read or reads in part: binary files whose faces have different numbers of corners.

Modelling programs export quads and polygons side by side. trimesh reads ASCII files of any polygon and binary files of
equal polygons; this reader covers the rest, and tells whether an ASCII file is complete. Only positions and
faces are kept; polygons are split into fans. Lengths stay in the file's unit.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ORDER = {"binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **dict.fromkeys(("char", "int8"), "b"),
    **dict.fromkeys(("uchar", "uint8"), "B"),
    **dict.fromkeys(("short", "int16"), "h"),
    **dict.fromkeys(("ushort", "uint16"), "H"),
    **dict.fromkeys(("int", "int32"), "i"),
    **dict.fromkeys(("uint", "uint32"), "I"),
    **dict.fromkeys(("float", "float32"), "f"),
    **dict.fromkeys(("double", "float64"), "d"),
}
# One property: (name, type) of a number, or (name, count type, item type) of a list.
_Property = tuple[str, ...]


def read_binary_polygons(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read positions and triangulated faces of a binary PLY.

    Args:
        path: the file.

    Returns:
        Vertices ``(V, 3)`` in the file's unit and triangles ``(F, 3)``.

    Raises:
        ValueError: not a binary PLY, truncated, or without positions.
    """
    data = path.read_bytes()
    order, elements, position = _header(data)
    if not order:
        raise ValueError("not a binary PLY")
    vertices, triangles = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    for name, count, properties in elements:
        if all(len(entry) == 2 for entry in properties):
            rows, position = _number_rows(data, position, order, count, properties)
            if name == "vertex":
                vertices = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)
        else:
            polygons, position = _list_rows(data, position, order, count, properties)
            if name == "face":
                fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
                triangles = np.array(fans, dtype=np.int64).reshape(-1, 3)
    return vertices, triangles


def missing_rows(path: Path) -> str:
    """What a truncated ASCII PLY lacks, in words; "" for a complete file, a binary one or an unreadable header.

    trimesh drops the last, incomplete row of an ASCII file without a word.
    """
    data = path.read_bytes()
    try:
        order, elements, position = _header(data)
    except (ValueError, KeyError, IndexError):
        return ""
    expected = sum(count for _, count, _ in elements)
    if order or expected == 0:
        return ""
    rows = [row for row in data[position:].split(b"\n") if row.strip()]
    if len(rows) < expected:
        return f"{len(rows)} of {expected} rows"
    words, properties = rows[expected - 1].split(), [filled for _, count, filled in elements if count][-1]
    is_list = len(properties) == 1 and len(properties[0]) == 3 and words[0].isdigit()
    return "the last row is cut" if is_list and len(words) < 1 + int(words[0]) else ""


def _header(data: bytes) -> tuple[str, list[tuple[str, int, list[_Property]]], int]:
    """Byte order ("" for ASCII), elements as (name, count, properties), and the offset of the first row."""
    end = data.find(b"end_header")
    newline = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or newline < 0:
        raise ValueError("not a PLY header")
    order, elements = "", []
    for line in data[:end].decode("ascii", errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            order = _ORDER.get(words[1], "")
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements:
            types = [_TYPES[word] for word in (words[2:4] if words[1] == "list" else words[1:2])]
            elements[-1][2].append((words[-1], *types))
    return order, elements, newline + 1


def _number_rows(
    data: bytes, position: int, order: str, count: int, properties: list[_Property]
) -> tuple[NDArray, int]:
    layout = np.dtype([(name, order + kind) for name, kind in properties])
    end = position + count * layout.itemsize
    if end > len(data):
        raise ValueError("the file ends too early")
    return np.frombuffer(data, dtype=layout, count=count, offset=position), end


def _list_rows(
    data: bytes, position: int, order: str, count: int, properties: list[_Property]
) -> tuple[list[tuple[int, ...]], int]:
    """The corner list of each row; other properties are stepped over."""
    polygons = []
    try:
        for _ in range(count):
            for name, *types in properties:
                if len(types) == 1:
                    position += struct.calcsize(order + types[0])
                    continue
                (length,) = struct.unpack_from(order + types[0], data, position)
                position += struct.calcsize(order + types[0])
                layout = f"{order}{length}{types[1]}"
                if name in ("vertex_indices", "vertex_index"):
                    polygons.append(struct.unpack_from(layout, data, position))
                position += struct.calcsize(layout)
    except struct.error as error:
        raise ValueError("the file ends too early") from error
    return polygons, position
