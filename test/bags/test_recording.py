"""Bags read as far as they go, and the topics found in them."""

import pytest
import recorded_bag as made

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bags.bag_io import BagError
from shared_pose_ros.bags.recording import choose_topics, open_recording
from shared_pose_ros.ros.messages.detections import image_key

TOPICS = {
    made.IMAGE: bag_io.IMAGE,
    made.INFO: bag_io.CAMERA_INFO,
    made.DETECTIONS: bag_io.DETECTIONS_2D,
    made.TRUTH: bag_io.DETECTIONS_3D,
}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_damage_is_a_note_and_the_rest_is_read(tmp_path, storage, metadata, share):
    folder = made.ordinary(tmp_path / "bag", frames=10, storage=storage)
    expected = [(m.topic, m.data) for m in bag_io.read_bag(folder, [made.IMAGE, made.DETECTIONS])]
    made.cut(folder, share)
    if not metadata:
        (folder / "metadata.yaml").unlink()
    recording = open_recording(folder)
    assert set(recording.topics) == {made.IMAGE, made.INFO, made.DETECTIONS}
    for _ in range(2):  # a second pass gives the same
        messages = [(m.topic, m.data) for m in recording.messages([made.IMAGE, made.DETECTIONS])]
        assert messages == expected[: len(messages)]
        assert len(messages) == 20 if share == 1.0 else 6 <= len(messages) <= 14
    assert recording.damaged == (not metadata or share < 1.0)
    assert len(recording.problems) <= 1
    if share == 1.0 and not metadata:
        assert "no metadata.yaml" in recording.problems[0]
    for message in recording.messages([made.DETECTIONS]):
        assert message.message().header.frame_id == made.FRAME


def test_a_damage_in_the_middle_ends_the_reading(tmp_path, monkeypatch):
    recording = open_recording(made.ordinary(tmp_path / "bag"))

    def breaks(*_):
        yield from list(bag_messages)[:2]
        raise RuntimeError("page 7\nis bad")

    bag_messages = list(bag_io.read_bag(tmp_path / "bag"))
    monkeypatch.setattr(bag_io, "read_bag", breaks)
    assert len(list(recording.messages([made.IMAGE]))) == 2
    assert recording.problems == ["bag: reading ended after 2 messages (page 7 is bad)"]


def test_what_cannot_be_read_at_all_is_an_error(tmp_path):
    with pytest.raises(BagError, match="nowhere: not a readable bag .no such bag"):
        open_recording(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no .mcap or .db3 file"):
        open_recording(tmp_path / "empty")
    (tmp_path / "text.mcap").write_text("no bag")
    with pytest.raises(BagError, match="text.mcap is neither an mcap nor a sqlite3 file"):
        open_recording(tmp_path / "text.mcap")


def test_a_message_is_found_again(tmp_path):
    folder = made.ordinary(tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    for path in (made.ordinary(tmp_path / "whole"), folder):
        recording = open_recording(path)
        message = recording.find(made.IMAGE, made.stamp(2) + 1, lambda m: m.width == 160)
        assert image_key(message)[0] == made.stamp(2)
        with pytest.raises(BagError, match="is not there any more"):
            recording.find(made.IMAGE, made.stamp(2), lambda m: True)


def test_topics_are_found_by_type():
    chosen = choose_topics(TOPICS)
    assert (chosen.image, chosen.detections) == (made.IMAGE, made.DETECTIONS)
    assert (chosen.camera_info, chosen.truth) == (made.INFO, made.TRUTH)
    few = choose_topics({made.IMAGE: bag_io.COMPRESSED_IMAGE, made.DETECTIONS: bag_io.DETECTIONS_2D})
    assert (few.camera_info, few.truth) == (None, None) and few.names == [made.IMAGE, made.DETECTIONS]


def test_what_is_ambiguous_lists_the_candidates_and_is_settled_by_a_name():
    two = {**TOPICS, "/cam/image/compressed": bag_io.COMPRESSED_IMAGE, "/other": bag_io.DETECTIONS_3D}
    with pytest.raises(BagError, match="several Image or Compressed.*, /cam/image, /cam/image/compressed.*--image"):
        choose_topics(two)
    with pytest.raises(BagError, match="topics, /other, /truth; name one with --truth .or none"):
        choose_topics(two, image=made.IMAGE)
    assert choose_topics(two, image=made.IMAGE, truth="/other").truth == "/other"
    assert choose_topics(two, image=made.IMAGE, truth="none").truth is None
    assert choose_topics(two, image=made.IMAGE, no_truth={"/other"}).truth == made.TRUTH


def test_of_several_cameras_the_image_s_own_is_taken():
    two = {**TOPICS, "/depth/camera_info": bag_io.CAMERA_INFO}
    assert choose_topics(two).camera_info == made.INFO
    assert choose_topics(two, camera_info="/depth/camera_info").camera_info == "/depth/camera_info"
    compressed = {"/cam/image/compressed": bag_io.COMPRESSED_IMAGE, **{k: v for k, v in two.items() if k != made.IMAGE}}
    assert choose_topics(compressed).camera_info == made.INFO
    with pytest.raises(BagError, match="several CameraInfo topics"):
        choose_topics({**{k: v for k, v in two.items() if k != made.INFO}, "/x/camera_info": bag_io.CAMERA_INFO})


def test_wrong_and_missing_topics_are_named():
    with pytest.raises(BagError, match="--image /nothing is not in the bag; .* topics are: /cam/image"):
        choose_topics(TOPICS, image="/nothing")
    with pytest.raises(BagError, match="--detections /truth is a vision_msgs/msg/Detection3DArray"):
        choose_topics(TOPICS, detections=made.TRUTH)
    with pytest.raises(BagError, match="no Detection2DArray topic; it holds /cam/image .sensor_msgs/msg/Image"):
        choose_topics({made.IMAGE: bag_io.IMAGE})


def test_depth_is_taken_by_name_and_is_then_no_image():
    two = {**TOPICS, "/cam/depth": bag_io.IMAGE}
    with pytest.raises(BagError, match="several Image"):
        choose_topics(two)
    chosen = choose_topics(two, depth="/cam/depth")
    assert (chosen.image, chosen.depth) == (made.IMAGE, "/cam/depth") and "/cam/depth" in chosen.names
    assert choose_topics(two, image=made.IMAGE, depth="none").depth is None
    with pytest.raises(BagError, match="--depth /cam/camera_info is a sensor_msgs/msg/CameraInfo"):
        choose_topics(two, depth=made.INFO)
