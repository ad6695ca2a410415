"""Bags of killed recorders: what was written before the end is read, in both storages, wherever the cut falls."""

import sqlite3

import pytest
import recorded_bag as made
from rosbags.rosbag2 import CompressionFormat, CompressionMode

from shared_pose_ros.bags import bag_io, recovery


def raw(messages):
    return [(m.topic, m.type, m.time_ns, m.data) for m in messages]


def read_until_damage(file):
    messages = []
    try:
        messages.extend(recovery.read_file(file))
    except recovery.DamageError as damage:
        return messages, str(damage)
    return messages, ""


@pytest.fixture(params=["mcap", "sqlite3"])
def whole(request, tmp_path):
    folder = made.ordinary(tmp_path / "bag", frames=10, storage=request.param)
    return folder, raw(bag_io.read_bag(folder))


def test_a_whole_file_is_read_to_its_end(whole):
    folder, expected = whole
    (file,) = recovery.storage_files(folder)
    messages, damage = read_until_damage(file)
    assert raw(messages) == expected and damage == "" and not recovery.is_cut(file)
    assert all("std_msgs/Header header" in message.definition for message in messages)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.62, 0.35])
def test_a_cut_file_gives_its_beginning_and_says_where_it_ends(whole, share):
    folder, expected = whole
    file = made.cut(folder, share)
    assert recovery.is_cut(file)
    messages, damage = read_until_damage(file)
    sound = [message for message in raw(messages) if message in expected]
    # A database keeps several rows on one page, and the last row may lie partly on a page that is gone.
    assert 0 < len(messages) <= len(expected) and len(messages) - len(sound) <= 1
    assert sound == expected[: len(sound)]
    assert len(sound) >= int(share * len(expected)) - 8
    if len(messages) < len(expected):
        assert file.name in damage and f"after {len(messages)} messages" in damage


@pytest.mark.parametrize("size", [0, 4, 8, 60])
def test_what_is_no_bag_is_named(whole, size):
    (file,) = recovery.storage_files(whole[0])
    file.write_bytes(file.read_bytes()[:size])
    assert recovery.is_cut(file)
    messages, damage = read_until_damage(file)
    assert messages == [] and file.name in damage


@pytest.mark.parametrize("storage", ["", "zstd"])
def test_compressed_chunks_are_read_while_they_are_whole(tmp_path, storage, monkeypatch):
    if storage:
        original = bag_io.Writer.__init__

        def compress(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)

        monkeypatch.setattr(bag_io.Writer, "__init__", compress)
    folder = made.ordinary(tmp_path / "bag", frames=40)  # several chunks of 1 MiB
    expected = raw(bag_io.read_bag(folder))
    (file,) = recovery.storage_files(folder)
    assert (b"zstd" in file.read_bytes()[:200]) == bool(storage)
    assert read_until_damage(file)[1] == "" and raw(read_until_damage(file)[0]) == expected
    made.cut(folder, 0.8)
    messages, damage = read_until_damage(file)
    assert raw(messages) == expected[: len(messages)] and len(expected) / 3 < len(messages) < len(expected)
    assert "cannot be decompressed" in damage if storage else "ends within a record" in damage


def test_an_unknown_compression_is_named():
    with pytest.raises(recovery.DamageError, match="compressed with 'brotli'; known are lz4 and zstd"):
        recovery._decompressed(b"data", "brotli", 4)


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 0):
        (tmp_path / f"bag_{number}.mcap").touch()
    (tmp_path / "notes.txt").touch()
    assert [file.name for file in recovery.storage_files(tmp_path)] == ["bag_0.mcap", "bag_9.mcap", "bag_10.mcap"]


def test_a_message_without_its_topic_ends_the_reading(tmp_path):
    folder = made.ordinary(tmp_path / "bag", frames=1, storage="sqlite3")
    (file,) = recovery.storage_files(folder)
    base = sqlite3.connect(file)
    base.execute("DELETE FROM topics WHERE name = ?", (made.IMAGE,))
    base.commit()
    base.close()
    messages, damage = read_until_damage(file)
    assert [message.topic for message in messages] == [made.INFO] and "after 1 messages" in damage
