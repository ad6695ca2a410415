"""PLY files: reads ASCII and binary of any polygons, writes binary triangles.

Why not trimesh here: it refuses binary files that mix triangles, quads and polygons (the usual export of modelling
programs), drops the last, incomplete row of a truncated ASCII file without a word, and reads ASCII row by row.
Only positions and faces are kept; polygons are split into fans. Lengths stay in the file's unit.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ORDER = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_STRUCT = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
_CORNERS = ("vertex_indices", "vertex_index")
Polygons = Sequence[Sequence[int]] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Property:
    """A number of ``kind``, or a list of ``kind`` whose length is a ``count_kind``."""

    name: str
    kind: str
    count_kind: str = ""


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]

    @property
    def has_lists(self) -> bool:
        return any(entry.count_kind for entry in self.properties)


def read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read positions and triangulated faces.

    Args:
        path: the file.

    Returns:
        Vertices ``(V, 3)`` in the file's unit and triangles ``(F, 3)``; either may be empty.

    Raises:
        ValueError: not a PLY, truncated, or without positions; in words for people.
    """
    data = path.read_bytes()
    order, elements, position = _header(data)
    vertices = np.zeros((0, 3))
    polygons: Polygons = []
    rows = [] if order else [row for row in data[position:].split(b"\n") if row.strip()]
    expected = sum(element.count for element in elements)
    if not order and len(rows) < expected:
        raise ValueError(f"the file is truncated: {len(rows)} of {expected} rows")
    first = 0
    for element in elements:
        if not order:
            own, first = rows[first : first + element.count], first + element.count
            table = _ascii_lists(element, own) if element.has_lists else _ascii_numbers(element, own)
        elif element.has_lists:
            table, position = _binary_lists(element, data, position, order)
        else:
            table, position = _binary_numbers(element, data, position, order)
        if element.name == "vertex":
            if element.has_lists or not {"x", "y", "z"} <= set(table):
                raise ValueError("its vertices have no x, y and z")
            vertices = np.stack([np.asarray(table[axis], dtype=np.float64) for axis in "xyz"], axis=1)
        elif element.name == "face":
            polygons = next((table[name] for name in _CORNERS if name in table), [])
    return vertices, _fans(polygons)


def write_ply(path: Path, vertices: NDArray[np.floating], faces: NDArray[np.integer], comment: str) -> None:
    """Write a binary file of float32 positions and triangles.

    Args:
        path: the file.
        vertices: ``(V, 3)`` in the file's unit.
        faces: ``(F, 3)``.
        comment: one line of the header, for example the unit.
    """
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment {comment}\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    path.write_bytes(header.encode("ascii") + vertices.astype("<f4").tobytes() + rows.tobytes())


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order ("" for ASCII), elements, and the offset of the first row."""
    end = data.find(b"end_header")
    newline = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or newline < 0:
        raise ValueError("it has no PLY header")
    order, elements = None, []
    try:
        for line in data[:end].decode("ascii", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["format"]:
                order = _ORDER[words[1]]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2]), []))
            elif words[:2] == ["property", "list"]:
                elements[-1].properties.append(_Property(words[4], _TYPES[words[3]], _TYPES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1].properties.append(_Property(words[2], _TYPES[words[1]]))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"its header has a line that is not understood: '{line}'") from error
    if order is None or any(element.count < 0 for element in elements):
        raise ValueError("its header names no format, or a negative count")
    return order, elements, newline + 1


def _ascii_numbers(element: _Element, rows: list[bytes]) -> dict[str, NDArray[Any]]:
    width = len(element.properties)
    try:
        values = np.array(b" ".join(rows).split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"a {element.name} row holds something other than numbers") from error
    if values.size != width * element.count:
        raise ValueError(f"the rows of '{element.name}' hold {values.size} numbers instead of {width * element.count}")
    table = values.reshape(element.count, width)
    return {entry.name: table[:, column] for column, entry in enumerate(element.properties)}


def _ascii_lists(element: _Element, rows: list[bytes]) -> dict[str, Any]:
    """Triangles alone, the usual case, are read at once; others row by row."""
    if len(element.properties) == 1 and all(row.startswith(b"3 ") for row in rows):
        words = b" ".join(rows).split()
        if len(words) == 4 * element.count and all(word.isdigit() for word in words):
            table = np.array(words, dtype=np.float64).astype(np.int64).reshape(-1, 4)
            return {element.properties[0].name: table[:, 1:]}
    lists: dict[str, list[Any]] = {entry.name: [] for entry in element.properties if entry.count_kind}
    for row in rows:
        words, at = row.split(), 0
        try:
            for entry in element.properties:
                length = int(words[at]) if entry.count_kind else 0
                if entry.name in _CORNERS:
                    lists[entry.name].append([int(words[at + 1 + k]) for k in range(length)])
                at += 1 + length
        except (IndexError, ValueError) as error:
            raise ValueError(f"the row '{row.decode('ascii', 'replace').strip()}' is cut or damaged") from error
    return dict(lists)


def _binary_numbers(element: _Element, data: bytes, position: int, order: str) -> tuple[dict[str, NDArray[Any]], int]:
    layout = np.dtype([(entry.name, order + entry.kind) for entry in element.properties])
    end = position + element.count * layout.itemsize
    if end > len(data):
        raise ValueError(f"the file is truncated: {len(data)} bytes, '{element.name}' alone ends at {end}")
    table = np.frombuffer(data, dtype=layout, count=element.count, offset=position)
    return {entry.name: table[entry.name] for entry in element.properties}, end


def _binary_lists(element: _Element, data: bytes, position: int, order: str) -> tuple[dict[str, Any], int]:
    """Lists of one length, the usual case, are read at once; others row by row."""
    if len(element.properties) == 1 and element.count:
        entry = element.properties[0]
        count_type = np.dtype(order + entry.count_kind)
        if position + count_type.itemsize > len(data):
            raise ValueError("the file is truncated")
        length = int(np.frombuffer(data, count_type, 1, position)[0])
        layout = np.dtype([("count", count_type), ("items", order + entry.kind, (length,))])
        end = position + element.count * layout.itemsize
        if end <= len(data):
            table = np.frombuffer(data, layout, element.count, position)
            if (table["count"] == length).all():
                return {entry.name: table["items"]}, end
    lists: dict[str, list[Any]] = {entry.name: [] for entry in element.properties if entry.count_kind}
    try:
        for _ in range(element.count):
            for entry in element.properties:
                length = 1
                if entry.count_kind:
                    (length,) = struct.unpack_from(order + _STRUCT[entry.count_kind], data, position)
                    position += int(entry.count_kind[1])
                items = struct.unpack_from(f"{order}{length}{_STRUCT[entry.kind]}", data, position)
                position += length * int(entry.kind[1])
                if entry.count_kind:
                    lists[entry.name].append(items)
    except struct.error as error:
        raise ValueError(f"the file is truncated within '{element.name}'") from error
    return dict(lists), position


def _fans(polygons: Polygons) -> NDArray[np.int64]:
    """Triangles ``(F, 3)`` of polygons given as rows of corners."""
    if len(polygons) == 0:
        return np.zeros((0, 3), dtype=np.int64)
    if isinstance(polygons, np.ndarray) and polygons.shape[1] == 3:
        return polygons.astype(np.int64)
    fans = [(p[0], p[k], p[k + 1]) for p in polygons for k in range(1, len(p) - 1)]
    return np.asarray(fans, dtype=np.int64).reshape(-1, 3)
