"""Bags of killed recorders: what was written before the end is read, in both storages, wherever the cut falls."""

import sqlite3

import pytest
import recorded_bag as made

from shared_pose_ros.evaluation import bag, salvage


def raw(messages):
    return [(m.topic, m.type, m.time_ns, m.data) for m in messages]


def read_until_damage(file):
    messages = []
    try:
        messages.extend(salvage.read_file(file))
    except salvage.DamageError as damage:
        return messages, str(damage)
    return messages, ""


@pytest.fixture(params=["mcap", "sqlite3"])
def whole(request, tmp_path):
    folder = made.ordinary(tmp_path / "bag", frames=10, storage=request.param)
    return folder, raw(bag.read_bag(folder))


def test_a_whole_file_is_read_to_its_end(whole):
    folder, expected = whole
    (file,) = salvage.storage_files(folder)
    messages, damage = read_until_damage(file)
    assert raw(messages) == expected and damage == "" and not salvage.is_cut(file)
    assert all("std_msgs/Header header" in message.definition for message in messages)


@pytest.mark.parametrize("share", [0.999, 0.9, 0.62, 0.35])
def test_a_cut_file_gives_its_beginning_and_says_where_it_ends(whole, share):
    folder, expected = whole
    file = made.cut(folder, share)
    assert salvage.is_cut(file)
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
    (file,) = salvage.storage_files(whole[0])
    file.write_bytes(file.read_bytes()[:size])
    assert salvage.is_cut(file)
    messages, damage = read_until_damage(file)
    assert messages == [] and file.name in damage


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_chunks_are_decompressed_also_when_cut(compression):
    if compression == "lz4":
        import lz4.frame as library
    else:
        from backports import zstd as library
    data = bytes(range(256)) * 2000
    packed = library.compress(data)
    assert salvage._decompressed(packed, compression) == data
    part = salvage._decompressed(packed[: len(packed) - 3], compression)
    assert data.startswith(part)
    with pytest.raises(salvage.DamageError, match="cannot be decompressed"):
        salvage._decompressed(b"no such format", compression)
    with pytest.raises(salvage.DamageError, match="'brotli'"):
        salvage._decompressed(packed, "brotli")


def test_files_are_taken_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 0):
        (tmp_path / f"bag_{number}.mcap").touch()
    (tmp_path / "notes.txt").touch()
    assert [file.name for file in salvage.storage_files(tmp_path)] == ["bag_0.mcap", "bag_9.mcap", "bag_10.mcap"]


def test_a_message_without_its_topic_ends_the_reading(tmp_path):
    folder = made.ordinary(tmp_path / "bag", frames=1, storage="sqlite3")
    (file,) = salvage.storage_files(folder)
    base = sqlite3.connect(file)
    base.execute("DELETE FROM topics WHERE name = ?", (made.IMAGE,))
    base.commit()
    base.close()
    messages, damage = read_until_damage(file)
    assert [message.topic for message in messages] == [made.INFO] and "after 1 messages" in damage
