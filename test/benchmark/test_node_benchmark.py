"""The benchmark's figures: metrics against hand-made time stamps, fits, the search for a rate, the stub, the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import message_path
import node_input
import numpy as np
import page_tables
import pytest
from checkout import ROOT
from node_metrics import highest_passing, line_fit, percentiles, performance, rounded
from node_process import ProcessWatch, cpu_seconds, resident_mib, system_seconds
from node_stub import write_stub
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from shared_pose_ros.estimator import PoseEstimator
from shared_pose_ros.replay.player import header_key
from shared_pose_ros.ros.messages.images import rgb_from_compressed, rgb_from_image

PREFIX = "BasicPerformanceMetrics."


def test_performance_has_ros2_benchmarks_fields_and_definitions():
    sent = {"a": 10.0, "b": 10.1, "c": 10.2, "d": 10.3}
    received = {"a": 10.02, "c": 10.25, "d": 10.31}
    found = performance(sent, received)
    assert all(name.startswith(PREFIX) for name in found)
    values = {name.removeprefix(PREFIX): value for name, value in found.items()}
    assert values["NUM_FRAMES_SENT"] == 4 and values["NUM_MISSED_FRAMES"] == 1
    # Messages over the time between first and last, not intervals: as there.
    assert values["MEAN_PLAYBACK_FRAME_RATE"] == pytest.approx(4 / 0.3, rel=1e-3)
    assert values["MEAN_FRAME_RATE"] == pytest.approx(3 / 0.29, rel=1e-3)
    assert values["RECEIVED_DURATION"] == pytest.approx(290)
    assert values["FIRST_SENT_RECEIVED_LATENCY"] == pytest.approx(20)
    assert values["LAST_SENT_RECEIVED_LATENCY"] == pytest.approx(10)
    assert [values[f"{name}_LATENCY"] for name in ("MIN", "MEAN", "MAX")] == pytest.approx([10, 80 / 3, 50], rel=1e-3)
    assert values["FIRST_INPUT_LATENCY"] == pytest.approx(20) and values["LAST_INPUT_LATENCY"] == pytest.approx(10)
    # Arrivals 20, 250, 310 ms: intervals 230 and 60, their difference 170.
    assert values["MEAN_JITTER"] == values["MAX_JITTER"] == pytest.approx(170) and values["STD_DEV_JITTER"] == 0


def test_performance_without_answers_leaves_out_what_it_cannot_say():
    assert performance({}, {}) == {f"{PREFIX}NUM_FRAMES_SENT": 0, f"{PREFIX}NUM_MISSED_FRAMES": 0}
    found = performance({1: 0.0, 2: 0.5}, {})
    assert found[f"{PREFIX}NUM_MISSED_FRAMES"] == 2 and f"{PREFIX}MEAN_LATENCY" not in found
    assert f"{PREFIX}MEAN_JITTER" not in performance({1: 0.0, 2: 0.5}, {1: 0.1, 2: 0.6})


def test_figures_are_rounded_to_what_they_are_worth():
    assert [rounded(value) for value in (0.0123456, 12.34567, 98765.4321, 7, 0.0)] == [0.01235, 12.35, 98765.4, 7, 0.0]
    assert percentiles([]) == {}
    assert percentiles([0.001, 0.002, 0.003]) == {"p50_ms": 2.0, "p90_ms": 2.8, "p99_ms": 2.98}


def test_line_fit_is_numpys(tmp_path):
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(0, 30, 50))
    y = 0.7 * x + 12 + random.normal(0, 0.1, 50)
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    fit = line_fit(x, y)
    assert [fit.slope, fit.intercept] == pytest.approx(coefficients)
    assert fit.slope_error == pytest.approx(np.sqrt(covariance[0, 0]))
    for points in ([1.0, 2.0], [3.0, 3.0, 3.0]):
        with pytest.raises(ValueError, match="needs? 3"):
            line_fit(points, points)


@pytest.mark.parametrize("best", range(-1, 7))
def test_the_highest_rate_is_found_in_few_trials(best):
    ladder, tried = (1, 2, 5, 10, 20, 50, 100), []

    def passes(rate):
        tried.append(rate)
        return ladder.index(rate) <= best

    assert highest_passing(ladder, passes) == (ladder[best] if best >= 0 else None)
    assert len(tried) == len(set(tried)) <= 3


def test_the_stub_is_a_bundle_that_answers_for_every_box(tiny_bundle, tmp_path):
    metadata = write_stub(tiny_bundle, tmp_path / "stub.pose.pt")
    estimator = PoseEstimator.load(tmp_path / "stub.pose.pt", "cpu")
    assert estimator.metadata == metadata and metadata.name.endswith("without network")
    image, boxes = np.zeros((48, 64, 3), np.uint8), np.array([[20.0, 20.0, 9.0, 9.0]] * 5)
    estimate = estimator.estimate(
        image, boxes, np.zeros(5, np.int64), np.array([[60.0, 0, 31], [0, 60, 23], [0, 0, 1]])
    )
    assert estimate.rotations.shape == (5, metadata.hypotheses, 3, 3) and estimate.ray_corrected
    np.testing.assert_allclose(np.linalg.det(estimate.rotations), 1, atol=1e-5)
    np.testing.assert_allclose(estimate.confidences.sum(axis=1), 1, atol=1e-6)
    assert estimator.estimate(image, boxes[:0], np.zeros(0, np.int64)).rotations.shape[0] == 0


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_frames_decode_to_the_streams_picture_under_a_new_stamp(transport):
    frame = node_input.make_input("640x480", transport, 3, ["a", "b"])
    stamp = 1_234_567_890_123_456_789
    data = node_input.stamped(frame.image, stamp)
    assert header_key(data) == (stamp, node_input.FRAME_ID) and len(data) == len(frame.image)
    message = deserialize_message(data, type(node_input.image_message((480, 640), transport)))
    pixels = (rgb_from_image if transport == "raw" else rgb_from_compressed)(message)
    assert np.abs(pixels.astype(int) - node_input.picture((480, 640))).mean() < (0.1 if transport == "raw" else 4)
    array = deserialize_message(node_input.stamped(frame.detections, stamp), Detection2DArray)
    assert [entry.results[0].hypothesis.class_id for entry in array.detections] == ["a", "b", "a"]
    assert header_key(node_input.stamped(frame.camera_info, stamp))[0] == stamp


@pytest.mark.parametrize("frame_id", ["", "a", "camera", "camera_optical_frame"])
def test_the_comparisons_reader_finds_the_pixels(frame_id):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = Image(height=5, width=7, step=21, encoding="rgb8", data=pixels.tobytes())
    message.header.frame_id = frame_id
    np.testing.assert_array_equal(message_path.view_of_cdr(serialize_message(message)), pixels)


def test_a_process_is_watched():
    code = "import time\nheld = bytearray(50_000_000)\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(1, flush=True)\ntime.sleep(60)"  # noqa: E501
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            with ProcessWatch(process.pid, 0.02) as watch:
                assert process.stdout.read(1)
                time.sleep(0.1)
            assert cpu_seconds(process.pid) >= 0.25
            report = watch.report()
            assert (
                report["node_resident_mib"] > 47 and report["node_resident_highest_mib"] >= report["node_resident_mib"]
            )
            assert report["node_cpu_percent_of_one_core"] > 0
            assert 0 <= report["ResourceMetrics.MEAN_OVERALL_CPU_UTILIZATION"] <= 100.1
        finally:
            process.kill()
    with pytest.raises(ProcessLookupError):
        resident_mib(process.pid)
    busy, everything = system_seconds()
    assert 0 < busy < everything and resident_mib(os.getpid())[0] > 10


def test_a_busy_machine_is_said():
    result = json.loads((ROOT / "benchmark" / "results" / "node_cpu.json").read_text(encoding="utf-8"))
    for busy, said in ((3.0, False), (60.0, True)):
        result["metadata"]["BenchmarkMetadata.IDLE_CPU_UTIL"] = busy
        assert ("Provisional" in page_tables.machine(result)) == said
