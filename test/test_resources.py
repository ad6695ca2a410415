"""The DDS profile that programs set for themselves."""

import os
import subprocess
import sys

import pytest

from shared_pose_ros.resources import DDS_PROFILES, set_dds_profile, share_folder


@pytest.fixture(autouse=True)
def _without(monkeypatch):
    for name in DDS_PROFILES:
        # Set first, so that what the test sets is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_without_a_profile_the_packages_own_is_set():
    set_dds_profile()
    assert {os.environ[name] for name in DDS_PROFILES} == {str(share_folder() / "config" / "fastdds.xml")}


@pytest.mark.parametrize("given", DDS_PROFILES)
@pytest.mark.parametrize("value", ["/cell/profile.xml", ""])
def test_what_the_user_has_set_stays(given, value, monkeypatch):
    monkeypatch.setenv(given, value)
    set_dds_profile()
    assert {name: os.environ[name] for name in DDS_PROFILES if name in os.environ} == {given: value}


def test_without_a_share_folder_nothing_is_set(monkeypatch):
    def none():
        raise FileNotFoundError

    monkeypatch.setattr("shared_pose_ros.resources.share_folder", none)
    set_dds_profile()
    assert not any(name in os.environ for name in DDS_PROFILES)


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_a_command_lets_threads_sleep_before_torch_is_imported(given, kept):
    said = "import os, sys; from shared_pose_ros.cli.main import main; main(['--version']); "
    said += "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    result = subprocess.run([sys.executable, "-c", said], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == f"{kept} False"
