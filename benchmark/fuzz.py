"""Mutated messages through conversions, pairing, estimator and poses: nothing may escape, everything must be counted.

    python benchmark/fuzz.py [--messages 100000] [--seed 0] [--json OUT]

Valid Image, CompressedImage, Detection2DArray and CameraInfo messages are changed field by field, or as serialised
bytes, and fed to the node's own Worker, MessagePipeline, PoseEstimator (with a module that only answers) and
PosesWriter. Prints JSON; exit code 1 if an exception escaped, was caught as an unexpected one, or the accounting does
not balance. The same seed gives the same messages.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import dataclasses
import os
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from output import emit
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.message_pipeline import MessagePipeline
from shared_pose_ros.ros.messages.images import ENCODINGS
from shared_pose_ros.ros.messages.poses import PosesWriter
from shared_pose_ros.ros.pairing import PairingBuffer, PairingLimits
from shared_pose_ros.ros.visualization.drawing_thread import debug_image
from shared_pose_ros.ros.visualization.markers import MarkerWriter
from shared_pose_ros.ros.worker import Worker
from shared_pose_ros.training.provenance import processor_name

CHECK_EVERY = 500
"""Messages between two checks of the accounting."""
DRAW_EVERY = 20
"""Published frames between two that are drawn too."""
DEPTH = "depth Image"
FRAME_NS = 33_000_000
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 1e-320, 1e-30, 1e30, 1e308, -1e308, 0.5, 1e6)
STRINGS = (
    "", " ", "part_0", "PART_0", "part_99", "\x00", "a\x00b", "ü€😀", "x" * 5000, "../../etc", "%s%n", "{0}",
    "rgb8", "RGB8", "bgr8", "mono8", "mono16", "32FC1", "16UC1", "8UC3", "8uc4", "yuv422", "bayer_rggb8", "nv12",
    "jpeg", "png", "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth png", "tiff", "camera", "plumb_bob",
)  # fmt: skip
RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "uint8": (0, 255)}


class Seeds:
    """Valid messages to start from."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        self._files = [("jpeg", cv2.imencode(".jpg", picture)[1].tobytes())]
        self._files += [("png", cv2.imencode(".png", picture)[1].tobytes())]
        self._bytes = picture.tobytes()

    def image(self) -> Image:
        """In any encoding that is read without cv_bridge, most often of the camera_info's size."""
        encoding = self._chance.choice(ENCODINGS)
        channels = {"rgb8": 3, "bgr8": 3, "8uc3": 3, "rgba8": 4, "bgra8": 4, "8uc4": 4}.get(encoding, 1)
        height, width = self._chance.choice(((24, 32),) * 4 + ((8, 8), (1, 1), (3, 5)))
        data = array.array("B", (self._bytes * 2)[: height * width * channels])
        return Image(height=height, width=width, step=width * channels, encoding=encoding, data=data)

    def compressed(self) -> CompressedImage:
        """JPEG or PNG."""
        name, data = self._chance.choice(self._files)
        return CompressedImage(format=name, data=array.array("B", data))

    def depth(self) -> Image:
        """As 16UC1 or 32FC1, most often of the camera_info's size."""
        encoding, kind = self._chance.choice((("16UC1", "<u2"), ("32FC1", "<f4")))
        height, width = self._chance.choice(((24, 32),) * 4 + ((12, 16), (5, 5)))
        metres = np.full((height, width), self._chance.choice((0.0, 0.4, 500.0)))
        data = array.array("B", (metres if kind == "<f4" else metres * 100).astype(kind).tobytes())
        return Image(height=height, width=width, step=len(data) // height, encoding=encoding, data=data)

    def detections(self) -> Detection2DArray:
        """None to five boxes that the estimator answers."""
        message = Detection2DArray()
        for number in range(self._chance.choice((0, 1, 1, 2, 3, 5))):
            entry = Detection2D(id=str(number))
            entry.bbox.center.position.x, entry.bbox.center.position.y = 16.0, 12.0
            entry.bbox.size_x, entry.bbox.size_y = 10.0, 8.0
            for score in (0.9, 0.1)[: self._chance.choice((1, 1, 2))]:
                entry.results.append(ObjectHypothesisWithPose())
                entry.results[-1].hypothesis.class_id, entry.results[-1].hypothesis.score = "part_0", score
            message.detections.append(entry)
        return message

    def camera_info(self) -> CameraInfo:
        """Of the largest image, with K and P."""
        k = [30.0, 0.0, 15.5, 0.0, 30.0, 11.5, 0.0, 0.0, 1.0]
        return CameraInfo(height=24, width=32, k=k, p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0], d=[0.0] * 5)


class Mutator:
    """Changes one field of a message, or bytes of its serialised form, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def fields(self, message: Any) -> None:
        """Change one field somewhere below the message."""
        holder, name = message, ""
        while True:
            name = self._chance.choice(list(holder.get_fields_and_field_types()))
            value = getattr(holder, name)
            if isinstance(value, list) and value and hasattr(value[0], "get_fields_and_field_types"):
                if self._chance.random() < 0.3:
                    setattr(holder, name, self._shuffled(value))
                    return
                holder = self._chance.choice(value)
            elif hasattr(value, "get_fields_and_field_types"):
                holder = value
            else:
                break
        kind = holder.get_fields_and_field_types()[name]
        new = self._value(kind, getattr(holder, name))
        if new is not None:
            setattr(holder, name, new)

    def wire(self, message: Any) -> Any:
        """The message after some of its CDR bytes were changed; None where the middleware refuses it."""
        data = bytearray(serialize_message(message))
        for _ in range(self._chance.randint(1, 3)):
            self._bytes(data)
        with quiet_standard_error():
            # Fast CDR and rclpy each have exceptions of their own for what they cannot read.
            try:
                return deserialize_message(bytes(data), type(message))
            except Exception:
                return None

    def _shuffled(self, entries: list) -> list:
        """Without one, with one twice, or twenty times as many."""
        change = self._chance.choice(("drop", "twice", "many"))
        if change == "drop":
            return entries[1:]
        return [*entries, entries[0]] if change == "twice" else entries * 20

    def _value(self, kind: str, old: Any) -> Any:
        if isinstance(old, bool):
            return not old
        if isinstance(old, str):
            return self._chance.choice(STRINGS)
        if isinstance(old, float):
            return self._chance.choice((*FLOATS, old * -1.0, old + self._chance.uniform(-40, 40)))
        if isinstance(old, int):
            least, greatest = RANGES.get(kind, (0, 255))
            near = min(max(old + self._chance.choice((-1, 1, 7)), least), greatest)
            return self._chance.choice((least, greatest, 0, near, self._chance.randint(least, greatest)))
        if isinstance(old, array.array) and old.typecode == "B":
            data = bytearray(old.tobytes())
            self._bytes(data)
            return array.array("B", bytes(data))
        if isinstance(old, (np.ndarray, array.array)) and len(old):
            changed = np.array(old)
            changed[self._chance.randrange(len(changed))] = self._chance.choice(FLOATS)
            return changed if isinstance(old, np.ndarray) else array.array("d", changed.tolist())
        return None

    def _bytes(self, data: bytearray) -> None:
        change = self._chance.random()
        if change < 0.5 and data:
            for _ in range(self._chance.choice((1, 1, 4, 16))):
                data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        elif change < 0.8:
            del data[self._chance.randint(0, len(data)) :]
        else:
            data += self._chance.randbytes(self._chance.randint(1, 64))


@contextlib.contextmanager
def quiet_standard_error() -> Iterator[None]:
    """Fast CDR writes a line to the process's standard error for each message that it refuses."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def answering_estimator() -> PoseEstimator:
    """A PoseEstimator with the checks of the real one and a module that answers identities for three parts."""
    objects = [
        SimpleNamespace(
            class_id=f"part_{number}", aliases=(str(number),), extents=(0.06, 0.04, 0.02), centre=(0.0, 0.0, 0.01),
            symmetries={}, name="part", diameter=0.07,
        )
        for number in range(3)
    ]  # fmt: skip

    def module(pixels: torch.Tensor, boxes: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.eye(3).repeat(len(boxes), 2, 1, 1), torch.full((len(boxes), 2), 0.5)

    metadata = SimpleNamespace(name="answers", objects=objects, metrics={})
    return PoseEstimator(
        SimpleNamespace(
            module=module, metadata=metadata, meshes=(), fine_meshes=(), refiner=None, precision="fp32", remark=""
        ),
        torch.device("cpu"),
    )


class Fuzz:
    """One worker fed with mutated messages; `errors` holds what must not happen."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seeds, self.mutator = Seeds(self.chance), Mutator(self.chance)
        self.parameters = NodeParameters()
        self.statistics, self.errors = Statistics(), []
        limits = PairingLimits(max_age_seconds=0.2, max_count=20, max_bytes=2**20, slop_seconds=0.002)
        self.worker = Worker(PairingBuffer(limits), self.statistics, lambda text: self.fault("in the worker", text))
        estimator = answering_estimator()
        self.pipeline = MessagePipeline(estimator, lambda: self.parameters, self.statistics)
        self.writer = PosesWriter()
        self.markers, self.meshes = MarkerWriter(estimator.object_index, estimator.meshes), estimator.meshes
        self.sent: Counter[str] = Counter()
        self.taken_objects = self.published = self.refused = 0
        self.now, self.stamp = 0.0, 10**18

    def fault(self, where: str, text: str) -> None:
        """Keep the first of each kind, and how many there were."""
        kind = text.strip().splitlines()[-1]
        known = next((entry for entry in self.errors if entry["kind"] == kind), None)
        if known is None:
            self.errors.append({"where": where, "kind": kind, "times": 1, "text": text})
        else:
            known["times"] += 1

    def run(self, messages: int) -> None:
        """Feed so many messages, check the accounting now and then, and let all time run out at the end."""
        while sum(self.sent.values()) < messages:
            before = sum(self.sent.values())
            self._frame()
            if sum(self.sent.values()) // CHECK_EVERY > before // CHECK_EVERY:
                self.check()
        for _ in range(2):
            self.now += 10.0
            self._guarded("drain", lambda: self.worker.drain(self.pipeline, self._publish, self.now))
        self.check()
        if any(self.worker.snapshot().pending.values()):
            self.fault("accounting", f"pending at the end: {self.worker.snapshot().pending}")

    def check(self) -> None:
        """Received = published + counters + pending for each stream, and no counter without an entry in COUNTERS."""
        snapshot, lost = self.worker.snapshot(), Counter()
        for name, number in snapshot.counters.items():
            if name not in COUNTERS:
                self.fault("accounting", f"unknown counter {name}")
                continue
            lost[COUNTERS[name].stream] += number
        images, arrays = self.sent["Image"] + self.sent["CompressedImage"], self.sent["Detection2DArray"]
        accounting = {
            "images": (images, self.worker.buffer.taken["images"] + lost["image"] + snapshot.pending["images"]),
            "detections": (arrays, snapshot.published["poses"] + lost["detections"] + snapshot.pending["detections"]),
            "depth": (self.sent[DEPTH], snapshot.used["depth"] + lost["depth"] + snapshot.pending["depth"]),
            "objects": (self.taken_objects, snapshot.published["objects"] + lost["object"]),
            "published": (self.published, snapshot.published["poses"]),
        }
        for name, (left, right) in accounting.items():
            if left != right:
                self.fault("accounting", f"{name}: {left} != {right}")

    def _frame(self) -> None:
        """An image, one or two arrays on it, now and then a camera_info, in random order and time."""
        if self.chance.random() < 0.02:
            # Between two configures, so nothing of the other kind waits any more.
            self._guarded("reset", self.worker.reset)
            self.pipeline.poses.temporal_filter.clear()
            use_depth, transport = self.chance.random() < 0.5, self.chance.choice(("raw", "compressed"))
            self.parameters = dataclasses.replace(self.parameters, use_depth=use_depth, image_transport=transport)
        compressed = self.parameters.image_transport == "compressed"
        self.parameters = dataclasses.replace(
            self.parameters,
            image_is_rectified=self.chance.random() < 0.5,
            smoothing=self.chance.choice((0.0, 0.5)),
            symmetric_representative=self.chance.choice(("any", "reference", "last")),
        )
        self.stamp += FRAME_NS if self.chance.random() < 0.98 else -self.chance.randrange(10**10)
        self.now += self.chance.choice((0.0, 0.01, 0.033, 0.3))
        messages = [self.seeds.compressed() if compressed else self.seeds.image(), self.seeds.detections()]
        messages += [self.seeds.detections()] if self.chance.random() < 0.2 else []
        messages += [self.seeds.camera_info()] if self.chance.random() < 0.3 else []
        named = [(type(message).__name__, message) for message in messages]
        if self.parameters.use_depth and self.chance.random() < 0.8:
            named.insert(0, (DEPTH, self.seeds.depth()))
        if self.chance.random() < 0.2:
            self.chance.shuffle(named)
        for name, message in named:
            message.header.frame_id = "camera"
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp, 10**9)
            for _ in range(self.chance.choice((0, 1, 1, 2))):
                self.mutator.fields(message)
            if self.chance.random() < 0.15:
                message = self.mutator.wire(message)
            if message is None:
                self.refused += 1
            else:
                self._guarded(name, lambda name=name, message=message: self._feed(name, message))
        self._guarded("drain", self._drain)

    def _drain(self) -> None:
        self.worker.drain(_Counting(self), self._publish, self.now)

    def _feed(self, name: str, message: Any) -> None:
        self.sent[name] += 1
        stamp, frame_id = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec, message.header.frame_id
        if isinstance(message, CameraInfo):
            self.pipeline.camera_info = message
        elif name == DEPTH:
            self.worker.buffer.add_depth(stamp, frame_id, message, len(message.data), self.now)
        elif isinstance(message, Detection2DArray):
            self.worker.buffer.add_detections(stamp, frame_id, message, self.now)
        else:
            self.worker.buffer.add_image(stamp, frame_id, message, len(message.data), self.now)

    def _publish(self, frame: Frame) -> None:
        poses = self.writer.write(frame.published)
        serialize_message(poses)
        for entry in poses.detections:
            turn = entry.results[0].pose.pose.orientation
            if abs(turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2 - 1.0) > 1e-6:
                raise ValueError(f"quaternion {turn} is not of unit length")
            if not np.isfinite(np.array(entry.results[0].pose.covariance)).all():
                raise ValueError("covariance is not finite")
        self.published += 1
        if self.published % DRAW_EVERY == 0:
            self.markers.write(frame.published)
            debug_image(frame, self.meshes, 0.01)

    def _guarded(self, where: str, function: Callable[[], None]) -> None:
        # numpy's warnings of overflow and the like would appear in the node's log.
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                function()
            except Exception:
                self.fault(where, traceback.format_exc())


class _Counting:
    """The fuzz's MessagePipeline, noting how many objects went in."""

    def __init__(self, fuzz: Fuzz) -> None:
        self._fuzz = fuzz

    def run(self, image: Any, detections: Any, depth: Any) -> Frame:
        """MessagePipeline.run."""
        self._fuzz.taken_objects += len(detections.detections)
        return self._fuzz.pipeline.run(image, detections, depth)


def result(fuzz: Fuzz, seconds: float, command: list[str]) -> dict[str, Any]:
    """What the run says, for JSON."""
    snapshot = fuzz.worker.snapshot()
    return {
        "command": " ".join(command),
        "hardware": {"processor": processor_name(), "cores": os.cpu_count()},
        "seconds": round(seconds, 1),
        "messages": dict(sorted(fuzz.sent.items())),
        "refused_by_the_middleware": fuzz.refused,
        "published": snapshot.published,
        "counters": {name: snapshot.counters.get(name, 0) for name in COUNTERS},
        "errors": fuzz.errors,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 if something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000, help="how many messages reach the node's code")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result there too")
    options = parser.parse_args(arguments)
    fuzz, start = Fuzz(options.seed), time.perf_counter()
    fuzz.run(options.messages)
    command = ["python benchmark/fuzz.py", *(sys.argv[1:] if arguments is None else arguments)]
    emit(result(fuzz, time.perf_counter() - start, command), options.json)
    return 1 if fuzz.errors else 0


if __name__ == "__main__":
    sys.exit(main())
