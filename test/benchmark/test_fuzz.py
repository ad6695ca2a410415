"""A short run of benchmark/fuzz.py, and that it finds what it is there to find."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from checkout import ROOT


@pytest.fixture(scope="module")
def fuzz():
    """The benchmark as a module."""
    sys.path.insert(0, str(ROOT / "benchmark"))
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmark" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("fuzz", None)


@pytest.mark.slow
def test_nothing_escapes_and_everything_is_counted(fuzz) -> None:
    run = fuzz.Fuzz(seed=7)
    run.run(3000)
    assert run.errors == []
    assert sum(run.sent.values()) >= 3000 and run.published > 100 and run.refused > 50
    counters = run.worker.snapshot().counters
    # The mutations reach the code behind them.
    for name in ("bad_encoding", "truncated_image", "empty_image", "undecodable_image", "empty_box",
                 "outside_image", "frame_id_mismatch", "time_jumps", "camera_info_mismatch",
                 "unusable_depth"):  # fmt: skip
        assert counters[name] > 0, name


def test_the_same_seed_gives_the_same_messages(fuzz) -> None:
    first, second = fuzz.Fuzz(seed=3), fuzz.Fuzz(seed=3)
    for run in (first, second):
        run.run(150)
    assert first.sent == second.sent
    assert first.worker.snapshot().counters == second.worker.snapshot().counters


def test_an_unexpected_error_and_a_lost_message_are_found(fuzz, monkeypatch) -> None:
    run = fuzz.Fuzz(seed=1)
    monkeypatch.setattr(run.writer, "write", lambda *_: 1 / 0)
    buffer = run.worker.buffer
    monkeypatch.setattr(buffer, "_why_unmatched", lambda array: "no_such_counter")
    run.run(600)
    kinds = " ".join(entry["kind"] for entry in run.errors)
    assert "ZeroDivisionError" in kinds and "unknown counter no_such_counter" in kinds and "detections: " in kinds
