"""One self-contained HTML file: how good an evaluated system is, where it fails and what its failures look like.

Figures that may not be compared stand in separate parts: evaluations are grouped by all their conditions but for the
allocentric-to-egocentric correction. Pictures are embedded as JPEG; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from shared_pose_ros.evaluation.instance_scoring import Evaluation
from shared_pose_ros.evaluation.protocols import condition_fields
from shared_pose_ros.html_page import Picture, contents, figure, heading, paragraph, write_page
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.report import failures, sections
from shared_pose_ros.report.residual_rotations import Residual, residuals

REPORT_NAME = "report.html"
Section = tuple[str, str, list[str]]  # identifier, heading, markup
_CORRECTION = "allocentric-to-egocentric correction"
_QUALITY = 85  # of JPEG
_WIDEST = 960  # pixels of an embedded picture
_LEGEND = "Outlines of the CAD: ground truth green, estimate orange, thin lines where the surface bends."
_LEGEND_ALONE = "Outlines of the CAD in the estimated pose, a colour for each class; beside them class and confidence."
_STYLE = """
.side{display:flex;flex-wrap:wrap;gap:0 1.5em;align-items:flex-start}svg{max-width:100%;height:auto;margin:.4em 0}
nav ul{columns:2;padding-left:1.2em}h2{border-bottom:1px solid var(--line);padding-bottom:.2em;margin-top:1.6em}
td,th{font-size:13px}th{vertical-align:bottom;max-width:8em}td:first-child{white-space:nowrap}
h4{margin:.8em 0 0}h4+table,h4+div>table{margin-top:.2em}
table.instances td:nth-child(7),table.rotations :nth-child(4){text-align:left}
@media(max-width:700px){nav ul{columns:1}table{display:block;overflow-x:auto}}
@media print{.side{gap:0 .5em;break-inside:avoid}h2+p{break-after:avoid}.side>svg{width:48%}figure{width:46%}
h4{break-after:avoid}table{break-inside:avoid}
table.instances{break-inside:auto}td,th{font-size:10px;padding:.15em .4em}}
"""


def report_path(path: str | Path) -> Path:
    """The file that ``--report PATH`` means: PATH if it ends in .html or .htm, else report.html in that folder."""
    path = Path(path)
    return path if path.suffix.lower() in (".html", ".htm") else path / REPORT_NAME


def write_report(
    path: str | Path,
    title: str,
    evaluations: Sequence[Evaluation],
    pictures: Iterable[Picture] = (),
    notes: Sequence[str] = (),
    cases: Mapping[str, Sequence[Picture]] | None = None,
    objects: ObjectSet | None = None,
) -> Path:
    """Write one HTML file that needs nothing else.

    Args:
        path: the file (.html), or the folder that gets a report.html; made if need be.
        title: heading.
        evaluations: what is shown; confusion and list of instances are those of the first of each group.
        pictures: whole frames (``gallery``).
        notes: further paragraphs, such as latencies and counters.
        cases: zoomed pictures of the first evaluation by kind (``report_cases.case_pictures``).
        objects: the CAD's symmetries, for the confusion and for the baseline of the rotation error; both are left out
            without them.

    Returns:
        The file.
    """
    groups = group_evaluations(evaluations)
    parts = {number: f" (part {number}, protocol {next(iter(group.values())).protocol})" if len(groups) > 1 else ""
             for number, group in enumerate(groups, start=1)}  # fmt: skip
    found: list[Section] = []
    found_rotations = [_residuals(next(iter(group.values())), objects) for group in groups]
    for (number, part), group, own in zip(parts.items(), groups, found_rotations):
        found += [(f"{name}-{number}", text + part, body) for name, text, body in _group_sections(group, objects, own)]
    # Notes tell of problems: nobody should have to look for them.
    found.insert(min(1, len(found)), ("notes", "Notes", [paragraph(note) for note in notes]))
    of_first = f", {next(iter(groups[0]))}{parts[1]}" if len(evaluations) > 1 else ""
    for kind, shown in (cases or {}).items():
        found.append((f"cases-{kind}", f"{kind.capitalize()} cases{of_first}", _figures(shown)))
    found.append(("frames", "Poses over the images", _figures(pictures, _LEGEND if evaluations else _LEGEND_ALONE)))
    for (number, part), group, own in zip(parts.items(), groups, found_rotations):
        label, first = next(iter(group.items()))
        found.append((f"instances-{number}", f"All instances, {label}{part}", _instances(first, own)))
    filled = [section for section in found if section[2]]
    body = [contents({name: text for name, text, _ in filled})]
    for name, text, markup in filled:
        body += [heading(text, name), *markup]
    return write_page(report_path(path), title, body, _STYLE)


def group_evaluations(evaluations: Sequence[Evaluation]) -> list[dict[str, Evaluation]]:
    """Evaluations that may be compared, each under a short label; groups in the order of their first.

    Two may be compared if their conditions agree but for the allocentric-to-egocentric correction.
    """
    together: dict[tuple[object, ...], list[Evaluation]] = {}
    for evaluation in evaluations:
        fields = {
            name: said for name, said in condition_fields(evaluation.protocol_line).items() if name != _CORRECTION
        }
        together.setdefault((evaluation.score_name, *sorted(fields.items())), []).append(evaluation)
    return [_labelled(group) for group in together.values()]


def _labelled(group: Sequence[Evaluation]) -> dict[str, Evaluation]:
    several_systems = len({evaluation.system for evaluation in group}) > 1
    both_settings = len({evaluation.corrected for evaluation in group}) > 1
    labelled: dict[str, Evaluation] = {}
    for evaluation in group:
        said = [evaluation.system] if several_systems or not both_settings else []
        said += [("" if evaluation.corrected else "not ") + "corrected"] if both_settings else []
        label = ", ".join(said)
        repeated = sum(known == label or known.startswith(f"{label} #") for known in labelled)
        labelled[f"{label} #{repeated + 1}" if repeated else label] = evaluation
    return labelled


def _group_sections(
    group: Mapping[str, Evaluation], objects: ObjectSet | None, rotations: Sequence[Residual | None]
) -> list[Section]:
    label, first = next(iter(group.items()))
    several = f", {label}" if len(group) > 1 else ""
    found = [
        ("summary", "Summary", [paragraph(sections.headline(first)), *sections.summary(group, objects)]),
        ("objects", "By object", sections.by_object(group)),
        ("recall", "Recall over the threshold", sections.recall_curves(group, objects)),
    ]
    for number, factor in enumerate(sections.factors(group), start=1):
        found.append((f"factor{number}", f"By {factor.name}", sections.by_factor(group, factor)))
    confused = failures.confusion(first, rotations)
    found.append(("rotations", f"Ambiguous views: residual rotations of wrong estimates{several}", confused))
    found.append(("confidence", "Does confidence mean correctness?", failures.calibration(group)))
    found.append(("expected", "Is the expected error honest?", failures.expected_errors(group)))
    return found


def _residuals(evaluation: Evaluation, objects: ObjectSet | None) -> list[Residual | None]:
    return residuals(evaluation.instances, objects) if objects else [None] * len(evaluation.instances)


def _instances(evaluation: Evaluation, rotations: Sequence[Residual | None]) -> list[str]:
    rows = failures.instance_table(evaluation, rotations)
    return [f"<details><summary>{len(evaluation.instances)} rows, the worst first</summary>{rows}</details>"]


def _figures(pictures: Iterable[Picture], legend: str = _LEGEND) -> list[str]:
    shown = [figure(Picture(_shrunk(picture.image), picture.caption), _QUALITY) for picture in pictures]
    return [paragraph(legend), *shown] if shown else []


def _shrunk(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= _WIDEST:
        return image
    return cv2.resize(image, (_WIDEST, round(height * _WIDEST / width)), interpolation=cv2.INTER_AREA)
