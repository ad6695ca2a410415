"""A node in this process whose bundle does not fit: configure fails with the remedy, frees all, and works later."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import torch
from rclpy.lifecycle import TransitionCallbackReturn

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.ros.lifecycle_node import SharedPoseNode


@pytest.fixture
def node(tiny_bundle: Path) -> Iterator[SharedPoseNode]:
    rclpy.init(args=["--ros-args", "-p", f"bundle:={tiny_bundle}", "-p", "max_batch:=3", "-p", "device:=cpu"])
    made = SharedPoseNode()
    yield made
    made.close()
    made.destroy_node()
    rclpy.shutdown()


def test_a_bundle_that_does_not_fit_is_refused_and_freed(node: SharedPoseNode, monkeypatch) -> None:
    loaded: list[weakref.ref] = []

    def too_large(estimator: PoseEstimator, size: tuple[int, int], sizes: range) -> None:
        loaded.append(weakref.ref(estimator))
        torch.empty(2**46, dtype=torch.uint8)

    with monkeypatch.context() as patch:
        patch.setattr(PoseEstimator, "warm_up", too_large)
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    problem = node._condition().problem
    assert problem.startswith("configure failed: not enough memory for the bundle with max_batch 3")
    for words in ("can't allocate memory", "lower max_batch", "free the GPU", "device: cpu"):
        assert words in problem
    assert node._condition().state == "unconfigured"
    # Nothing, not even the error, holds the network any more.
    assert len(loaded) == 1 and loaded[0]() is None
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node._condition().problem == "" and node._condition().state == "inactive"


def test_other_errors_after_the_load_free_it_too(node: SharedPoseNode, monkeypatch) -> None:
    loaded: list[weakref.ref] = []
    original = PoseEstimator.warm_up

    def noted(estimator: PoseEstimator, size: tuple[int, int], sizes: range) -> None:
        loaded.append(weakref.ref(estimator))
        original(estimator, size, sizes)

    with monkeypatch.context() as patch:
        patch.setattr(PoseEstimator, "warm_up", noted)
        patch.setattr("shared_pose_ros.ros.lifecycle_node.MessagePipeline", lambda *_: 1 / 0)
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "division by zero" in node._condition().problem and loaded[0]() is None
    assert not list(node.get_publishers_info_by_topic("/shared_pose_node/poses"))
