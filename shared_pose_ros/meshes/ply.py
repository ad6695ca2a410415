"""PLY files: reads ASCII and binary of any polygons, writes binary triangles.

Why not trimesh here: it refuses binary files that mix triangles, quads and polygons (the usual export of modelling
programs), drops the last, incomplete row of a truncated ASCII file without a word, and reads ASCII row by row.
Only positions and faces are kept. Lengths stay in the file's unit.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_pose_ros.meshes.file_text import text_of
from shared_pose_ros.meshes.polygons import Polygons

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
    **dict.fromkeys(("int64", "uint64"), "i8"),
}
_STRUCT = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "f4": "f", "f8": "d"}
_CORNERS = ("vertex_indices", "vertex_index")
_START = re.compile(rb"\s*(?i:ply)[ \t]*(\r\n|\n|\r)")
# By name, a column of numbers ``(N,)``, or of lists: their items end to end and their lengths ``(N,)``.
_Table = dict[str, Any]


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


def read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64] | Polygons]:
    """Read positions and faces.

    Args:
        path: the file.

    Returns:
        Vertices ``(V, 3)`` in the file's unit, and triangles ``(F, 3)`` or polygons; either may be empty.

    Raises:
        ValueError: not a PLY, truncated, or without positions; in words for people.
    """
    data = path.read_bytes()
    if not _START.match(data):  # with a byte-order mark, or in UTF-16
        data = text_of(data).encode("latin-1", errors="replace")
    order, elements, position = _header(data)
    rows = [] if order else [row for row in data[position:].replace(b"\r", b"\n").split(b"\n") if row.strip()]
    expected = sum(element.count for element in elements if element.properties)
    if not order and len(rows) < expected:
        raise ValueError(f"the file is truncated: {len(rows)} of {expected} rows; copy or export it again")
    vertices = np.zeros((0, 3))
    faces: NDArray[np.int64] | Polygons = np.zeros((0, 3), dtype=np.int64)
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
            if any(not isinstance(table.get(axis), np.ndarray) for axis in "xyz"):
                raise ValueError("its vertices have no x, y and z; export a mesh with positions")
            vertices = np.stack([np.asarray(table[axis], dtype=np.float64) for axis in "xyz"], axis=1)
        elif element.name == "face" and element.count:
            faces = _faces(table)
        elif element.name == "tristrips" and element.count:
            raise ValueError("its faces are triangle strips (element 'tristrips'); export plain faces")
    return vertices, faces


def _faces(table: _Table) -> NDArray[np.int64] | Polygons:
    """The corners' column of element 'face'."""
    lists = next((table[name] for name in _CORNERS if isinstance(table.get(name), tuple)), None)
    if lists is None:
        raise ValueError(f"its faces have no list {' or '.join(map(repr, _CORNERS))}; export a mesh with such faces")
    items, sizes = lists
    if (sizes == 3).all():
        return items.astype(np.int64).reshape(-1, 3)
    return Polygons(items.astype(np.int64), sizes)


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
    start = _START.match(data)
    # The line end of the first line, tried first: after another one a binary row may begin with a byte like it.
    endings = (re.escape(start[1]), rb"\r\n|\n|\r|\Z") if start else ()
    ends = (re.search(rb"(?<=[\r\n])end_header[ \t]*(?:" + ending + rb")", data) for ending in endings)
    end = next((match for match in ends if match), None)
    if end is None:
        raise ValueError("it has no PLY header, from 'ply' to 'end_header'")
    order, elements = None, []
    try:
        for line in data[: end.start()].decode("latin-1").splitlines():
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
    return order, elements, end.end()


def _ascii_numbers(element: _Element, rows: list[bytes]) -> _Table:
    width = len(element.properties)
    words = b" ".join(rows).split()
    try:
        values = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError as error:
        hint = ": write decimals with a point" if any(b"," in row for row in rows) else ""
        raise ValueError(f"a {element.name} row holds something other than numbers{hint}") from error
    if values.size != width * element.count:
        raise ValueError(f"the rows of '{element.name}' hold {values.size} numbers instead of {width * element.count}")
    table = values.reshape(element.count, width)
    return {entry.name: table[:, column] for column, entry in enumerate(element.properties)}


def _ascii_lists(element: _Element, rows: list[bytes]) -> _Table:
    """Triangles alone, the usual case, are read at once; others row by row."""
    if len(element.properties) == 1 and all(row.startswith(b"3 ") for row in rows):
        words = b" ".join(rows).split()
        if len(words) == 4 * element.count and all(word.isdigit() for word in words):
            table = np.fromiter(map(int, words), np.int64, len(words)).reshape(-1, 4)
            return {element.properties[0].name: (table[:, 1:].ravel(), table[:, 0])}
    columns = _Columns(element)
    for row in rows:
        words, at = row.split(), 0
        try:
            for entry, items in zip(element.properties, columns.items):
                length = 1
                if entry.count_kind:
                    length = int(float(words[at]))
                    columns.lengths[entry.name].append(length)
                    at += 1
                if length < 0 or len(words) < at + length:
                    raise IndexError
                items.extend(map(float, words[at : at + length]))
                at += length
        except IndexError:
            said = row.decode("latin-1").strip()[:80]
            raise ValueError(f"the row '{said}' is cut: it announces more; export it again") from None
        except ValueError as error:
            said = row.decode("latin-1").strip()[:80]
            raise ValueError(f"the row '{said}' holds something other than numbers; check it") from error
    return columns.table()


class _Columns:
    """Values of an element's properties, gathered row by row."""

    def __init__(self, element: _Element) -> None:
        self.properties = element.properties
        self.items: list[list[float]] = [[] for _ in element.properties]
        self.lengths: dict[str, list[int]] = {entry.name: [] for entry in element.properties if entry.count_kind}

    def table(self) -> _Table:
        """The columns as arrays."""
        arrays = {entry.name: np.array(items) for entry, items in zip(self.properties, self.items)}
        lengths = {name: np.array(values, dtype=np.int64) for name, values in self.lengths.items()}
        return {name: (array, lengths[name]) if name in lengths else array for name, array in arrays.items()}


def _binary_numbers(element: _Element, data: bytes, position: int, order: str) -> tuple[_Table, int]:
    layout = np.dtype([(f"{k}", order + entry.kind) for k, entry in enumerate(element.properties)])
    end = position + element.count * layout.itemsize
    if end > len(data):
        raise ValueError(f"the file is truncated: {len(data)} bytes, '{element.name}' alone ends at {end}")
    if not layout.itemsize:
        return {}, end
    table = np.frombuffer(data, dtype=layout, count=element.count, offset=position)
    return {entry.name: table[f"{k}"] for k, entry in enumerate(element.properties)}, end


def _binary_lists(element: _Element, data: bytes, position: int, order: str) -> tuple[_Table, int]:
    """Rows alike, the usual case, are read at once; others row by row."""
    try:
        if element.count and (alike := _binary_alike(element, data, position, order)):
            return alike
        columns = _Columns(element)
        for _ in range(element.count):
            for entry, items in zip(element.properties, columns.items):
                length = 1
                if entry.count_kind:
                    length = int(struct.unpack_from(order + _STRUCT[entry.count_kind], data, position)[0])
                    position += int(entry.count_kind[1])
                    if length < 0:
                        raise ValueError(f"a row of '{entry.name}' has {length} items; export it again")
                    columns.lengths[entry.name].append(length)
                items.extend(struct.unpack_from(f"{order}{length}{_STRUCT[entry.kind]}", data, position))
                position += length * int(entry.kind[1])
    except struct.error as error:
        raise ValueError(f"the file is truncated within '{element.name}'") from error
    return columns.table(), position


def _binary_alike(element: _Element, data: bytes, position: int, order: str) -> tuple[_Table, int] | None:
    """Rows whose lists are as long as the first row's; None for others. struct.error: the first row is cut."""
    fields: list[Any] = []
    at = position
    for k, entry in enumerate(element.properties):
        length = 1
        if entry.count_kind:
            length = int(struct.unpack_from(order + _STRUCT[entry.count_kind], data, at)[0])
            if not 0 <= length <= len(data):
                return None
            fields.append((f"n{k}", order + entry.count_kind))
            at += int(entry.count_kind[1])
        fields.append((f"{k}", order + entry.kind, (length,)))
        at += length * int(entry.kind[1])
    layout = np.dtype(fields)
    end = position + element.count * layout.itemsize
    if end > len(data):
        return None
    rows = np.frombuffer(data, layout, element.count, position)
    table: _Table = {}
    for k, entry in enumerate(element.properties):
        items = rows[f"{k}"]
        if entry.count_kind and (rows[f"n{k}"] != items.shape[1]).any():
            return None
        lengths = np.full(len(rows), items.shape[1], dtype=np.int64)
        table[entry.name] = (items.ravel(), lengths) if entry.count_kind else items[:, 0]
    return table, end
