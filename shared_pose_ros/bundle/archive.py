"""Reads a bundle's file, a TorchScript archive, without TorchScript: its weights by name, and its extra entries.

The archive is a zip with everything below one folder. ``data.pkl`` is the tree of modules as a pickle of
protocol 2: a module is an object of a class ``__torch__.…`` with its attributes as a dict, and a tensor names a
storage. ``data/KEY`` are the bytes of a storage, ``byteorder`` is that of their numbers, ``extra/NAME`` are the
entries that were added, and ``code/…`` is the graph, which is not looked at. The pickle may name nothing but such
classes and what tensors are made of, so that reading a bundle runs no code from it.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
EXTRA = "extra/"
"""Where the archive keeps what was added."""
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class ArchiveError(ValueError):
    """The file is damaged or no TorchScript archive."""


@dataclass(frozen=True)
class Archive:
    """What a file holds.

    Attributes:
        weights: tensors by dotted name, on the CPU, as they were stored; empty where there is a problem.
        problem: why they cannot be read, although the file is whole; empty if they can.
        extra: the bytes of the added entries by name.
    """

    weights: dict[str, Tensor]
    problem: str
    extra: dict[str, bytes]


def read_archive(path: Path) -> Archive:
    """Read a whole file; ArchiveError says in one line why it cannot be."""
    try:
        with zipfile.ZipFile(path) as entries:
            root = archive_root(entries)
            below = root + EXTRA
            added = [name for name in entries.namelist() if name.startswith(below)]
            extra = {name.removeprefix(below): entries.read(name) for name in added}
            try:
                return Archive(_weights(entries, root), "", extra)
            except (zipfile.BadZipFile, OSError):
                raise
            except Exception as error:  # an unpickler raises whatever it meets
                return Archive({}, f"its weights are no plain tensors ({first_line(error)})", extra)
    except ArchiveError:
        raise
    except Exception as error:  # so does zipfile, of bytes that are not what they should be
        raise ArchiveError(first_line(error)) from error


def archive_root(entries: zipfile.ZipFile) -> str:
    """The folder in the zip that holds everything, with a slash; ArchiveError if this is no TorchScript archive."""
    for name in entries.namelist():
        if name.count("/") == 1 and name.endswith("/constants.pkl"):
            return name.removesuffix("constants.pkl")
    raise ArchiveError("it is no TorchScript archive")


def first_line(error: Exception) -> str:
    """Of its message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: Exception) -> str:
    """The same of the other end: TorchScript puts its own stack before the cause."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _weights(entries: zipfile.ZipFile, root: str) -> dict[str, Tensor]:
    names = set(entries.namelist())
    # Archives from before torch 2.1 do not say; nobody wrote them on big-endian machines.
    if root + "byteorder" in names and entries.read(root + "byteorder") != b"little":
        raise pickle.UnpicklingError("they are big-endian")
    storages: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        """All numbers of a storage, in memory that torch has aligned as for any tensor."""
        if key not in storages:
            entry = entries.getinfo(f"{root}data/{key}")
            if entry.file_size != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} has {entry.file_size} bytes for {count} numbers")
            storages[key] = torch.empty(count, dtype=dtype)
            if count:
                storages[key].view(torch.uint8).numpy().data[:] = entries.read(entry)
        return storages[key]

    tree = _TreeUnpickler(entries.read(root + "data.pkl"), storage).load()
    return dict(_tensors(tree, ""))


def _tensors(module: _Module, prefix: str) -> list[tuple[str, Tensor]]:
    """The tensors among the attributes of a module and of those below it, with dotted names."""
    found: list[tuple[str, Tensor]] = []
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            found.append((prefix + name, value))
        elif isinstance(value, _Module):
            found += _tensors(value, f"{prefix}{name}.")
    return found


class _Module:
    """Stands in for an object of a scripted class."""

    attributes: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        # A class with a state of its own making has no attributes to be found.
        if isinstance(state, dict):
            self.attributes = state


class _TreeUnpickler(pickle.Unpickler):
    """Builds the tree of modules, and refuses every name that such a tree has no need of."""

    def __init__(self, data: bytes, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        super().__init__(io.BytesIO(data))
        self._storage = storage
        # A class of this file's own: a pickle can set attributes of what it has a name for.
        self._module = type("Module", (_Module,), {})

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if module.split(".")[0] == "__torch__":
            return self._module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda flat, offset, size, stride, *_: flat.as_strided(size, stride, offset)
        if module == "torch.jit._pickle" and name in _LISTS:
            return lambda values: values
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, tag: value
        if (module, name) == ("collections", "OrderedDict"):
            return lambda *_: {}
        raise pickle.UnpicklingError(f"they need {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, as a tensor of all its numbers."""
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"they need a {kind}")
        return self._storage(key, dtype, count)
