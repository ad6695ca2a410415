"""config/sros2: who may publish what, worked out as DDS would from what the policy allows."""

from __future__ import annotations

import re

import pytest
from checkout import ROOT
from lxml import etree

NODE = ROOT / "shared_pose_ros" / "ros" / "lifecycle_node.py"
INPUTS = {
    "image": "/camera/image",
    "camera_info": "/camera/camera_info",
    "depth": "/camera/depth",
    "detections": "/detections",
}


@pytest.fixture(scope="module")
def allowed():
    """{(publish|subscribe|request|reply, full name): enclaves}; the policy denies the rest."""
    policy = etree.parse(str(ROOT / "config" / "sros2" / "policy.xml"))
    policy.xinclude()
    granted = {}
    for enclave in policy.iter("enclave"):
        for profile in enclave.iter("profile"):
            node = f"{profile.get('ns').rstrip('/')}/{profile.get('node')}"
            for entries in profile.iter("topics", "services"):
                actions = [name for name, value in entries.items() if value == "ALLOW"]
                for entry in entries:
                    name = node + entry.text[1:] if entry.text.startswith("~") else entry.text
                    for action in actions:
                        granted.setdefault((action, name), set()).add(enclave.get("path"))
    return granted


def test_only_camera_and_detector_speak_to_the_node(allowed):
    assert allowed["publish", "/camera/image"] == {"/cell/camera"}
    assert allowed["publish", "/camera/camera_info"] == {"/cell/camera"}
    assert allowed["publish", "/camera/depth"] == {"/cell/camera"}
    assert allowed["publish", "/detections"] == {"/cell/detector"}


def test_only_the_node_publishes_poses(allowed):
    assert allowed["publish", "/shared_pose_node/poses"] == {"/cell/shared_pose"}
    assert allowed["publish", "/tf"] == {"/cell/shared_pose"}


def test_only_the_operator_changes_the_node(allowed):
    for service in ("change_state", "reset", "set_parameters", "set_parameters_atomically"):
        assert allowed["request", f"/shared_pose_node/{service}"] == {"/cell/operator"}
        assert allowed["reply", f"/shared_pose_node/{service}"] == {"/cell/shared_pose"}


def test_the_node_may_open_everything_that_it_opens(allowed):
    source = NODE.read_text(encoding="utf-8")
    published = re.findall(r'create_(?:lifecycle_)?publisher\([\w()]+, "([^"]+)"', source)
    assert "~/poses" in published and "/tf" in published
    for topic in published:
        assert "/cell/shared_pose" in allowed["publish", topic.replace("~", "/shared_pose_node")], topic
    subscribed = re.findall(r'create_subscription\([^"]+"([^"]+)"', source)
    assert set(subscribed) == set(INPUTS)
    for topic in subscribed:
        assert "/cell/shared_pose" in allowed["subscribe", INPUTS[topic]], topic
    services = re.findall(r'create_service\(\w+, "([^"]+)"', source)
    assert services == ["~/reset"]
    for service in services:
        assert "/cell/shared_pose" in allowed["reply", service.replace("~", "/shared_pose_node")], service


def test_no_comment_stands_where_ros2_security_takes_it_for_an_enclave():
    enclaves = etree.parse(str(ROOT / "config" / "sros2" / "policy.xml")).find("enclaves")
    assert {child.tag for child in enclaves} == {"enclave"}
