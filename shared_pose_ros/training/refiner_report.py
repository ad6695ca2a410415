"""report.html of a refiner's training: one self-contained page beside its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared_pose_ros.html_page import paragraph, table, write_page
from shared_pose_ros.plots import curves
from shared_pose_ros.training.config import RefinerConfig
from shared_pose_ros.training.refiner_validation import REFINER_PROTOCOL, RefinerValidation
from shared_pose_ros.training.run_report import STYLE, changed_setting_lines, logged_series

_ERRORS = {
    "validation/median_20": "within 20°, before",
    "validation/median_20_refined": "within 20°, after",
    "validation/median_50": "within 50°, before",
    "validation/median_50_refined": "within 50°, after",
}
_CALIBRATION = {
    "validation/mean_before": "before",
    "validation/expected_before": "expected before",
    "validation/mean_after": "after",
    "validation/expected_after": "expected after",
}
_LIKELIHOODS = {"validation/likelihood_before": "before", "validation/likelihood_after": "after"}


def write_refiner_report(
    path: Path,
    preset: str,
    config: RefinerConfig,
    facts: Sequence[tuple[str, str]],
    validation: RefinerValidation,
    records: Sequence[dict[str, Any]],
) -> Path:
    """Write the page.

    Args:
        path: of the file.
        preset: name or file of the preset.
        config: every setting.
        facts: what was trained, and how: names and values.
        validation: the last one.
        records: of log.jsonl.

    Returns:
        The file.
    """
    losses = {key: key[len("loss/") :] for key in ("loss/increment", "loss/before", "loss/after")}
    rows = [
        ("began within 20°, median", validation.median_20, validation.median_20_refined),
        ("began within 50°, median", validation.median_50, validation.median_50_refined),
        ("all, mean", validation.mean_before, validation.mean_after),
        ("all, mean that the refiner expects", validation.expected_before, validation.expected_after),
    ]
    named = [(name, f"{before:.1f}", f"{after:.1f}") for name, before, after in rows]
    body = [
        "<h2>What was trained</h2>",
        table((), facts, kind="facts"),
        *changed_setting_lines(preset, config),
        "<h2>Rotation errors of the last validation</h2>",
        paragraph(f"Protocol: {REFINER_PROTOCOL}.", "protocol"),
        table(["hypotheses", "before °", "after °"], named),
        paragraph("Where the refiner is calibrated, the last two rows agree."),
        "<h2>Curves</h2>",
        curves("Losses of a batch", logged_series(records, losses), "samples"),
        curves("Validation: median rotation error, degrees", logged_series(records, _ERRORS), "samples"),
        curves("Validation: mean rotation error, true and expected", logged_series(records, _CALIBRATION), "samples"),
        curves("Validation: negative log-likelihood of the error", logged_series(records, _LIKELIHOODS), "samples"),
        curves("Learning rate", logged_series(records, {"learning_rate": "learning rate"}), "samples"),
    ]
    return write_page(path, "Training of a refiner", body, STYLE)
