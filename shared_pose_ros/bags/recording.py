"""A bag read as far as it goes: whole bags through ``rosbags``, damaged ones through ``salvage``.

Convention: times in nanoseconds; messages in order of recording.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from shared_pose_ros.bags import bag_io, recovery


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

    def messages(self, topics: Collection[str]) -> Iterator[bag_io.BagMessage]:
        """The messages on these topics up to the first damage, which is noted in ``problems``, not raised."""
        store = self.typestore
        source = bag_io.read_bag(self.path, topics) if store is None else self._salvaged(topics, store)
        count = 0
        try:
            for message in source:
                count += 1
                yield message
        # Whatever rosbags and the storage libraries meet in damaged data.
        except Exception as error:
            self._note(f"{self.path.name}: reading ended after {count} messages ({' '.join(str(error).split())})")

    def find(self, topic: str, time_ns: int, accept: Callable[[Any], bool]) -> Any:
        """The message recorded on the topic at that time (ns) that is accepted; BagError if there is none."""
        if self.typestore is None:
            source = bag_io.read_bag(self.path, [topic], time_ns, time_ns + 1)
        else:
            source = (record for record in self._salvaged([topic], self.typestore) if record.time_ns == time_ns)
        for record in source:
            message = record.message()
            if accept(message):
                return message
        raise bag_io.BagError(f"{self.path}: the message on {topic} at {time_ns} ns is not there any more")

    def _salvaged(self, topics: Collection[str], typestore: Typestore) -> Iterator[bag_io.BagMessage]:
        for file in self.files:
            try:
                for raw in recovery.read_file(file):
                    if raw.topic in topics:
                        yield bag_io.BagMessage(raw.topic, raw.type, raw.time_ns, raw.data, typestore)
            except recovery.DamageError as damage:
                self._note(str(damage))

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


@dataclass(frozen=True)
class BagTopics:
    """Names of the topics that are replayed; None for one that the bag lacks or that is not wanted."""

    image: str
    detections: str
    camera_info: str | None
    truth: str | None
    depth: str | None = None

    @property
    def names(self) -> list[str]:
        """All of them."""
        given = (self.image, self.detections, self.camera_info, self.truth, self.depth)
        return [name for name in given if name is not None]


NONE = "none"
"""Given as a name, no such topic is taken."""
_IMAGES = (bag_io.IMAGE, bag_io.COMPRESSED_IMAGE)


def choose_topics(
    topics: Mapping[str, str],
    image: str | None = None,
    detections: str | None = None,
    camera_info: str | None = None,
    truth: str | None = None,
    no_truth: Collection[str] = (),
    depth: str | None = None,
) -> BagTopics:
    """Find the topics by type, or take them by name; depth images, whose type is the colour images', by name only.

    Of several CameraInfo topics the one beside the image is taken, as cameras name them.

    Args:
        topics: message type by topic name, of the bag.
        image: name of an Image or CompressedImage topic; None to find it.
        detections: of a Detection2DArray topic.
        camera_info: of a CameraInfo topic; `none` for no camera.
        truth: of a Detection3DArray topic; `none` for no truth.
        no_truth: Detection3DArray topics that are not the truth, such as recorded poses of the node.
        depth: name of an Image topic of depth images, which is then no candidate for the image; None for no depth.

    Raises:
        BagError: a topic is not there, has another type, or is one of several; the message lists the candidates.
    """
    chosen_depth = None if depth in (None, NONE) else _topic(topics, "depth", (bag_io.IMAGE,), depth)
    colour = {name: kind for name, kind in topics.items() if name != chosen_depth}
    chosen_image = _topic(colour, "image", _IMAGES, image)
    beside = f"{chosen_image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
    if camera_info is None and topics.get(beside) == bag_io.CAMERA_INFO:
        camera_info = beside
    poses = {name: kind for name, kind in topics.items() if truth is not None or name not in no_truth}
    return BagTopics(
        image=chosen_image,
        detections=_topic(topics, "detections", (bag_io.DETECTIONS_2D,), detections),
        camera_info=_optional_topic(topics, "camera-info", bag_io.CAMERA_INFO, camera_info),
        truth=_optional_topic(poses, "truth", bag_io.DETECTIONS_3D, truth),
        depth=chosen_depth,
    )


def _optional_topic(topics: Mapping[str, str], role: str, kind: str, name: str | None) -> str | None:
    if name == NONE or (name is None and kind not in topics.values()):
        return None
    return _topic(topics, role, (kind,), name, f" (or {NONE})")


def _topic(topics: Mapping[str, str], role: str, kinds: Sequence[str], name: str | None, or_none: str = "") -> str:
    found = sorted(topic for topic, kind in topics.items() if kind in kinds)
    wanted = " or ".join(kind.rpartition("/")[2] for kind in kinds)
    if name is not None:
        if name not in found:
            reason = f"is a {topics[name]}" if name in topics else "is not in the bag"
            raise bag_io.BagError(f"--{role} {name} {reason}; {wanted} topics are: {', '.join(found) or 'none'}")
        return name
    if len(found) == 1:
        return found[0]
    if found:
        several = f"the bag has several {wanted} topics, {', '.join(found)}; name one with --{role}{or_none}"
        raise bag_io.BagError(several)
    listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(topics.items()))
    raise bag_io.BagError(f"the bag has no {wanted} topic; it holds {listed or 'nothing'}")


def open_recording(path: str | Path) -> Recording:
    """Open a bag, damaged or not.

    Args:
        path: its folder, with or without metadata.yaml, or a single .mcap or .db3 file.

    Raises:
        BagError: there is nothing to read: no such bag, or not one message in it that can be.
    """
    path = Path(path)
    files = recovery.storage_files(path)
    reason = "no such bag" if not path.exists() else "no .mcap or .db3 file in it"
    if files and not any(recovery.is_cut(file) for file in files):
        try:
            return Recording(path, bag_io.bag_topics(path))
        # A database with a damaged page raises what sqlite raises.
        except Exception as error:
            reason = " ".join(str(error).split())
    recording = Recording(path, {}, files=files, typestore=get_typestore(Stores.EMPTY))
    topics: dict[str, str] = {}
    definitions: dict[str, str] = {}
    for file in files:
        try:
            for raw in recovery.read_file(file):
                topics[raw.topic] = raw.type
                definitions[raw.type] = raw.definition
        except recovery.DamageError as damage:
            reason = str(damage)
            recording.problems.append(reason)
    if not topics:
        raise bag_io.BagError(f"{path}: not a readable bag ({reason}); give the folder of a rosbag2 recording")
    if not recording.problems:
        absent = path.is_dir() and not (path / "metadata.yaml").is_file()
        reason = "it has no metadata.yaml" if absent else reason
        recording.problems.append(f"{path.name}: {reason}; read file by file, to the end")
    recording.topics, recording.typestore = topics, _typestore(definitions)
    return recording


def _typestore(definitions: Mapping[str, str]) -> Typestore:
    """The bag's own definitions where it has them for all its types, else those of this installation."""
    if not all(definitions.values()):
        return bag_io.message_types()
    types = {}
    for name, text in definitions.items():
        types.update(get_types_from_msg(text, name))
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store
