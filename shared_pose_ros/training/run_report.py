"""report.html: one self-contained page about a training, written beside its checkpoint.

Everything on it comes from log.jsonl, from the last validation and from the facts of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared_pose_ros.html_page import paragraph, picture, table, write_page
from shared_pose_ros.plots import curves, histogram
from shared_pose_ros.training.config import Settings, TrainingConfig, changed_settings, load_preset
from shared_pose_ros.training.validation import CORRECT, SampleErrors

REPORT_NAME = "report.html"
ERROR_EDGES = tuple(range(0, 181, 15))  # degrees
CONFIDENCE_EDGES = tuple(number / 10 for number in range(11))
STYLE = """
svg{margin:.4em;max-width:100%;height:auto}img{display:block;max-width:100%;margin:.2em 0}
table.facts td{text-align:left}table.facts td:first-child{font-weight:600;vertical-align:top}
"""


@dataclass(frozen=True)
class RunFacts:
    """What was trained, and how.

    Attributes:
        class_ids: objects in the network's order.
        preset: name or file of the preset.
        config: every setting.
        samples: trained on so far.
        earlier_samples: of the trainings whose weights this one began with.
        samples_per_second: of the last call; None if it had nothing left to do.
        backgrounds: what the crops were pasted over.
        hardware: one line.
        commit: of the code.
        protocol: how the validation figures are measured.
    """

    class_ids: tuple[str, ...]
    preset: str
    config: TrainingConfig
    samples: int
    earlier_samples: int
    samples_per_second: float | None
    backgrounds: str
    hardware: str
    commit: str
    protocol: str


def write_training_report(
    path: Path,
    facts: RunFacts,
    records: Sequence[dict[str, Any]],
    samples: SampleErrors,
    rows: Mapping[str, np.ndarray],
) -> Path:
    """Write the page.

    Args:
        path: of the file.
        facts: what was trained.
        records: of log.jsonl.
        samples: of the last validation.
        rows: pictures of some of its samples by a name, see ``pictures.hypothesis_rows``.

    Returns:
        The file.
    """
    top, best = samples.errors[:, 0].tolist(), samples.errors.min(axis=1).tolist()
    errors = {"most confident hypothesis": top, "best hypothesis": best}
    body = [
        "<h2>What was trained</h2>",
        *_facts(facts),
        "<h2>Curves</h2>",
        *_curves(records),
        "<h2>Errors by object</h2>",
        paragraph(f"Protocol: {facts.protocol}.", "protocol"),
        object_table(facts.class_ids, samples),
        "<h2>Distribution of the errors</h2>",
        histogram("Share of the validation samples, %", errors, ERROR_EDGES, "symmetric rotation error, degrees"),
        "<h2>Can the confidence be believed?</h2>",
        paragraph(
            "Most confident hypothesis of every validation sample. Where the confidences are calibrated, their mean "
            "and the share under 15° agree; a symmetric object may share its confidence among equivalent poses."
        ),
        confidence_table(samples),
        "<h2>Samples</h2>",
        paragraph(
            "A row per validation sample: the crop, the truth, every hypothesis by falling confidence. Under a "
            "hypothesis stand its confidence and its symmetric rotation error, green below 15°."
        ),
        *(picture(row, name) for name, row in rows.items()),
    ]
    state = "" if facts.samples >= facts.config.samples else " (stopped early)"
    return write_page(path, f"Training of {len(facts.class_ids)} objects{state}", body, STYLE)


def object_table(class_ids: Sequence[str], samples: SampleErrors) -> str:
    """Errors of the most confident and of the best hypothesis by object, and over all samples."""
    heads = ["object", "samples", "median error °", "best hypothesis °", "90th percentile °"]
    heads += ["< 5° %", "< 15° %", "best < 15° %", "confidence %"]
    present = [(name, samples.object_index == number) for number, name in enumerate(class_ids)]
    rows = [_error_row(name, samples, chosen) for name, chosen in present]
    return table(heads, rows, _error_row("all", samples, np.ones(len(samples.errors), dtype=bool)))


def confidence_table(samples: SampleErrors) -> str:
    """Confidence against correctness: bins of the greatest confidence that hold a sample."""
    confidence, error = samples.confidences[:, 0], samples.errors[:, 0]
    rows = []
    for low, high in zip(CONFIDENCE_EDGES, CONFIDENCE_EDGES[1:]):
        chosen = (confidence >= low) & (confidence < high if high < 1 else confidence <= 1.0 + 1e-6)
        if chosen.any():
            rows.append(_confidence_row(f"{100 * low:.0f}-{100 * high:.0f} %", confidence[chosen], error[chosen]))
    heads = ["confidence", "samples", "mean confidence %", "under 15° %", "median error °"]
    return table(heads, rows, _confidence_row("all", confidence, error))


def _facts(facts: RunFacts) -> list[str]:
    config = facts.config
    rate = "-" if facts.samples_per_second is None else f"{facts.samples_per_second:.0f} samples per second"
    done = f"{facts.samples:,} of {config.samples:,}"
    if facts.earlier_samples:
        done += f", after {facts.earlier_samples:,} of earlier trainings"
    network = f"{config.width} encoder, {config.crop_size}-pixel crops, {config.hypotheses} hypotheses"
    rows = [
        ("objects", ", ".join(facts.class_ids)),
        ("preset", facts.preset),
        ("network", f"{network}, tuning {config.tuning}"),
        ("samples", done),
        ("rate", rate),
        ("backgrounds", facts.backgrounds),
        ("hardware", facts.hardware),
        ("commit", facts.commit),
    ]
    return [table((), rows, kind="facts"), *changed_setting_lines(facts.preset, config)]


def changed_setting_lines(name: str, config: Settings) -> list[str]:
    """In which settings a training differs from the preset of that name, as parts of a page."""
    try:
        preset, origin = load_preset(name, type(config)), "the preset"
    except (ValueError, OSError):
        preset, origin = type(config)(), "the defaults, since the preset is no file of this installation"
    changes = changed_settings(preset.to_dict(), config.to_dict())
    settings = [(key, _plain(old), _plain(new)) for key, (old, new) in changes.items()]
    if not settings:
        return [paragraph(f"No setting differs from {origin}.")]
    return [paragraph(f"Settings that differ from {origin}:"), table(["setting", "preset", "here"], settings)]


def _plain(value: Any) -> str:
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, (tuple, list)) else str(value)


def logged_series(records: Sequence[dict[str, Any]], keys: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    """Figures over samples by the name that ``keys`` gives each; a log of an earlier version lacks some figures."""
    return {
        name: [(record["samples"], record[key]) for record in records if record.get(key) is not None]
        for key, name in keys.items()
    }


def _curves(records: Sequence[dict[str, Any]]) -> list[str]:
    def series(keys: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
        return logged_series(records, keys)

    losses = {key: key[len("loss/") :] for record in records for key in record if key.startswith("loss/")}
    medians = {"validation/median_deg": "most confident hypothesis", "validation/oracle_median_deg": "best hypothesis"}
    recall, rate = {"validation/recall_15": "share under 15°"}, {"learning_rate": "learning rate"}
    return [
        curves(
            "Losses of a batch, logarithmic; terms that are off are left out", series(losses), "samples", None, True
        ),
        curves("Validation: median symmetric rotation error, degrees", series(medians), "samples"),
        curves("Validation: share of samples with an error under 15°", series(recall), "samples", 1.0),
        curves("Learning rate", series(rate), "samples"),
    ]


def _error_row(name: str, samples: SampleErrors, chosen: np.ndarray) -> list[str]:
    top, best = samples.errors[chosen, 0], samples.errors[chosen].min(axis=1)
    if not len(top):
        return [name, "0", *["-"] * 7]
    degrees = [np.median(top), np.median(best), np.percentile(top, 90)]
    shares = [(top < 5).mean(), (top < CORRECT).mean(), (best < CORRECT).mean(), samples.confidences[chosen, 0].mean()]
    return [name, str(len(top)), *(f"{value:.1f}" for value in degrees), *(f"{100 * value:.0f}" for value in shares)]


def _confidence_row(name: str, confidence: np.ndarray, error: np.ndarray) -> list[str]:
    right = 100 * (error < CORRECT).mean()
    return [name, str(len(error)), f"{100 * confidence.mean():.0f}", f"{right:.0f}", f"{np.median(error):.1f}"]
