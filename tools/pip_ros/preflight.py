#!/usr/bin/env python3
"""Say in one sentence why this machine cannot take the pip installation; silent and exit 0 if it can.

Run by make before anything is created:  python3 tools/pip_ros/preflight.py ENVIRONMENT

Written so that old Pythons can parse it, since a too old Python is one of the things that it has to report.
"""

import os
import platform
import shutil
import sys
import sysconfig

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 14)
OLDEST_GLIBC = (2, 28)
# The environment takes 2.2 GB with torch's CPU build, and pip needs room to unpack; its CUDA build takes 4 GB more.
DISK_GB = 4.0
DEBIAN = "on Debian or Ubuntu: sudo apt install %s"


def check_machine():
    """Sentence if the ROS wheels do not exist for this system and CPU, else None."""
    if sys.platform != "linux":
        return "this is %s, and the ROS wheels are for Linux: use a Linux machine or container." % sys.platform
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return (
            "this CPU is %s, and the ROS wheels are for x86-64: install ROS 2 itself instead, "
            "see 'On a ROS machine' in docs/how-to/install.md." % machine
        )
    name, version = platform.libc_ver()
    if name != "glibc":
        return "this system's C library is %s, and the ROS wheels need glibc: use Debian, Ubuntu or the like." % (
            name or "not glibc"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        return "this system's glibc is %s, and the ROS wheels need 2.28: use Debian 10 or Ubuntu 20.04." % version
    return None


def check_python(version=None):
    """Sentence if there are no wheels for this Python, else None."""
    version = tuple((version or sys.version_info)[:2])
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON and platform.python_implementation() == "CPython":
        return None
    found = "%s %d.%d" % ((platform.python_implementation(),) + version)
    return (
        "this Python is %s, and the wheels are for CPython %d.%d to %d.%d: name another one, for example "
        "make PYTHON=python3.11." % ((found,) + OLDEST_PYTHON + NEWEST_PYTHON)
    )


def check_python_parts():
    """Sentence if Python comes without virtual environments or without its C headers, else None."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "this Python has no venv module: install it (%s)." % (DEBIAN % "python3-venv")
    headers = sysconfig.get_path("include")
    if not os.path.isfile(os.path.join(headers, "Python.h")):
        return "Python's C headers are missing from %s: install them (%s)." % (headers, DEBIAN % "python3-dev")
    return None


def check_compiler():
    """Sentence if there is no C++ and C compiler for vision_msgs, else None."""
    for variable, default in (("CXX", "g++"), ("CC", "gcc")):
        command = (os.environ.get(variable) or default).split()[0]
        if shutil.which(command) is None:
            remedy = "install it (%s), or name another in %s." % (DEBIAN % "g++", variable)
            return "the compiler %s is missing, and vision_msgs is compiled here: %s" % (command, remedy)
    return None


def check_disk(environment, free=None):
    """Sentence if the environment is still to be made and would not fit, else None. `free` is in bytes."""
    if os.path.isfile(os.path.join(environment, "setup.json")):
        return None
    place = os.path.dirname(os.path.abspath(environment))
    if free is None:
        free = shutil.disk_usage(place).free
    if free >= DISK_GB * 1e9:
        return None
    remedy = "free some space, or place it elsewhere with make VENV=DIR."
    return "%s has %.1f GB free, and the environment needs %.0f GB: %s" % (place, free / 1e9, DISK_GB, remedy)


def first_problem(environment):
    """The first sentence that applies, or None."""
    for sentence in (check_python(), check_machine()):
        if sentence:
            return sentence
    return check_python_parts() or check_compiler() or check_disk(environment)


def main():
    """Print the first problem; returns the exit status."""
    problem = first_problem(sys.argv[1] if len(sys.argv) > 1 else ".venv")
    if problem:
        sys.stderr.write("error: %s\n" % problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
