"""The program `shared_pose_node`: starts SharedPoseNode (lifecycle_node.py), serves it, ends cleanly on a signal.

torch and the message packages take seconds to import, so that happens inside `main`, when a signal can already be
answered.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from shared_pose_ros.resources import set_dds_profile, share_cores

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

    from shared_pose_ros.ros.lifecycle_node import SharedPoseNode


LARGEST_COMPRESSED = 2**28
"""Pixels; OpenCV's own limit of 2**30 would let one damaged header take 3 GiB."""


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code: 0, or 2 if a parameter cannot be taken."""
    _end_at_once_on_signals()
    share_cores()
    # A compressed image of a few bytes may claim to be of any size. Read when OpenCV is imported.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(LARGEST_COMPRESSED))
    # Read when the context is made.
    set_dds_profile()
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from shared_pose_ros.network.allocator import tune_allocator
    from shared_pose_ros.ros.lifecycle_node import NODE_NAME, SharedPoseNode

    tune_allocator()
    _raise_on_signals()
    node = executor = None
    try:
        rclpy.init(args=args)
        # Before the seconds of configure: rclpy cannot make an executor once a signal has shut the context down.
        executor = SingleThreadedExecutor()
        try:
            node = SharedPoseNode()
        # rclpy has an exception class of its own for each way in which an override can be wrong.
        except Exception as error:
            print(f"{NODE_NAME}: {error}", file=sys.stderr)
            return 2
        executor.add_node(node)
        _autostart(node)
        _spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A second Ctrl-C must not interrupt the orderly end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.close()
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _end_at_once_on_signals() -> None:
    """While importing nothing needs an orderly end, and an exception in the middle of an import may get lost."""

    def leave(number: int, frame: Any) -> None:
        os._exit(0)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def _raise_on_signals() -> None:
    """Back to Python's own handlers; rclpy puts its own in front of them, which shut the context down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _autostart(node: SharedPoseNode) -> None:
    """Configure and activate if the parameter says so; a failure is logged by the node, which lives on."""
    import rclpy
    from rclpy.lifecycle import TransitionCallbackReturn

    if not node.get_parameter("autostart").value:
        return
    # SIGTERM during the seconds of configure shuts the context down without an exception.
    if node.trigger_configure() == TransitionCallbackReturn.SUCCESS and rclpy.ok():
        node.trigger_activate()


def _spin(node: SharedPoseNode, executor: SingleThreadedExecutor) -> None:
    """Serve callbacks until the context is shut down; an error in one callback must not end the others."""
    import rclpy
    from rclpy.executors import ExternalShutdownException

    while rclpy.ok():
        try:
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            return
        # For instance rclpy's own service for a lifecycle transition that is not possible now.
        except Exception as error:
            # A callback that a signal has cut short finds no context any more, and nothing is wrong.
            if rclpy.ok():
                node.get_logger().error(f"in a callback: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
