"""Start, failure, recovery and end of the node's process."""

from __future__ import annotations

import array
import gc
import signal
from pathlib import Path

import harness
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from harness import NodeProcess, compressed_image, detections, wait_for
from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage

from shared_pose_ros.ros.lifecycle_node import SharedPoseNode


def test_a_failed_configure_leaves_the_node_alive_and_a_later_one_works(tiny_bundle, class_ids, tmp_path: Path) -> None:
    """Wrong bundles and devices one after the other, then poses (of compressed images), twice."""
    corrupt = tmp_path / "corrupt.pose.pt"
    corrupt.write_bytes(Path(tiny_bundle).read_bytes()[:-2000])
    node = NodeProcess(
        tmp_path / "log.txt", bundle=tmp_path / "missing.pose.pt", max_batch=1, image_transport="compressed"
    )
    try:
        with harness.peer(CompressedImage) as peer:
            wait_for(lambda: bool(peer.diagnostics), "diagnostics")
            assert peer.diagnostics[-1].level == DiagnosticStatus.ERROR
            assert "configure failed" in peer.diagnostics[-1].message
            assert "missing.pose.pt" in peer.diagnostics[-1].message
            assert peer.state() == "unconfigured"
            assert peer.reset() == "dropped 0 images, 0 detection arrays, 0 depth images, 0 tracks"
            peer.ask_the_impossible(Transition.TRANSITION_ACTIVATE)
            assert peer.state() == "unconfigured"
            wait_for(lambda: "in a callback" in node.log, "error in the log")

            assert peer.set_parameter("bundle", str(corrupt)).successful
            assert not peer.transition("configure") and peer.state() == "unconfigured"
            wait_for(lambda: "corrupt.pose.pt" in peer.diagnostics[-1].message, "reason in diagnostics")

            assert peer.set_parameter("bundle", str(tiny_bundle)).successful
            assert peer.set_parameter("device", "cuda").successful
            assert peer.transition("configure") == torch.cuda.is_available()
            if not torch.cuda.is_available():
                wait_for(lambda: "0 GPUs are usable" in peer.diagnostics[-1].message, "reason in diagnostics")
            if peer.state() == "inactive":
                assert peer.transition("cleanup")

            assert peer.set_parameter("device", "cpu").successful
            assert peer.transition("configure") and peer.state() == "inactive"
            assert peer.reset() == "dropped 0 images, 0 detection arrays, 0 depth images, 0 tracks"
            assert peer.transition("activate") and peer.state() == "active"
            peer.greet(class_ids[0], compressed_image())

            # A file of a few bytes that claims to be of 30000x30000 pixels (2.7 GB) is not unpacked.
            bomb = compressed_image()
            size = bytes(bomb.data).find(b"\xff\xc0") + 5
            bomb.data[size : size + 4] = array.array("B", (30_000).to_bytes(2, "big") * 2)
            peer.send(bomb, detections(class_ids[:1]))
            wait_for(lambda: peer.count("undecodable_image") == 1, "counter of the image")

            assert peer.transition("deactivate")
            published = peer.settle()["published/poses"]
            peer.send(compressed_image(), detections(class_ids[:1]))
            assert peer.settle()["published/poses"] == published
            assert peer.transition("cleanup") and peer.state() == "unconfigured"
            assert peer.transition("configure") and peer.transition("activate")
            peer.greet(class_ids[0], compressed_image())
            assert peer.transition("deactivate") and peer.transition("activate")
            peer.greet(class_ids[0], compressed_image())
    finally:
        code = node.end()
    assert code == 0, node.log
    assert "Traceback" not in node.log and node.log.count("configure failed") >= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(tiny_bundle, tmp_path: Path, number: int) -> None:
    node = NodeProcess(tmp_path / "log.txt", bundle=tiny_bundle, max_batch=1)
    wait_for(lambda: "active" in node.log or not node.alive, "active node")
    assert node.end(number) == 0, node.log
    assert "Traceback" not in node.log and "rror" not in node.log


def test_an_impossible_parameter_ends_with_one_sentence(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "log.txt", max_batch=0)
    wait_for(lambda: not node.alive, "end of the process")
    assert node.process.returncode == 2
    assert "max_batch" in node.log and "Traceback" not in node.log


def test_the_garbage_collector_leaves_alone_what_configure_loaded_until_cleanup(tiny_bundle) -> None:
    rclpy.init(args=["--ros-args", "-p", f"bundle:={tiny_bundle}", "-p", "max_batch:=1"])
    node = SharedPoseNode()
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        # A full pass would look at every object of torch and the message packages.
        assert gc.get_freeze_count() > 10_000 and len(gc.get_objects()) < 1_000
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert gc.get_freeze_count() == 0
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()
