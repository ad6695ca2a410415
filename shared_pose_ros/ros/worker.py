"""The one thread that runs the network: takes the newest complete pair, publishes its poses, counts what became of it.

A replay does the same without the thread (`drain`).

Callbacks only store (`add_image`, `add_detections`). One lock guards the buffer and the bookkeeping, so that a
`snapshot` always adds up: received = published (used) + counters + pending, for detection arrays as for images and
depth images. Times are seconds of the steady clock.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.memory import cause, is_out_of_memory, release_cached
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros.messages.images import ImageError
from shared_pose_ros.ros.pairing import Pair, PairingBuffer

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image
    from vision_msgs.msg import Detection2DArray

LOG_PERIOD = 5.0
"""One and the same error goes to the log at most this often (s); each is counted."""
TICK = 0.1
"""The buffer is cleared of what is too old at least this often (s)."""


@dataclass(frozen=True)
class Snapshot:
    """All counters with the latest reasons, and what has been received, used, published and is pending, by stream."""

    counters: Counter[str]
    reasons: dict[str, str]
    received: dict[str, int]
    used: dict[str, int]
    published: dict[str, int]
    pending: dict[str, int]
    lateness: float
    recent_lateness: float
    last_pair: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of a pair: objects published, or lost under a counter; the traceback of an unexpected error."""

    objects: int
    counter: str = ""
    reason: str = ""
    traceback: str = ""
    latencies: Mapping[str, float] = field(default_factory=dict)


class RunsFrames(Protocol):
    """What the worker drives: ``message_pipeline.MessagePipeline``, or a stand-in."""

    def prepare(self) -> None:
        """Called between frames."""

    def run(self, image: Image | CompressedImage, detections: Detection2DArray, depth: Image | None) -> Frame:
        """The frame with the poses to publish; ImageError for an image that cannot be read."""


class Worker:
    """Owns the pairing buffer for the life of the node; runs while started."""

    def __init__(self, buffer: PairingBuffer, statistics: Statistics, log_error: Callable[[str], None]) -> None:
        """`log_error` gets the text of unexpected errors with their origin."""
        self.buffer = buffer
        self._statistics = statistics
        self._log_error = log_error
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._in_work = 0
        self._published: Counter[str] = Counter()
        self._logged: dict[tuple[str, str], float] = {}

    def start(self, pipeline: RunsFrames, publish: Callable[[Frame], None]) -> None:
        """Start the thread; `publish` is called in it with each estimated frame."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(pipeline, publish), name="shared_pose worker")
        self._thread.start()

    def stop(self) -> None:
        """Let the frame in work finish, end the thread, count what still waits as deactivated. No effect if stopped."""
        if self._thread is None:
            return
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()
        self._thread = None
        with self._condition:
            self.buffer.clear("deactivated")

    def reset(self) -> dict[str, int]:
        """Count all that waits as reset, and let the frame in work finish: after it nothing older is published.

        Returns how many images, detections and depth images waited.
        """
        with self._condition:
            waiting = self.buffer.pending
            self.buffer.clear("reset")
            self._condition.wait_for(lambda: not self._in_work)
        return waiting

    def add_image(self, stamp: int, frame_id: str, message: Any) -> None:
        """Store an image message (stamp in ns)."""
        with self._condition:
            self.buffer.add_image(stamp, frame_id, message, len(message.data), time.monotonic())
            self._condition.notify()

    def add_detections(self, stamp: int, frame_id: str, message: Any) -> None:
        """Store a detection array (stamp in ns)."""
        with self._condition:
            self.buffer.add_detections(stamp, frame_id, message, time.monotonic())
            self._condition.notify()

    def add_depth(self, stamp: int, frame_id: str, message: Any) -> None:
        """Store a depth image message (stamp in ns). No pair waits for it."""
        with self._condition:
            self.buffer.add_depth(stamp, frame_id, message, len(message.data), time.monotonic())

    def drain(self, pipeline: RunsFrames, publish: Callable[[Frame], None], now: float) -> None:
        """Serve every complete pair at `now` (s) in the caller's thread: what a replay does instead of `start`."""
        while (pair := self.buffer.take(now)) is not None:
            self._serve(pair, pipeline, publish)

    def snapshot(self) -> Snapshot:
        """A consistent copy of all bookkeeping."""
        with self._condition:
            counters, reasons = self._statistics.snapshot()
            pending = self.buffer.pending
            pending["detections"] += self._in_work
            return Snapshot(
                counters + self.buffer.counters,
                reasons,
                self.buffer.received,
                {"images": self.buffer.taken["images"], "depth": self.buffer.taken["depth"]},
                {"poses": self._published["poses"], "objects": self._published["objects"]},
                pending,
                self.buffer.lateness,
                self.buffer.recent_lateness,
                self.buffer.last_pair,
            )

    def _run(self, pipeline: RunsFrames, publish: Callable[[Frame], None]) -> None:
        while True:
            pipeline.prepare()
            with self._condition:
                if self._stopping:
                    return
                pair = self.buffer.take(time.monotonic())
                if pair is None:
                    self._condition.wait(TICK)
                    continue
                self._in_work = 1
            # Nothing of one frame, not even its line in the log, may end the service of the next.
            try:
                self._serve(pair, pipeline, publish)
            except Exception:
                traceback.print_exc()

    def _serve(self, pair: Pair, pipeline: RunsFrames, publish: Callable[[Frame], None]) -> None:
        """Run a pair, count what became of it, and log an unexpected error, the same kind now and then only."""
        with self._condition:
            depth = self.buffer.depth_of(pair.image)
        outcome = self._process(pair, depth, pipeline, publish)
        with self._condition:
            self._in_work = 0
            if outcome.counter:
                self._statistics.count(outcome.counter, 1, outcome.reason)
                self._statistics.count("lost_with_frame", outcome.objects)
            else:
                self._published.update({"poses": 1, "objects": outcome.objects})
            self._condition.notify_all()
        for stage, seconds in outcome.latencies.items():
            self._statistics.latency(stage, seconds)
        kind, now = (outcome.counter, outcome.reason), time.monotonic()
        if outcome.traceback and now - self._logged.get(kind, -LOG_PERIOD) >= LOG_PERIOD:
            self._logged = {kind: now, **{old: when for old, when in self._logged.items() if now - when < LOG_PERIOD}}
            self._log_error(f"{outcome.counter}: {outcome.reason}\n{outcome.traceback}")
        if outcome.counter == "out_of_memory":
            release_cached()

    def _process(
        self, pair: Pair, depth: Image | None, pipeline: RunsFrames, publish: Callable[[Frame], None]
    ) -> Outcome:
        started, stage = time.monotonic(), "estimator_error"
        lost = len(pair.detections.payload.detections)
        try:
            frame = pipeline.run(pair.image.payload, pair.detections.payload, depth)
            frame = dataclasses.replace(frame, completed=pair.completed)
            # Those left out are counted already.
            stage, estimated, lost = "publish_error", time.monotonic(), len(frame.detections)
            publish(frame)
        except ImageError as error:
            return Outcome(lost, error.counter, str(error))
        # Whatever one frame does, the next one must be served.
        except Exception as error:
            counter = "out_of_memory" if stage == "estimator_error" and is_out_of_memory(error) else stage
            return Outcome(lost, counter, cause(error), traceback.format_exc())
        done = time.monotonic()
        latencies = {"wait": started - pair.completed, "publish": done - estimated, "total": done - pair.completed}
        return Outcome(len(frame.detections), latencies=latencies)
