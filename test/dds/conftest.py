"""Fixtures for tests over a real DDS: a domain of their own, on this machine only, with the project's DDS profile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import harness
import pytest


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder (every conftest sees all items)."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope="session", autouse=True)
def _own_domain():
    """Keep parallel test runs and other robots out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", "0")
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(harness.ROOT / "config" / "fastdds.xml"))
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
        folder = Path(tempfile.gettempdir()) / "shared_pose_ros_tests"
        folder.mkdir(exist_ok=True)
        with harness.private_domain(folder):
            yield


@pytest.fixture(scope="session")
def class_ids(tiny_bundle) -> list[str]:
    """The class ids of the tiny bundle."""
    from shared_pose_ros.bundle import load_bundle

    return [entry.class_id for entry in load_bundle(tiny_bundle, "cpu").metadata.objects]


@pytest.fixture(scope="module")
def node(tiny_bundle, tmp_path_factory):
    """An active node, shared by the tests of a module; it must end with exit code 0."""
    process = harness.NodeProcess(
        tmp_path_factory.mktemp("node") / "log.txt", bundle=tiny_bundle, max_batch=8, publish_tf=True
    )
    yield process
    code = process.end()
    assert code == 0, process.log
    assert "[ERROR]" not in process.log and "Traceback" not in process.log, process.log


@pytest.fixture(scope="module")
def peer(node, class_ids):
    """A peer that has already got poses from the node."""
    with harness.peer() as made:
        made.greet(class_ids[0])
        yield made
