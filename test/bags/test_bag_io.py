"""Bags in both storages: what is written is read back; damaged input is named."""

import runpy

import numpy as np
import pytest
import torch
from checkout import ROOT
from evaluation_scene import CAMERA, turn

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.bag_io import BagError, BagWriter, Detection, bag_topics, read_bag
from shared_pose_ros.geometry.rotations import rotation_from_quaternion
from shared_pose_ros.ros.messages.detections import image_key
from shared_pose_ros.ros.messages.images import rgb_from_compressed, rgb_from_image

STAMP = 1_700_000_000_123_456_789


@pytest.fixture
def image():
    smooth = np.linspace(0, 255, 48 * 64).reshape(48, 64)
    return np.stack([smooth, smooth.T.reshape(48, 64), 255 - smooth], axis=-1).astype(np.uint8)


@pytest.fixture(params=["mcap", "sqlite3"])
def recorded(request, tmp_path, image):
    path = tmp_path / "bag"
    rotation = turn([1, 2, 3], 200)
    with BagWriter(path, storage=request.param) as writer:
        for i in range(2):
            t = STAMP + i * 10**8
            writer.write("/image", bag_io.image_message(image, t, "camera"), t)
            writer.write("/info", bag_io.camera_info_message(CAMERA, (48, 64), t, "camera"), t + 1)
            found = [Detection("plug", "a7", 0.75, box=np.array([20.5, 21.0, 7.0, 8.0]))]
            writer.write("/detections", bag_io.detections_2d_message(found, t, "camera"), t + 2)
            known = [Detection("plug", "a7", rotation=rotation, translation=np.array([0.1, -0.2, 0.9]))]
            writer.write("/truth", bag_io.detections_3d_message(known, t, "camera"), t + 3)
    return path, rotation


def test_types_are_those_of_the_real_vision_msgs():
    builder = ROOT / "tools" / "pip_ros" / "build_interfaces.py"
    known = runpy.run_path(str(builder), run_name="not_main")["TYPE_HASHES"]["vision_msgs"]
    assert {"Detection2DArray", "Detection3DArray"} <= set(known)
    store = bag_io.message_types()
    for name, expected in known.items():
        assert store.hash_rihs01(f"vision_msgs/msg/{name}") == expected


def test_round_trip(recorded, image):
    path, rotation = recorded
    assert bag_topics(path) == {
        "/image": bag_io.IMAGE,
        "/info": bag_io.CAMERA_INFO,
        "/detections": bag_io.DETECTIONS_2D,
        "/truth": bag_io.DETECTIONS_3D,
    }
    messages = list(read_bag(path))
    assert [m.topic for m in messages] == ["/image", "/info", "/detections", "/truth"] * 2
    assert messages[4].time_ns == STAMP + 10**8
    picture, info, detections, truth = (m.message() for m in messages[:4])
    for message in (picture, info, detections, truth):
        assert image_key(message) == (STAMP, "camera")
    np.testing.assert_array_equal(rgb_from_image(picture), image)
    assert picture.encoding == "rgb8" and picture.step == 192
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), CAMERA)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, :3], CAMERA)
    assert (info.height, info.width) == (48, 64)
    box, result = detections.detections[0].bbox, detections.detections[0].results[0]
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (20.5, 21.0, 7.0, 8.0)
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("plug", 0.75)
    pose = truth.detections[0].results[0].pose.pose
    q = pose.orientation
    found = rotation_from_quaternion(torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, rotation, atol=1e-12)
    assert q.w >= 0 and (pose.position.x, pose.position.y, pose.position.z) == (0.1, -0.2, 0.9)
    assert truth.detections[0].id == detections.detections[0].id == "a7"


def test_a_bag_with_its_own_definitions_is_read_without_vision_msgs(recorded, monkeypatch):
    def absent():
        raise BagError("no vision_msgs found")

    monkeypatch.setattr(bag_io, "message_types", absent)
    (first, _) = read_bag(recorded[0], ["/truth"])
    assert first.message().detections[0].id == "a7"


def test_vision_msgs_is_looked_for_in_ros_first(tmp_path, monkeypatch):
    folder = tmp_path / "share" / "vision_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Detection2DArray.msg").write_text("std_msgs/Header header\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert bag_io.vision_msgs_folder() == folder
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    monkeypatch.setattr(bag_io.sys, "prefix", str(tmp_path / "nothing"))
    assert bag_io.vision_msgs_folder().parts[-3:] == ("pip_ros", "vision_msgs", "msg")


def test_topics_can_be_chosen(recorded):
    path, _ = recorded
    assert {m.topic for m in read_bag(path, ["/info", "/truth"])} == {"/info", "/truth"}
    assert list(read_bag(path, ["/nothing"])) == []


def test_the_data_are_the_wire_format(recorded):
    path, _ = recorded
    message = next(iter(read_bag(path, ["/image"])))
    again = bag_io.message_types().serialize_cdr(message.message(), message.type)
    assert bytes(again) == message.data


@pytest.mark.parametrize(("encoding", "tolerance"), [("png", 0), ("jpeg", 12)])
def test_compressed_images(image, encoding, tolerance):
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2).copy()
    smooth[..., 0] //= 2  # red differs from blue, so that swapped channels would show
    decoded = rgb_from_compressed(bag_io.compressed_image_message(smooth, STAMP, "camera", encoding))
    assert np.abs(decoded.astype(int) - smooth).max() <= tolerance
    if encoding == "png":
        message = bag_io.compressed_image_message(image, 0, "c", "png")
        np.testing.assert_array_equal(rgb_from_compressed(message), image)


def test_damaged_messages_are_named(recorded):
    message = next(iter(read_bag(recorded[0], ["/truth"])))
    broken = bag_io.BagMessage(message.topic, message.type, message.time_ns, message.data[:30], message.typestore)
    with pytest.raises(BagError, match="a vision_msgs/msg/Detection3DArray on /truth at .* is damaged"):
        broken.message()


def test_missing_and_broken_bags_are_named(tmp_path):
    with pytest.raises(BagError, match="nowhere: not a readable bag"):
        list(read_bag(tmp_path / "nowhere"))
    (tmp_path / "broken.mcap").write_bytes(b"no bag")
    with pytest.raises(BagError, match="broken.mcap: not a readable bag"):
        bag_topics(tmp_path / "broken.mcap")


def test_writing_over_a_bag_or_mixing_types_is_refused(recorded, image, tmp_path):
    with pytest.raises(BagError, match="cannot write a bag there"):
        BagWriter(recorded[0])
    with pytest.raises(BagError, match="choose one of mcap, sqlite3"):
        BagWriter(tmp_path / "x", storage="lmdb")
    with BagWriter(tmp_path / "mixed") as writer:
        writer.write("/a", bag_io.image_message(image, 0, "c"), 0)
        with pytest.raises(BagError, match="holds sensor_msgs/msg/Image"):
            writer.write("/a", bag_io.detections_2d_message([], 0, "c"), 0)


def test_a_span_of_time_can_be_read_and_bytes_written_as_they_are(recorded, tmp_path):
    path, _ = recorded
    with BagWriter(tmp_path / "copy") as writer:
        for message in read_bag(path, start=STAMP + 1, stop=STAMP + 10**8 + 2):
            writer.write_data(message.topic, message.type, message.data, message.time_ns)
    copied = [(m.topic, m.time_ns, m.data) for m in read_bag(tmp_path / "copy")]
    assert copied == [(m.topic, m.time_ns, m.data) for m in read_bag(path)][1:6]
