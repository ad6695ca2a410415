"""Latency percentiles, the throttled log of counters, and the status message."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus

from shared_pose_ros.pipeline.statistics import STAGES, WINDOW, Statistics
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.diagnostics.keys import LATENCIES, documented
from shared_pose_ros.ros.diagnostics.message import CounterLog, status_message
from shared_pose_ros.ros.diagnostics.reporter import device_reason, unknown_parameter


def test_percentiles_are_those_of_the_latest_window() -> None:
    statistics = Statistics()
    for value in [1e6] * 100 + list(range(WINDOW)):
        statistics.latency("wait", float(value))
    result = statistics.percentiles()
    assert set(result) == {"wait_p50_s", "wait_p99_s"}
    assert abs(result["wait_p50_s"] - (WINDOW - 1) / 2) < 1
    assert abs(result["wait_p99_s"] - 0.99 * (WINDOW - 1)) < 1


def test_counts_add_up_and_keep_the_latest_reason() -> None:
    statistics = Statistics()
    statistics.count("empty_box", 2, "first")
    statistics.count("empty_box", reason="second")
    counters, reasons = statistics.snapshot()
    assert counters == {"empty_box": 3} and reasons == {"empty_box": "second"}
    counters["empty_box"] = 0
    assert statistics.snapshot()[0]["empty_box"] == 3


def test_log_lines_are_throttled_but_lose_no_count() -> None:
    log = CounterLog(period=5.0)
    assert log.lines({}, {}, 0.0) == []
    [(warning, text)] = log.lines({"unknown_class": 1}, {"unknown_class": "class_id 'spoon'"}, 1.0)
    assert warning and "+1 (total 1): class_id 'spoon'" in text and COUNTERS["unknown_class"].remedy in text
    assert log.lines({"unknown_class": 7}, {}, 3.0) == []
    [(_, text)] = log.lines({"unknown_class": 9}, {}, 6.0)
    assert "+8 (total 9)" in text
    assert log.lines({"unknown_class": 9}, {}, 60.0) == []
    [(warning, _)] = log.lines({"unknown_class": 9, "low_score": 1}, {}, 61.0)
    assert not warning


def status(problem="", hints=(), counters=None, before=None) -> DiagnosticStatus:
    return status_message(
        "node: poses", "cpu", problem, hints, counters or {}, before or {}, {"state": "active", "a_s": 0.25}
    )


def test_status_lists_every_counter_even_at_zero() -> None:
    message = status(counters={"superseded": 4}, before={"superseded": 4})
    values = {entry.key: entry.value for entry in message.values}
    assert {f"counter/{name}" for name in COUNTERS} < set(values)
    assert (values["counter/superseded"], values["counter/empty_box"]) == ("4", "0")
    assert (values["state"], values["a_s"]) == ("active", "0.25")
    assert (message.level, message.message) == (DiagnosticStatus.OK, "OK")


def test_status_warns_of_growth_only_where_something_is_wrong() -> None:
    message = status(counters={"superseded": 5, "unmatched_image": 9}, before={"superseded": 4})
    assert message.level == DiagnosticStatus.WARN
    assert message.message.startswith("superseded: ") and "unmatched_image" not in message.message
    assert status(counters={"unmatched_image": 9}).level == DiagnosticStatus.OK
    explained = status_message(
        "node: poses",
        "cpu",
        "",
        (),
        {"camera_info_mismatch": 1},
        {},
        {},
        {"camera_info_mismatch": "640x480, image 64x48"},
    )
    remedy = COUNTERS["camera_info_mismatch"].remedy
    assert explained.message == f"camera_info_mismatch: 640x480, image 64x48; {remedy}"
    assert status(hints=["nothing on 'image'"]).message == "nothing on 'image'"


def test_a_problem_outranks_warnings() -> None:
    message = status("no bundle", ["hint"], {"superseded": 5})
    assert (message.level, message.message) == (DiagnosticStatus.ERROR, "no bundle")


def test_every_counter_that_warns_says_what_to_do() -> None:
    assert [name for name, info in COUNTERS.items() if not info.normal and not info.remedy] == []
    assert {info.stream for info in COUNTERS.values()} == {"image", "detections", "depth", "object", "note"}


def test_every_value_is_described() -> None:
    assert set(LATENCIES) == set(STAGES)
    assert all(text and key for key, text in documented().items())


def test_what_needs_an_explanation_gets_one() -> None:
    assert (
        "no GPU" in device_reason("auto", "cpu") and device_reason("cpu", "cpu") == device_reason("auto", "cuda") == ""
    )
    assert unknown_parameter("hypothesis", "hypotheses").endswith("did you mean 'hypotheses'?")
    assert "ros2 param list" in unknown_parameter("x", "")
