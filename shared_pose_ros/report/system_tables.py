"""The paper's two tables, for any set of systems: accuracy by object, and what it costs.

Every figure of a table comes from one protocol (``check_comparable``), a system trained with several seeds gives mean
± standard deviation over them, and random rotations and the oracle over hypotheses stand beside.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shared_pose_ros.evaluation.inference_cost import IN_SEQUENCE, Size, Timing
from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.pose_metrics import plain_values, table_metrics
from shared_pose_ros.evaluation.protocols import check_comparable
from shared_pose_ros.evaluation.result_tables import BASELINE, object_rows, percent, summary_row, table_lines

# Other images (T-LESS test scenes) than any that is measured here.
PUBLISHED_CONDITIONS = (
    "published: Bengtson et al., SITIS 2022; AR_VSD on the test images of T-LESS, 30 objects, true translation, id and "
    "visible box; milliseconds on an i7-7700k with a GTX 1060, one crop at a time; other data, other machine"
)


@dataclass(frozen=True)
class PublishedSystem:
    """One column of the paper's Tables I and II (Bengtson et al., SITIS 2022); None where it prints none.

    Attributes:
        score: mean AR_VSD over 30 objects, 0…1.
        milliseconds: per crop.
        megabytes: of memory, as printed.
        samples: of the pose training.
    """

    score: float
    milliseconds: float | None = None
    megabytes: float | None = None
    samples: int | None = None


PUBLISHED = {
    "30 codebooks": PublishedSystem(0.6077, 7.0, 1365.0),
    "30 networks": PublishedSystem(0.6234, 6.2, 33.0, 60_000_000),
    "shared +FT": PublishedSystem(0.6313, 6.4, 16.6, 20_000_000),
    "shared -FT": PublishedSystem(0.5451),
}
_KEYS = {"title", "protocol", "corrected", "oracle", "systems"}
_SYSTEM_KEYS = {"name", "bundles", "published"}


@dataclass(frozen=True)
class System:
    """A row or column of the tables.

    Attributes:
        name: as printed.
        evaluations: one a seed.
        samples: of the pose training, one network's.
        size: of its bundle; None where not measured.
        timing: None where not measured.
        published: its key in ``PUBLISHED``, if the paper has it.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    samples: int
    size: Size | None = None
    timing: Timing | None = None
    published: str | None = None


@dataclass(frozen=True)
class Table:
    """Cells as text, with what must be said about them."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """As a Markdown table under its title, notes below."""
        return "\n".join([f"### {self.title}", "", *table_lines(self.heads, self.rows), "", *self.notes]) + "\n"

    def csv(self) -> str:
        """Comma-separated, the notes in front as comments."""
        text = io.StringIO()
        text.write("".join(f"# {note}\n" for note in (self.title, *self.notes)))
        csv.writer(text, lineterminator="\n").writerows([self.heads, *self.rows])
        return text.getvalue()


def read_config(path: Path) -> dict[str, Any]:
    """The systems of a tables file; raises ValueError on an unknown key, system or published column."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read ({error}); give a YAML file as in config/tables") from error
    if not isinstance(values, dict) or not values.get("systems"):
        raise ValueError(f"{path} names no systems; see config/tables")
    entries = values["systems"]
    unknown = sorted(set(values) - _KEYS) + sorted({key for entry in entries for key in entry} - _SYSTEM_KEYS)
    if unknown:
        known = ", ".join(sorted(_KEYS | _SYSTEM_KEYS))
        raise ValueError(f"{path} has an unknown key {unknown[0]}; known: {known}")
    for entry in entries:
        if not {"name", "bundles"} <= entry.keys():
            raise ValueError(f"{path}: {entry} needs a name and bundles (a pattern such as full-*.pose.pt)")
        if entry.get("published") not in (None, *PUBLISHED):
            raise ValueError(f"{path}: the paper has no {entry['published']!r}; it has {', '.join(PUBLISHED)}")
    return values


def accuracy_table(systems: Sequence[System], oracle_of: str | None = None) -> Table:
    """Table I: score in per cent by object and system.

    Args:
        systems: evaluated on the same instances.
        oracle_of: name of the system whose best hypotheses make the oracle's column; None for the last.

    Raises:
        ValueError: no system, an unknown name, or evaluations of different protocols.
    """
    if not systems:
        raise ValueError("no systems to table; name at least one")
    everything = [evaluation for system in systems for evaluation in system.evaluations]
    _check_same_instances(everything)
    by_name = {system.name: system for system in systems}
    if oracle_of is not None and oracle_of not in by_name:
        raise ValueError(f"oracle of {oracle_of!r}: no such system; choose one of {', '.join(by_name)}")
    chosen = by_name[oracle_of] if oracle_of else systems[-1]
    first = everything[0]
    by_object = {system.name: [object_rows(e) for e in system.evaluations] for system in systems}
    rows = []
    for number, row in enumerate(object_rows(first)):
        cells = [spread([own[number].score for own in seeds]) for seeds in by_object.values()]
        best = spread([own[number].oracle_score for own in by_object[chosen.name]])
        rows.append((f"{row.class_id} ({row.instances})", *cells, best, percent(row.chance_score)))
    summaries = [[summary_row(e) for e in system.evaluations] for system in systems]
    best_rows = [summary_row(e) for e in chosen.evaluations]
    random = summary_row(first)
    rows.append(
        ("**mean**", *(f"**{spread([r.score for r in own])}**" for own in summaries),
         spread([r.oracle_score for r in best_rows]), percent(random.chance_score))
    )  # fmt: skip
    for m in table_metrics():
        by_system = [[m.shown(r.metrics[m.column]) for r in own] for own in summaries]
        oracle = [m.shown(r.metrics[f"oracle_{m.column}"]) for r in best_rows]
        head = f"{m.title}, {m.summary} {m.shown_unit}".rstrip()
        rows.append((head, *map(angles, by_system), angles(oracle), m.text(random.metrics[f"chance_{m.column}"])))
        if m.limits:
            within = [spread([r.recalls[m.recall_column][-1] for r in own]) for own in summaries]
            rows.append((m.limit_heads[-1].replace("< ", "under ").replace("> ", "over "), *within, "", ""))
    notes = [f"Evaluation conditions: {first.protocol_line}.", _seeds_note(systems)]
    if any(system.published for system in systems):
        published = [percent(PUBLISHED[s.published].score) if s.published else "" for s in systems]
        rows.append(("*published, other images*", *published, "", ""))
        notes.append(f"Last row, not comparable with the others: {PUBLISHED_CONDITIONS}.")
    heads = ("object (instances)", *by_name, f"oracle of {chosen.name}", BASELINE)
    return Table(f"Accuracy: {first.score_name} in per cent", heads, tuple(rows), tuple(notes))


def cost_table(systems: Sequence[System], machine: str) -> Table:
    """Table II: score, time, size, memory and training samples by system.

    Args:
        systems: those with size and timing are listed.
        machine: processor, device and threads of the timings.

    Raises:
        ValueError: evaluations of different protocols, or nothing measured.
    """
    measured = [(system, system.size, system.timing) for system in systems if system.size and system.timing]
    if not measured:
        raise ValueError("no system has been timed; measure at least one")
    _check_same_instances([evaluation for system, _, _ in measured for evaluation in system.evaluations])
    first, _, timing = measured[0]
    batches = tuple(timing.batches)
    heads = (
        "system", f"{first.evaluations[0].score_name} %", *(f"{count} crop{'s'[: count > 1]}, ms" for count in batches),
        f"{IN_SEQUENCE} in sequence, ms", "parameters, million", "without encoder", "file, MB",
        "peak memory, MB", "training samples",
    )  # fmt: skip
    rows = [_cost_row(*system, batches) for system in measured]
    published = [system.published for system, _, _ in measured if system.published]
    rows += [_published_row(name, len(batches)) for name in published]
    notes = [
        f"Evaluation conditions: {first.evaluations[0].protocol_line}.",
        f"Time: medians from uint8 frame to rotations, all systems side by side in one run; {machine}.",
        "File and parameters: the whole bundle, encoder included; without encoder: the head, the heads, or the codes. "
        "Peak memory: by which a process grows at most, loading the bundle and running a batch of 7 crops.",
    ]
    notes += [f"Last rows, not comparable with the others: {PUBLISHED_CONDITIONS}."] if published else []
    return Table("Cost", heads, tuple(rows), tuple(notes))


def systems_to_json(systems: Sequence[System], tables: Sequence[Table], machine: str) -> dict[str, Any]:
    """Everything behind the tables, every seed's and object's figures included, as plain values."""
    return {
        "machine": machine,
        "tables": [asdict(table) for table in tables],
        "systems": [
            {
                "name": system.name,
                "samples": system.samples,
                "published": system.published,
                "size": asdict(system.size) if system.size else None,
                "timing": asdict(system.timing) if system.timing else None,
                "evaluations": [
                    {
                        "bundle": evaluation.system,
                        "protocol_line": evaluation.protocol_line,
                        "summary": plain_values(summary_row(evaluation)),
                        "objects": [plain_values(row) for row in object_rows(evaluation)],
                    }
                    for evaluation in system.evaluations
                ],
            }
            for system in systems
        ],
    }


def write_tables(systems: Sequence[System], tables: Sequence[Table], machine: str, title: str, out: Path) -> None:
    """Write tables.md, tables.json and a CSV a table into the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"## {title}", "", *(table.markdown() for table in tables)])
    (out / "tables.md").write_text(text, encoding="utf-8")
    for name, table in zip(("accuracy", "cost"), tables):
        (out / f"{name}.csv").write_text(table.csv(), encoding="utf-8")
    values = {"title": title, **systems_to_json(systems, tables, machine)}
    (out / "tables.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def spread(values: Sequence[float]) -> str:
    """Per cent: the mean, and the standard deviation of a sample where there are several."""
    mean = percent(float(np.mean(values)))
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def angles(values: Sequence[float]) -> str:
    """Values of a metric: as ``spread``."""
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def _check_same_instances(evaluations: Sequence[Evaluation]) -> None:
    """ValueError unless all are of one protocol and scored the same instances."""
    check_comparable([evaluation.protocol_line for evaluation in evaluations])
    first, *others = ({(r.scene_id, r.im_id, r.gt_id) for r in e.instances} for e in evaluations)
    for evaluation, instances in zip(evaluations[1:], others):
        if instances != first:
            raise ValueError(
                f"{evaluation.system} was scored on {len(instances)} instances, {evaluations[0].system} on "
                f"{len(first)}, "
                f"{len(instances & first)} of them the same; table only systems that know the same objects"
            )


def _cost_row(system: System, size: Size, timing: Timing, batches: Sequence[int]) -> tuple[str, ...]:
    score = spread([summary_row(evaluation).score for evaluation in system.evaluations])
    times = [*(timing.batches[count] for count in batches), timing.in_sequence]
    return (
        system.name, score, *(f"{value:.1f}" for value in times), f"{size.parameters / 1e6:.2f}",
        f"{size.head_parameters / 1e6:.2f}", f"{size.file_bytes / 1e6:.1f}", f"{size.peak_bytes / 1e6:.0f}",
        f"{system.samples:,}" if system.samples else "0",
    )  # fmt: skip


def _published_row(name: str, batches: int) -> tuple[str, ...]:
    row = PUBLISHED[name]
    milliseconds = f"{row.milliseconds:.1f}" if row.milliseconds else ""
    memory = f"{row.megabytes:.1f}" if row.megabytes else ""
    samples = f"{row.samples:,}" if row.samples else ""
    return (f"*{name}, published*", percent(row.score), milliseconds, *[""] * (batches + 3), memory, samples)


def _seeds_note(systems: Sequence[System]) -> str:
    counts = {len(system.evaluations) for system in systems}
    if counts == {1}:
        return "One seed per system: differences of a few per cent mean nothing."
    return (
        "± is the standard deviation over seeds ("
        + ", ".join(f"{system.name} {len(system.evaluations)}" for system in systems)
        + ")."
    )
