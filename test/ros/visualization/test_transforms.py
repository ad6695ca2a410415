"""Transforms of published poses, and the names that they share with the markers."""

from __future__ import annotations

import sys

import pytest
from test_markers import detection, poses

from shared_pose_ros.ros.visualization.transforms import transforms, transforms_type


def test_names_are_unique_and_plain() -> None:
    array = poses(
        detection("lever", "7"), detection("lever", ""), detection("lever", ""), detection("a/b c", "x:1"),
        detection("a_b", "c_x_1"), detection("lever", "7"), detection("a", "b_c_x_1"),
    )  # fmt: skip
    names = array.names
    assert names == ["lever_7", "lever_1", "lever_2", "a_b_c_x_1", "a_b_c_x_1_2", "lever_7_2", "a_b_c_x_1_3"]
    assert poses().names == []


def test_only_known_positions_become_transforms_with_the_image_header() -> None:
    array = poses(detection("lever", "7", z=0.4), detection("block", "8", z=0.0))
    (found,) = transforms(array, "shared_pose_node")
    assert (found.header.stamp.sec, found.header.frame_id) == (
        12,
        "camera",
    ) and found.child_frame_id == "shared_pose_node/lever_7"
    assert (found.transform.translation.x, found.transform.translation.z) == (0.0, 0.4)
    assert (found.transform.rotation.x, found.transform.rotation.w) == (0.6, 0.8)


def test_a_missing_tf2_msgs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_msgs", None)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    with pytest.raises(ValueError, match="publish_tf needs the package tf2_msgs.*set publish_tf to false"):
        transforms_type()
