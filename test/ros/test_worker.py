"""The worker thread with an estimator made for the test: batches, errors, superseding, and bookkeeping that adds up."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Optional

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from shared_pose_ros.estimator import PoseEstimate
from shared_pose_ros.pipeline.frame import Frame
from shared_pose_ros.pipeline.parameters import NodeParameters
from shared_pose_ros.pipeline.statistics import Statistics
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.message_pipeline import MessagePipeline
from shared_pose_ros.ros.pairing import PairingBuffer
from shared_pose_ros.ros.worker import Worker


class FakeEstimator:
    """Answers with identities; fails or waits on demand, and remembers its batch sizes."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.metadata = SimpleNamespace(
            objects=[
                SimpleNamespace(class_id="part", extents=(0.1,) * 3, centre=(0.0,) * 3, diameter=0.17, symmetries={})
            ],
            metrics={},
        )
        self.meshes = self.fine_meshes = (None,)
        self.refiner, self.device = None, None
        self.error: Optional[Exception] = None
        self.nan_index: Optional[int] = None
        self.gate = threading.Event()
        self.gate.set()

    def object_index(self, class_id: str) -> Optional[int]:
        return {"part": 0}.get(class_id)

    def estimate(self, image, boxes, object_index, camera_matrix, depth=None) -> PoseEstimate:
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.batches.append(len(boxes))
        rotations = np.tile(np.eye(3, dtype=np.float32), (len(boxes), 2, 1, 1))
        if self.nan_index is not None:
            rotations[self.nan_index] = np.nan
        translations = None if camera_matrix is None else boxes[:, :3].copy()
        covariances = None if camera_matrix is None else np.tile(np.eye(3, dtype=np.float32), (len(boxes), 1, 1))
        problems = () if depth is None else ("far" if depth.max() > 1.0 else "",) * len(boxes)
        confidences = np.full((len(boxes), 2), 0.5, np.float32)
        return PoseEstimate(rotations, confidences, translations, camera_matrix is not None, covariances, problems)


@pytest.fixture
def estimator() -> FakeEstimator:
    return FakeEstimator()


@pytest.fixture
def statistics() -> Statistics:
    return Statistics()


@pytest.fixture
def pipeline(estimator: FakeEstimator, statistics: Statistics) -> MessagePipeline:
    return MessagePipeline(estimator, lambda: NodeParameters(max_batch=4), statistics)


def change(pipeline: MessagePipeline, **values) -> None:
    """Other parameters from the next frame on."""
    pipeline._parameters = lambda: NodeParameters(**{"max_batch": 4, **values})


def image(encoding: str = "rgb8", size: tuple[int, int] = (48, 64)) -> Image:
    message = Image(height=size[0], width=size[1], step=3 * size[1], encoding=encoding)
    message.data = array.array("B", bytes(3 * size[0] * size[1]))
    message.header.frame_id = "camera"
    return message


def detections(count: int, class_id: str = "part", first: int = 0) -> Detection2DArray:
    message = Detection2DArray()
    for number in range(count):
        entry = Detection2D(id=str(first + number))
        entry.bbox.center.position.x, entry.bbox.center.position.y = 20.0 + number, 20.0
        entry.bbox.size_x = entry.bbox.size_y = 10.0
        entry.results.append(ObjectHypothesisWithPose())
        entry.results[0].hypothesis.class_id = class_id
        message.detections.append(entry)
    return message


@pytest.mark.parametrize(("count", "batches"), [(0, [0]), (1, [1]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1])])
def test_one_batch_a_frame_split_only_above_the_limit(
    pipeline: MessagePipeline, estimator: FakeEstimator, count: int, batches: list[int]
) -> None:
    frame = pipeline.run(image(), detections(count))
    assert estimator.batches == batches
    assert len(frame.estimate.rotations) == len(frame.detections.ids) == count
    assert frame.estimate.translations is None


def camera_info(frame_id: str = "camera", size: tuple[int, int] = (48, 64), focal: float = 50.0) -> CameraInfo:
    message = CameraInfo(height=size[0], width=size[1], k=[focal, 0.0, 32.0, 0.0, focal, 24.0, 0.0, 0.0, 1.0])
    message.header.frame_id = frame_id
    return message


@pytest.mark.parametrize(
    ("info", "counter"),
    [
        (None, "no_camera_info"),
        (camera_info("other"), "camera_info_mismatch"),
        (camera_info(size=(480, 640)), "camera_info_mismatch"),
        (CameraInfo(header=camera_info().header), "invalid_camera_info"),
        (camera_info(focal=-1.0), "invalid_camera_info"),
        (camera_info(), None),
        (camera_info(size=(0, 0)), None),
    ],
)
def test_a_camera_that_does_not_fit_is_named_and_left_out(
    pipeline: MessagePipeline, statistics: Statistics, info: Optional[CameraInfo], counter: Optional[str]
) -> None:
    pipeline.camera_info = info
    frame = pipeline.run(image(), detections(5))
    assert frame.estimate.ray_corrected == (counter is None)
    assert (frame.estimate.translations is None) == (counter is not None)
    assert statistics.snapshot()[0] == ({counter: 1} if counter else {})


def test_a_nan_answer_is_left_out_and_counted(
    pipeline: MessagePipeline, estimator: FakeEstimator, statistics: Statistics
) -> None:
    estimator.nan_index, pipeline.camera_info = 1, camera_info()
    frame = pipeline.run(image(), detections(3))
    assert frame.detections.ids == ["0", "2"] and len(frame.estimate.translations) == 2
    assert statistics.snapshot()[0]["non_finite_pose"] == 1


def test_an_infinite_covariance_is_left_out_and_counted(
    pipeline: MessagePipeline, estimator: FakeEstimator, statistics: Statistics, monkeypatch
) -> None:
    plain = estimator.estimate

    def estimate(*given) -> PoseEstimate:
        answer = plain(*given)
        answer.position_covariances[2, 1, 1] = np.inf
        return answer

    monkeypatch.setattr(estimator, "estimate", estimate)
    pipeline.camera_info = camera_info()
    frame = pipeline.run(image(), detections(3))
    assert frame.detections.ids == ["0", "1"] and len(frame.estimate.position_covariances) == 2
    assert statistics.snapshot()[0]["non_finite_pose"] == 1


def depth(metres: float, size: tuple[int, int] = (24, 32), **changes) -> Image:
    values = np.full(size, 1000 * metres, np.uint16)
    message = Image(height=size[0], width=size[1], step=2 * size[1], encoding="16UC1")
    message.data = array.array("B", values.tobytes())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "expected", "words"),
    [
        (depth(0.5), {"no_mesh": 5}, "class 'part': no mesh in the bundle"),
        (depth(2.0), {"depth_rejected": 5, "no_mesh": 5}, "id '4': far"),
        (None, {"no_depth": 1}, "no depth image"),
        (depth(0.5, encoding="rgb8"), {"unusable_depth": 1}, "cannot be read"),
        (depth(0.5, data=array.array("B", [0])), {"unusable_depth": 1}, "1 bytes of data"),
        (depth(0.5, (48, 48)), {"unusable_depth": 1}, "48x48, image of 64x48: not the same view"),
    ],
)
def test_depth_is_used_or_counted_and_the_frame_answered(
    pipeline: MessagePipeline, statistics: Statistics, message: Optional[Image], expected: dict, words: str
) -> None:
    """Five objects are two batches; a frame without depth is answered all the same."""
    pipeline.camera_info = camera_info()
    assert pipeline.run(image(), detections(5), message).estimate.depth_problems == ()
    assert statistics.snapshot()[0] == {}, "without use_depth there is none"
    change(pipeline, use_depth=True)
    problems = pipeline.run(image(), detections(5), message).estimate.depth_problems
    used = "no_mesh" in expected
    assert len(problems) == (5 if used else 0)
    counters, reasons = statistics.snapshot()
    assert counters == expected and words in "".join(reasons.values())


def test_an_object_left_out_takes_its_depth_problem_with_it(pipeline: MessagePipeline, statistics: Statistics) -> None:
    pipeline.estimator.nan_index, pipeline.camera_info = 1, camera_info()
    change(pipeline, use_depth=True)
    frame = pipeline.run(image(), detections(3), depth(2.0))
    assert frame.detections.ids == ["0", "2"] and frame.estimate.depth_problems == ("far", "far")
    assert frame.estimate.position_covariances.shape == (2, 3, 3)


class Cell:
    """A worker with what it published and logged."""

    def __init__(self, pipeline: MessagePipeline, statistics: Statistics) -> None:
        self.published: list[Frame] = []
        self.errors: list[str] = []
        self.publish: Callable[[Frame], None] = self.published.append
        self.worker = Worker(PairingBuffer(), statistics, self.errors.append)
        self.worker.start(pipeline, lambda frame: self.publish(frame))
        self.stamp = 0

    def frame(self, image_message: Image, array_message: Detection2DArray) -> None:
        self.stamp += 1
        self.worker.add_image(self.stamp, "camera", image_message)
        self.worker.add_detections(self.stamp, "camera", array_message)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.002)
        assert condition()

    def settled(self) -> bool:
        """Nothing is pending; the books of both streams balance in every snapshot."""
        snapshot = self.worker.snapshot()
        for stream, output in (("detections", "poses"), ("images", None)):
            lost = sum(
                number
                for name, number in snapshot.counters.items()
                if name in COUNTERS and COUNTERS[name].stream == ("image" if stream == "images" else stream)
            )
            used = snapshot.used["images"] if output is None else snapshot.published[output]
            assert snapshot.received[stream] == used + lost + snapshot.pending[stream]
        lost = sum(snapshot.counters[name] for name, info in COUNTERS.items() if info.stream == "depth")
        assert snapshot.received["depth"] == snapshot.used["depth"] + lost + snapshot.pending["depth"]
        return snapshot.pending["detections"] == 0


@pytest.fixture
def cell(pipeline: MessagePipeline, statistics: Statistics):
    made = Cell(pipeline, statistics)
    yield made
    made.worker.stop()


def test_frames_are_published_and_bad_ones_counted(cell: Cell, estimator: FakeEstimator) -> None:
    cell.frame(image(), detections(2))
    cell.wait(cell.settled)
    cell.frame(image("holo9"), detections(3))
    cell.wait(cell.settled)
    cell.frame(image(), detections(1, "spoon"))
    cell.wait(cell.settled)
    assert [len(frame.detections.ids) for frame in cell.published] == [2, 0]
    snapshot = cell.worker.snapshot()
    assert snapshot.published == {"poses": 2, "objects": 2}
    lost = {name: snapshot.counters[name] for name in ("bad_encoding", "lost_with_frame", "unknown_class")}
    assert lost == {"bad_encoding": 1, "lost_with_frame": 3, "unknown_class": 1}
    assert cell.errors == []


def test_errors_of_estimator_and_publisher_do_not_end_the_worker(cell: Cell, estimator: FakeEstimator) -> None:
    estimator.error = RuntimeError("a broken kernel")
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    estimator.error = None

    def refuse(_: Frame) -> None:
        raise ValueError("no publisher")

    cell.publish = refuse
    mixed = detections(3)
    mixed.detections[1].results[0].hypothesis.class_id = "other"
    cell.frame(image(), mixed)
    cell.wait(cell.settled)
    cell.publish = cell.published.append
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    counters = cell.worker.snapshot().counters
    assert (counters["estimator_error"], counters["publish_error"], len(cell.published)) == (1, 1, 1)
    # Each object once: what was left out of the frame is not lost with it.
    assert (counters["unknown_class"], counters["lost_with_frame"]) == (1, 1 + 2)
    assert "a broken kernel" in cell.errors[0] and "no publisher" in cell.errors[1]
    assert "a broken kernel" in cell.worker.snapshot().reasons["estimator_error"]


def test_while_the_network_is_busy_only_the_newest_pair_waits(cell: Cell, estimator: FakeEstimator) -> None:
    estimator.gate.clear()
    cell.frame(image(), detections(1, first=100))
    cell.wait(lambda: cell.worker.buffer.taken["detections"] == 1)
    for number in range(5):
        cell.frame(image(), detections(1, first=number))
        cell.settled()
    estimator.gate.set()
    cell.wait(cell.settled)
    assert [frame.detections.ids for frame in cell.published] == [["100"], ["4"]]
    assert cell.worker.snapshot().counters["superseded"] == 4


def test_reset_counts_what_waited_and_lets_the_frame_in_work_finish(cell: Cell, estimator: FakeEstimator) -> None:
    """After it nothing older is published; the books balance all the time; the next frame is answered."""
    estimator.gate.clear()
    cell.frame(image(), detections(1, first=100))
    cell.wait(lambda: cell.worker.buffer.taken["detections"] == 1)
    cell.frame(image(), detections(1, first=200))
    cell.worker.add_image(1000, "camera", image())
    assert not cell.settled()
    resetting = threading.Thread(target=lambda: waited.append((cell.worker.reset(), len(cell.published))))
    waited: list[tuple[dict[str, int], int]] = []
    resetting.start()
    cell.wait(lambda: cell.worker.buffer.counters["reset_detection"] == 1)
    cell.settled()
    assert resetting.is_alive()
    estimator.gate.set()
    resetting.join(10)
    assert waited == [({"images": 2, "detections": 1, "depth": 0}, 1)]
    cell.wait(cell.settled)
    assert [frame.detections.ids for frame in cell.published] == [["100"]]
    # A smaller stamp than before is no time jump after a reset.
    cell.frame(image(), detections(1, first=300))
    cell.wait(cell.settled)
    assert cell.published[-1].detections.ids == ["300"]
    counters = cell.worker.snapshot().counters
    assert (counters["reset_image"], counters["reset_detection"], counters["time_jumps"]) == (2, 1, 0)


def test_reset_while_stopped(cell: Cell) -> None:
    cell.worker.stop()
    cell.worker.add_image(1000, "camera", image())
    cell.worker.add_depth(1000, "camera", image())
    assert cell.worker.reset() == {"images": 1, "detections": 0, "depth": 1}
    assert cell.settled()


def test_stop_counts_what_waited_and_start_goes_on(cell: Cell, pipeline: MessagePipeline) -> None:
    cell.worker.add_image(1000, "camera", image())
    cell.worker.add_detections(1001, "camera", detections(1))
    cell.worker.stop()
    cell.worker.stop()
    counters = cell.worker.snapshot().counters
    assert (counters["deactivated_image"], counters["deactivated_detection"]) == (1, 1)
    cell.worker.start(pipeline, cell.published.append)
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    assert len(cell.published) == 1


def test_depth_is_looked_up_by_the_image_s_stamp_and_never_waited_for(
    cell: Cell, pipeline: MessagePipeline, statistics: Statistics
) -> None:
    change(pipeline, use_depth=True)
    pipeline.camera_info = camera_info()
    cell.worker.add_depth(1, "camera", depth(0.5))
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    # Too late for the second frame, so it goes unused.
    cell.worker.add_depth(2, "camera", depth(0.5))
    assert [frame.estimate.depth_problems for frame in cell.published] == [("",), ()]
    snapshot = cell.worker.snapshot()
    assert snapshot.counters == {"no_depth": 1, "no_mesh": 1}
    assert (snapshot.received["depth"], snapshot.used["depth"], snapshot.pending["depth"]) == (2, 1, 1)
    cell.worker.stop()
    assert cell.worker.snapshot().counters["deactivated_depth"] == 1 and cell.settled()


def test_memory_that_runs_out_has_a_name_of_its_own(cell: Cell, estimator: FakeEstimator) -> None:
    estimator.error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    cell.frame(image(), detections(3))
    cell.wait(cell.settled)
    estimator.error = None
    cell.frame(image(), detections(3))
    cell.wait(cell.settled)
    snapshot = cell.worker.snapshot()
    lost = {name: snapshot.counters[name] for name in ("out_of_memory", "batch_halved", "lost_with_frame")}
    assert lost == {"out_of_memory": 1, "batch_halved": 1, "lost_with_frame": 3} and len(cell.published) == 1
    assert "can't allocate memory" in snapshot.reasons["out_of_memory"]


def test_the_same_error_again_and_again_does_not_flood_the_log(cell: Cell, estimator: FakeEstimator) -> None:
    for error in (ValueError("first"), ValueError("first"), ValueError("second"), ValueError("first")):
        estimator.error = error
        cell.frame(image(), detections(1))
        cell.wait(cell.settled)
    assert cell.worker.snapshot().counters["estimator_error"] == 4
    assert [text.splitlines()[0] for text in cell.errors] == [
        "estimator_error: ValueError: first", "estimator_error: ValueError: second",
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["latency", "log"])
def test_errors_in_the_bookkeeping_itself_do_not_end_the_worker(
    cell: Cell, estimator: FakeEstimator, statistics: Statistics, monkeypatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise KeyError(broken)

    with monkeypatch.context() as patch:
        patch.setattr(statistics, "latency", fail) if broken == "latency" else patch.setattr(
            cell.worker, "_log_error", fail
        )
        estimator.error = ValueError("broken")
        cell.frame(image(), detections(1))
        cell.wait(cell.settled)
        estimator.error = None
        cell.frame(image(), detections(1))
        cell.wait(cell.settled)
    cell.frame(image(), detections(1))
    cell.wait(cell.settled)
    assert cell.published and cell.worker.snapshot().published["poses"] >= 1


def test_a_raised_max_batch_is_warmed_by_the_idle_worker(
    cell: Cell, pipeline: MessagePipeline, estimator: FakeEstimator
) -> None:
    warmed: list[int] = []
    estimator.warm_up = lambda size, sizes: warmed.extend(sizes)
    change(pipeline, max_batch=7)
    cell.wait(lambda: warmed == [5, 6, 7])
    cell.frame(image(), detections(7))
    cell.wait(cell.settled)
    assert estimator.batches == [7] and warmed == [5, 6, 7]
