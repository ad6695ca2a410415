"""The cell around the node: the real node as a process, and a player that is camera, detector and planner.

Times are seconds of the monotonic clock, stamps nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_input import Input, stamped
from node_process import ProcessWatch

from shared_pose_ros.bags import bag_io
from shared_pose_ros.bundle import BundleMetadata
from shared_pose_ros.replay.demo_live import NodeProcess
from shared_pose_ros.replay.player import Player, header_key, spinning, wait

TYPES = {
    "raw": {"image": bag_io.IMAGE, "detections": bag_io.DETECTIONS_2D, "camera_info": bag_io.CAMERA_INFO},
    "compressed": {
        "image": bag_io.COMPRESSED_IMAGE,
        "detections": bag_io.DETECTIONS_2D,
        "camera_info": bag_io.CAMERA_INFO,
    },
}
START_SECONDS = 180.0
"""A node that warms 64 batch sizes on a busy machine starts within this time."""
GRACE_SECONDS = 2.0
"""An answer that has not come so long after the last one is taken for missing."""


@dataclass
class Run:
    """When the image went out, when the detections, when the answer came; each by stamp."""

    images: dict[int, float] = field(default_factory=dict)
    detections: dict[int, float] = field(default_factory=dict)
    answers: dict[int, float] = field(default_factory=dict)

    @property
    def latencies(self) -> list[float]:
        """From the moment before the detections go out (the image is out already) to the answer, of those answered."""
        return [self.answers[stamp] - when for stamp, when in self.detections.items() if stamp in self.answers]

    @property
    def lost(self) -> float:
        """Fraction of the frames that got no answer."""
        return 1 - len(self.answers) / len(self.images) if self.images else 0.0


class Cell:
    """A running node and the player beside it. Made by `cell()`."""

    def __init__(self, node: NodeProcess, player: Player, classes: Sequence[str], startup_seconds: float) -> None:
        self.node, self.player, self.classes = node, player, list(classes)
        self.startup_seconds = startup_seconds
        """From the start of the process to the announcement of its classes, the moment that it is active."""
        self._stamp = time.time_ns()

    def play(self, frame: Input, rate: float, seconds: float, grace: float = GRACE_SECONDS) -> Run:
        """Publish the frame at `rate` Hz for so long, each time with a new stamp, and wait for the answers."""
        run, first = self._begin(frame), time.monotonic()
        for number in range(max(round(rate * seconds), 1)):
            self._sleep_until(first + number / rate)
            self._send(run, frame)
        self._collect(run, grace)
        return run

    def ask(self, frame: Input, times: int) -> Run:
        """Publish the frame `times` times, each when the answer to the one before has come: nothing ever waits."""
        run = self._begin(frame)
        for _ in range(times):
            before = len(self.player.responses)
            self._send(run, frame)
            wait(lambda before=before: len(self.player.responses) > before, GRACE_SECONDS, self.node.check, 0.0005)
        self._collect(run)
        return run

    def stages(self) -> dict[str, float]:
        """The node's own latencies in ms by stage, over its latest 512 frames, from diagnostics newer than now."""
        asked = time.monotonic()
        wait(lambda: self.player.status_time > asked + 1.0, 5.0, self.node.check)
        entries = self.player.status.values
        prefix = "latency/"
        return {
            entry.key.removeprefix(prefix).removesuffix("_s") + "_ms": round(1e3 * float(entry.value), 3)
            for entry in entries
            if entry.key.startswith(prefix)
        }

    def join(self) -> float:
        """Seconds from the creation of a further program beside the running node until it has the node's classes."""
        began = time.monotonic()
        with spinning(lambda context: Player(context, {})) as newcomer:
            if not wait(lambda: newcomer.active, START_SECONDS, self.node.check):
                raise TimeoutError(f"the node's classes did not come within {START_SECONDS:g} s")
            return time.monotonic() - began

    def watch(self, period: float = 0.2) -> ProcessWatch:
        """Memory and processor time of the node, sampled while the block runs."""
        return ProcessWatch(self.node.pid, period)

    def _begin(self, frame: Input) -> Run:
        self.player.play("camera_info", frame.camera_info)
        time.sleep(0.1)
        self.player.responses.clear()
        return Run()

    def _send(self, run: Run, frame: Input) -> None:
        self._stamp = max(self._stamp + 1, time.time_ns())
        image, detections = stamped(frame.image, self._stamp), stamped(frame.detections, self._stamp)
        run.images[self._stamp] = time.monotonic()
        self.player.play("image", image)
        run.detections[self._stamp] = time.monotonic()
        self.player.play("detections", detections)

    def _collect(self, run: Run, grace: float = GRACE_SECONDS) -> None:
        """Wait until all are answered or none has come for a while."""
        answers = self.player.responses
        last = time.monotonic()
        while len(answers) < len(run.images):
            if time.monotonic() - (max(last, answers[-1][0]) if answers else last) > grace:
                break
            self.node.check()
            time.sleep(0.01)
        for when, data in list(answers):
            stamp = header_key(data)[0]
            if stamp in run.images:
                run.answers[stamp] = when

    @staticmethod
    def _sleep_until(due: float) -> None:
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)


@contextmanager
def cell(
    bundle: Path, metadata: BundleMetadata, log: Path, transport: str = "raw", **parameters: Any
) -> Iterator[Cell]:
    """Start the node with `parameters` and wait until it hears the player; on leaving, end it.

    Raises:
        DemoError: the node ends, or is not active in time.
    """
    values = {"bundle": bundle.resolve(), "image_transport": transport, **parameters}
    with spinning(lambda context: Player(context, TYPES[transport])) as player:
        started = time.monotonic()
        with NodeProcess(log, {}, values) as node:
            if not wait(lambda: player.active, START_SECONDS, node.check):
                raise TimeoutError(f"the node was not active within {START_SECONDS:g} s (log: {log})")
            made = Cell(node, player, [item.class_id for item in metadata.objects], time.monotonic() - started)
            if not wait(lambda: player.connected(TYPES[transport]), START_SECONDS, node.check):
                raise TimeoutError(f"the node does not listen (log: {log})")
            # Best effort: the first messages may be lost until both sides know each other.
            time.sleep(0.5)
            yield made
