"""What is left of a bag whose recorder was killed: no metadata.yaml, an mcap file without footer, a cut database.

Files are read from their beginning in the order in which they were written, up to the damage. Formats: MCAP
(https://mcap.dev/spec) and rosbag2's sqlite3 schema. Times are nanoseconds.

The package mcap (1.6.0, StreamReader, with or without emit_chunks) gives less, since it reads a chunk as a whole or not
at all. Of the 240 messages of models/demo_bag, whose chunks are not compressed, 60 cuts at random places left it 103 on
average, and this module 135; more in each of the 60. With compressed chunks, or with bits flipped instead, both gave
the same.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x02, 0x03, 0x04, 0x05, 0x06
_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True)
class RawMessage:
    """A message as stored: `definition` is its type's text in ROS's .msg format, empty if the file holds none."""

    topic: str
    type: str
    time_ns: int
    data: bytes
    definition: str = ""


class DamageError(Exception):
    """Where reading had to end, in words; what came before it is good."""


def storage_files(path: Path) -> list[Path]:
    """The storage files of a bag: the file itself, or those in the folder in the order of their numbers."""
    if path.is_file():
        return [path]
    found = [file for suffix in _SUFFIXES for file in path.glob(f"*{suffix}")] if path.is_dir() else []
    return sorted(found, key=lambda file: (len(file.name), file.name))


def is_cut(file: Path) -> bool:
    """Whether a storage file is shorter than it says: an mcap without its end, a database with fewer pages."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(100)
        if start.startswith(_SQLITE_MAGIC) and len(start) == 100:
            page, pages = struct.unpack_from(">H", start, 16)[0], struct.unpack_from(">I", start, 28)[0]
            return size < pages * (65536 if page == 1 else page)
        if not start.startswith(MCAP_MAGIC) or size < 2 * len(MCAP_MAGIC):
            return True
        stream.seek(-len(MCAP_MAGIC), 2)
        return stream.read() != MCAP_MAGIC


def read_file(file: Path) -> Iterator[RawMessage]:
    """Messages of one storage file in the order written; raises DamageError at the first place that cannot be read."""
    with file.open("rb") as stream:
        start = stream.read(len(_SQLITE_MAGIC))
    if start == _SQLITE_MAGIC:
        yield from _read_sqlite(file)
    elif start.startswith(MCAP_MAGIC):
        yield from _McapScan(file).messages()
    else:
        raise DamageError(f"{file.name} is neither an mcap nor a sqlite3 file")


def _read_sqlite(file: Path) -> Iterator[RawMessage]:
    # Without `immutable`, sqlite wants to write beside a database whose log (-wal) was left behind.
    mode = "mode=ro" if file.with_name(file.name + "-wal").is_file() else "immutable=1"
    count = 0
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?{mode}", uri=True)) as base:
            # Else sqlite refuses a file with fewer pages than its head says.
            base.execute("PRAGMA writable_schema=ON")
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            topics = {number: (name, kind) for number, name, kind in base.execute("SELECT id, name, type FROM topics")}
            definitions = {}
            if "message_definitions" in tables:
                query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
                definitions = {kind: text for kind, encoding, text in base.execute(query) if encoding == "ros2msg"}
            # By row: the index of times lies where the file was cut.
            rows = base.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id")
            for number, time_ns, data in rows:
                name, kind = topics[number]
                count += 1
                yield RawMessage(name, kind, time_ns, bytes(data), definitions.get(kind, ""))
    except (sqlite3.Error, KeyError) as error:
        raise DamageError(f"{file.name}: {error} after {count} messages") from error


class _McapScan:
    """One pass over an mcap file, record by record, into its chunks."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, tuple[str, int]] = {}

    def messages(self) -> Iterator[RawMessage]:
        count = 0
        try:
            with self._file.open("rb") as stream:
                stream.seek(len(MCAP_MAGIC))
                while head := stream.read(9):
                    if len(head) < 9:
                        raise DamageError("ends within a record")
                    kind, length = struct.unpack("<BQ", head)
                    if kind == _FOOTER:
                        return
                    content = stream.read(length)
                    for message in self._record(kind, content, complete=len(content) == length):
                        count += 1
                        yield message
                raise DamageError("has no footer")
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError) as error:
            raise DamageError(f"{self._file.name}: damaged record ({error!r}) after {count} messages") from error
        except DamageError as error:
            raise DamageError(f"{self._file.name} {error} after {count} messages") from error

    def _record(self, kind: int, content: bytes, complete: bool) -> Iterator[RawMessage]:
        if kind == _CHUNK:
            yield from self._chunk(content)
        elif not complete:
            pass
        elif kind == _SCHEMA:
            name, rest = _text(content, 2)
            encoding, rest = _text(content, rest)
            text, _ = _text(content, rest)
            self._schemas[struct.unpack_from("<H", content)[0]] = name, text if encoding == "ros2msg" else ""
        elif kind == _CHANNEL:
            number, schema = struct.unpack_from("<HH", content)
            self._channels[number] = _text(content, 4)[0], schema
        elif kind == _MESSAGE:
            number, _, time_ns, _ = struct.unpack_from("<HIQQ", content)
            topic, schema = self._channels[number]
            name, text = self._schemas[schema]
            yield RawMessage(topic, name, time_ns, content[22:], text)
        if not complete:
            raise DamageError("ends within a record")

    def _chunk(self, content: bytes) -> Iterator[RawMessage]:
        compression, place = _text(content, 28)
        (size,) = struct.unpack_from("<Q", content, 16)
        data, place = _decompressed(content[place + 8 :], compression, size), 0
        while place + 9 <= len(data):
            kind, length = struct.unpack_from("<BQ", data, place)
            end = place + 9 + length
            if end > len(data):
                return
            yield from self._record(kind, data[place + 9 : end], complete=True)
            place = end


def _text(content: bytes, place: int) -> tuple[str, int]:
    """A string with its 4-byte length at `place`, and where the next field begins."""
    (length,) = struct.unpack_from("<I", content, place)
    end = place + 4 + length
    if end > len(content):
        raise struct.error(f"a string of {length} bytes at {place} of {len(content)}")
    return content[place + 4 : end].decode(), end


def _decompressed(data: bytes, compression: str, size: int) -> bytes:
    """A chunk's records; of a cut chunk that is not compressed, as many as there are."""
    if not compression:
        return data
    if compression not in DECOMPRESSORS:
        raise DamageError(f"has chunks compressed with {compression!r}; known are lz4 and zstd")
    # lz4 and zstd raise errors of their own.
    try:
        return DECOMPRESSORS[compression](data, size)
    except Exception as error:
        raise DamageError(f"has a chunk that cannot be decompressed ({error})") from error
