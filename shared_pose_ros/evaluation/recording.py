"""A bag read as far as it goes: whole bags through ``rosbags``, damaged ones through ``salvage``.

Convention: times in nanoseconds; messages in order of recording.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from shared_pose_ros.evaluation import bag, salvage


@dataclass
class Recording:
    """An opened bag.

    Attributes:
        path: as given.
        topics: message type by topic name.
        problems: what is wrong with the bag, one sentence each; a pass over ``messages`` may add to it.
    """

    path: Path
    topics: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    files: Sequence[Path] = ()
    typestore: Typestore | None = None
    """Of a damaged bag, which is read file by file; None for a whole one."""

    @property
    def damaged(self) -> bool:
        """Whether something of the bag could not be read."""
        return bool(self.problems)

    def messages(self, topics: Collection[str]) -> Iterator[bag.BagMessage]:
        """The messages on these topics up to the first damage, which is noted in ``problems``, not raised."""
        source = bag.read_bag(self.path, topics) if self.typestore is None else self._salvaged(topics)
        count = 0
        try:
            for message in source:
                count += 1
                yield message
        # Whatever rosbags and the storage libraries meet in damaged data.
        except Exception as error:
            self._note(f"{self.path.name}: reading ended after {count} messages ({' '.join(str(error).split())})")

    def _salvaged(self, topics: Collection[str]) -> Iterator[bag.BagMessage]:
        for file in self.files:
            try:
                for raw in salvage.read_file(file):
                    if raw.topic in topics:
                        yield bag.BagMessage(raw.topic, raw.type, raw.time_ns, raw.data, self.typestore)
            except salvage.DamageError as damage:
                self._note(str(damage))

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def open_recording(path: str | Path) -> Recording:
    """Open a bag, damaged or not.

    Args:
        path: its folder, with or without metadata.yaml, or a single .mcap or .db3 file.

    Raises:
        BagError: there is nothing to read: no such bag, or not one message in it that can be.
    """
    path = Path(path)
    files = salvage.storage_files(path)
    reason = "no such bag" if not path.exists() else "no .mcap or .db3 file in it"
    if files and not any(salvage.is_cut(file) for file in files):
        try:
            return Recording(path, bag.bag_topics(path))
        # A database with a damaged page raises what sqlite raises.
        except Exception as error:
            reason = " ".join(str(error).split())
    recording = Recording(path, {}, files=files, typestore=get_typestore(Stores.EMPTY))
    topics: dict[str, str] = {}
    definitions: dict[str, str] = {}
    for file in files:
        try:
            for raw in salvage.read_file(file):
                topics[raw.topic] = raw.type
                definitions[raw.type] = raw.definition
        except salvage.DamageError as damage:
            reason = str(damage)
            recording.problems.append(reason)
    if not topics:
        raise bag.BagError(f"{path}: not a readable bag ({reason}); give the folder of a rosbag2 recording")
    if not recording.problems:
        absent = path.is_dir() and not (path / "metadata.yaml").is_file()
        reason = "it has no metadata.yaml" if absent else reason
        recording.problems.append(f"{path.name}: {reason}; read file by file, to the end")
    recording.topics, recording.typestore = topics, _typestore(definitions)
    return recording


def _typestore(definitions: Mapping[str, str]) -> Typestore:
    """The bag's own definitions where it has them for all its types, else those of this installation."""
    if not all(definitions.values()):
        return bag.message_types()
    types = {}
    for name, text in definitions.items():
        types.update(get_types_from_msg(text, name))
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store
