"""Object sets: which objects a network learns, in its order, each with its mesh, identity and symmetries.

Conventions: metres, CAD frame. Three sources: an objects.yaml (class ids, names and symmetries stated, or
``symmetries: detect``), a BOP models folder (models_info.json and obj_000001.ply; millimetres and class_id "1" unless
an entry has another ``unit`` or ``class_id``), or a plain folder of mesh files (class_id = file name without suffix,
unit declared by the caller). object_index is the place in the set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from shared_pose_ros.meshes.diameter import diameter
from shared_pose_ros.meshes.left_out import is_system_file, left_out
from shared_pose_ros.meshes.mesh import READERS, Mesh, MeshError, load_surface, metres_per_unit, simplify
from shared_pose_ros.meshes.soundness import Surface
from shared_pose_ros.meshes.symmetries import Symmetries, detect_symmetries

# Half the largest extent of a normalised mesh: vertices are multiplied by 100 / scale.
NORMALISED_SIZE = 100.0
_YAML_KEYS = {"class_id", "name", "aliases", "file", "unit", "symmetries", "note"}
_REQUIRED_KEYS = {"class_id", "file", "unit"}


class ObjectSetError(ValueError):
    """An object set cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class ObjectModel:
    """One object.

    Attributes:
        class_id: the string that the detector publishes.
        aliases: other strings that mean the same object.
        name: for people.
        mesh: metres, CAD frame.
        diameter: largest distance between two vertices, metres; what models_info.json says in a BOP models folder.
        extents: sides of the bounding box, ``(3,)`` metres.
        centre: centre of the bounding box, ``(3,)`` metres, CAD frame.
        scale: half the largest extent, metres.
        symmetries: metres, CAD frame.
        path: the mesh file.
        unit: metres per unit of the mesh file.
        surface: what was found on the mesh's surface; None for a mesh that is not from a file.
        notes: sentences for people on what the file has and a sound mesh has not.
    """

    class_id: str
    aliases: tuple[str, ...]
    name: str
    mesh: Mesh
    diameter: float
    extents: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: float
    symmetries: Symmetries
    path: Path
    unit: float = 1.0
    surface: Surface | None = None
    notes: tuple[str, ...] = ()
    _normalised: dict[int | None, tuple[NDArray[np.float32], NDArray[np.int32]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def normalized(self, face_budget: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Mesh centred and scaled for the network: (v − centre)·100/scale.

        Args:
            face_budget: simplify to about this many faces; None keeps them all. Results are kept in memory.

        Returns:
            Vertices ``(V, 3)`` float32 in [−100, 100] (simplification may exceed it by 2) and faces ``(F, 3)`` int32.
        """
        if face_budget not in self._normalised:
            mesh = self.mesh if face_budget is None else simplify(self.mesh, face_budget)
            vertices = (mesh.vertices.astype(np.float64) - self.centre) * (NORMALISED_SIZE / self.scale)
            self._normalised[face_budget] = (vertices.astype(np.float32), mesh.faces)
        return self._normalised[face_budget]


@dataclass(frozen=True)
class ObjectSet:
    """Objects in the network's order; iterable, with a length, indexable by object_index.

    Attributes:
        objects: the objects.
        left_out: sentences for people on what the source holds and the set does not take: files and units.
    """

    objects: tuple[ObjectModel, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[ObjectModel]:
        return iter(self.objects)

    def __getitem__(self, index: int) -> ObjectModel:
        return self.objects[index]

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Class ids in the network's order."""
        return tuple(model.class_id for model in self.objects)

    def model(self, class_id: str) -> ObjectModel:
        """The object of a class id or alias; ObjectSetError when the set has no such object."""
        return self.objects[self.place(class_id)]

    def index(self, class_id: str) -> int | None:
        """object_index of a class id or alias; None when the set has no such object."""
        for position, model in enumerate(self.objects):
            if class_id == model.class_id or class_id in model.aliases:
                return position
        return None

    def place(self, class_id: str) -> int:
        """object_index of a class id or alias; ObjectSetError when the set has no such object."""
        position = self.index(class_id)
        if position is None:
            raise ObjectSetError(f"no CAD of class {class_id!r} among {', '.join(self.class_ids)}; load its mesh")
        return position

    @classmethod
    def load(
        cls,
        path: str | Path,
        unit: str | float | None = None,
        subset: Sequence[str | int] | None = None,
        shown: Collection[str] | None = None,
    ) -> ObjectSet:
        """Read an object set.

        Args:
            path: an objects.yaml, a folder with an objects.yaml, a BOP models folder, or a folder of mesh files.
            unit: of the mesh files in a plain folder, see ``mesh.metres_per_unit``; elsewhere the source states it.
            subset: class ids (or BOP numbers, or aliases) to keep, in the order given; None keeps all.
            shown: read only objects with one of these class ids or aliases; those that no object has are ignored.

        Raises:
            ObjectSetError: nothing there, wrong or duplicate entries, an id that the set does not have.
            MeshError: a mesh file that cannot be used.
        """
        path = Path(path)
        if path.is_dir() and (path / "objects.yaml").is_file():
            path = path / "objects.yaml"
        if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
            entries = _yaml_entries(path)
        elif path.is_dir() and (path / "models_info.json").is_file():
            entries = _bop_entries(path)
        elif path.is_dir():
            entries = _folder_entries(path, unit)
        elif path.exists():
            raise ObjectSetError(f"{path}: not an object set; give an objects.yaml or a folder of mesh files")
        else:
            raise ObjectSetError(f"{path}: no such file or folder; give an objects.yaml or a folder of mesh files")
        others = _not_taken(path, entries, unit)
        _check_unique(path, entries)
        if shown is not None:
            known = ", ".join(entry.class_id for entry in entries)
            entries = [entry for entry in entries if {entry.class_id, *entry.aliases}.intersection(shown)]
            if not entries:
                found = ", ".join(sorted(shown)) or "nothing"
                raise ObjectSetError(f"{path} holds {known}, the data show {found}; give the CAD of the data's objects")
        return cls(tuple(_load_object(entry) for entry in _select(path, entries, subset)), tuple(others))


@dataclass(frozen=True)
class _Entry:
    """What a source says about one object, before its mesh is read."""

    class_id: str
    name: str
    aliases: tuple[str, ...]
    path: Path
    unit: str | float
    symmetries: Symmetries | None  # None: find them on the mesh
    diameter: float | None = None  # metres; None: measure it


def _not_taken(path: Path, entries: Sequence[_Entry], unit: str | float | None) -> list[str]:
    """What of a source is left out: files, and a unit that the source states itself."""
    folder, source = (path, path / "models_info.json") if path.is_dir() else (path.parent, path)
    stated = source.is_file()
    taken = [entry.path for entry in entries] + [source] * stated
    notes = left_out(folder, taken, list(READERS), f"not listed in {source.name}" if stated else "not a file")
    if stated and unit is not None and any(metres_per_unit(entry.unit) != metres_per_unit(unit) for entry in entries):
        given = ", ".join(dict.fromkeys(str(entry.unit) for entry in entries))
        notes.append(f"{source}: states the unit itself ({given}); unit '{unit}' is not used")
    return notes


def _load_object(entry: _Entry) -> ObjectModel:
    mesh, surface, notes = load_surface(entry.path, entry.unit)
    extents = mesh.extents
    if entry.diameter is not None and not extents.max() / 2.0 <= entry.diameter <= 2.0 * np.linalg.norm(extents):
        raise ObjectSetError(
            f"{entry.path}: models_info.json states a diameter of {entry.diameter:.4g} m, the mesh has extents up to "
            f"{extents.max():.4g} m; correct its diameter or its unit, which is mm unless an entry states 'unit'"
        )
    size = entry.diameter or diameter(mesh)
    return ObjectModel(
        class_id=entry.class_id,
        aliases=entry.aliases,
        name=entry.name,
        mesh=mesh,
        diameter=size,
        extents=extents,
        centre=mesh.centre,
        scale=float(extents.max()) / 2.0,
        symmetries=detect_symmetries(mesh, 0.01 * size) if entry.symmetries is None else entry.symmetries,
        path=entry.path,
        unit=metres_per_unit(entry.unit),
        surface=surface,
        notes=tuple(notes),
    )


def _yaml_entries(path: Path) -> list[_Entry]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ObjectSetError(f"{path}: cannot be read as YAML ({error}); correct the file") from error
    objects = document.get("objects") if isinstance(document, Mapping) else None
    if not isinstance(objects, list) or not objects:
        raise ObjectSetError(f"{path}: has no objects; it needs a list 'objects' with class_id, file and unit each")
    return [_yaml_entry(path, number, item) for number, item in enumerate(objects)]


def _yaml_entry(path: Path, number: int, item: Any) -> _Entry:
    where = f"{path}: object {number}"
    if not isinstance(item, Mapping):
        raise ObjectSetError(f"{where} is {item!r}; it needs the keys {', '.join(sorted(_REQUIRED_KEYS))}")
    missing, unknown = _REQUIRED_KEYS - set(item), set(item) - _YAML_KEYS
    if missing or unknown:
        problem = f"lacks {', '.join(sorted(missing))}" if missing else f"has unknown {', '.join(map(str, unknown))}"
        raise ObjectSetError(f"{where} {problem}; its keys are {', '.join(sorted(_YAML_KEYS))}")
    class_id = str(item["class_id"])
    aliases, symmetries = item.get("aliases") or [], item.get("symmetries") or []
    detect = symmetries == "detect"
    if not isinstance(aliases, list) or not (detect or isinstance(symmetries, list)):
        raise ObjectSetError(f"{where} ({class_id}): aliases and symmetries must be lists (or symmetries: detect)")
    try:
        scale = metres_per_unit(item["unit"])
        parsed = None if detect else Symmetries.from_axes(symmetries, scale)
    except (ValueError, TypeError) as error:
        raise ObjectSetError(f"{where} ({class_id}): {error}") from error
    return _Entry(
        class_id=class_id,
        name=str(item.get("name", class_id)),
        aliases=tuple(str(alias) for alias in aliases),
        path=path.parent / str(item["file"]),
        unit=item["unit"],
        symmetries=parsed,
    )


def _bop_entries(folder: Path) -> list[_Entry]:
    path = folder / "models_info.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        infos = sorted(((int(key), info) for key, info in document.items()), key=lambda pair: pair[0])
    except (OSError, AttributeError, ValueError) as error:
        raise ObjectSetError(f"{path}: not a BOP models_info.json ({error}); fetch it again") from error
    if not infos:
        raise ObjectSetError(f"{path}: lists no objects; fetch it again")
    entries = []
    for number, info in infos:
        try:
            unit = info.get("unit", "mm")
            scale = metres_per_unit(unit)
            symmetries = Symmetries.from_bop(info, scale)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ObjectSetError(f"{path}: object {number}: {error}; correct its entry") from error
        size = info.get("diameter")
        if size is not None and not (isinstance(size, (int, float)) and 0.0 < size < float("inf")):
            raise ObjectSetError(f"{path}: object {number}: diameter is {size!r}; give millimetres, or leave it out")
        file = folder / f"obj_{number:06d}.ply"
        class_id, name = str(info.get("class_id", number)), str(info.get("name", file.stem))
        aliases = dict.fromkeys((str(number), file.stem, *map(str, info.get("aliases", ()))))
        aliases.pop(class_id, None)
        given = None if size is None else size * scale
        entries.append(_Entry(class_id, name, tuple(aliases), file, unit, symmetries, given))
    return entries


def _folder_entries(folder: Path, unit: str | float | None) -> list[_Entry]:
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in READERS]
    files = [file for file in found if file.is_file() and not is_system_file(file)]
    if not files:
        others = "; ".join(left_out(folder, (), list(READERS), "not a file"))
        found_instead = f"; what it holds: {others}" if others else ""
        raise ObjectSetError(
            f"{folder}: holds no {', '.join(READERS)} file, objects.yaml or models_info.json{found_instead}"
        )
    if unit is None:
        raise ObjectSetError(
            f"{folder}: the unit of the mesh files is not known; state it (--unit with m, cm, mm or in) or write an "
            "objects.yaml"
        )
    # Nobody states symmetries of bare files; training does without, but errors must not count them as wrong.
    return [_Entry(file.stem, file.stem, (), file, unit, None) for file in files]


def _check_unique(path: Path, entries: Sequence[_Entry]) -> None:
    owner: dict[str, str] = {}
    for entry in entries:
        if not entry.class_id.strip():
            raise ObjectSetError(f"{path}: an empty class_id; give each object the string that the detector publishes")
        for label in dict.fromkeys((entry.class_id, *entry.aliases)):
            if label in owner:
                raise ObjectSetError(
                    f"{path}: class id or alias '{label}' names both '{owner[label]}' and '{entry.class_id}' "
                    f"({entry.path.name}); make each one unique"
                )
            owner[label] = entry.class_id


def _select(path: Path, entries: Sequence[_Entry], subset: Sequence[str | int] | None) -> list[_Entry]:
    if subset is None:
        return list(entries)
    by_label = {label: entry for entry in entries for label in (*entry.aliases, entry.class_id)}
    selected: list[_Entry] = []
    for label in subset:
        entry = by_label.get(str(label))
        if entry is None:
            known = ", ".join(known_entry.class_id for known_entry in entries)
            raise ObjectSetError(f"{path}: no object '{label}'; it has {known}")
        if entry in selected:
            raise ObjectSetError(f"{path}: object '{label}' is asked for twice; name each object once")
        selected.append(entry)
    if not selected:
        raise ObjectSetError(f"{path}: an empty choice of objects; name at least one")
    return selected


__all__ = ["NORMALISED_SIZE", "MeshError", "ObjectModel", "ObjectSet", "ObjectSetError"]
