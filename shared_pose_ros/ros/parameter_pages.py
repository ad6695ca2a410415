"""Writes what derives from the tables of this package: config/shared_pose.yaml and tables of docs/.

python -m shared_pose_ros.ros.parameter_pages        from the root of the source tree, after changing a table
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from shared_pose_ros.pipeline.parameters import PARAMETERS, Parameter
from shared_pose_ros.ros.diagnostics.counters import COUNTERS
from shared_pose_ros.ros.diagnostics.keys import documented

TYPE_NAMES = {bool: "bool", int: "int", float: "double", str: "string"}


def yaml_text() -> str:
    """The parameter file: every parameter with its default, preceded by its description, limits and unit."""
    lines = [
        "# Parameters of shared_pose_node with their defaults. Written from shared_pose_ros/pipeline/parameters.py by",
        "# `python -m shared_pose_ros.ros.parameter_pages`. Copy it, change the copy, pass it as params_file.",
        "/**:",
        "  ros__parameters:",
    ]
    for row in PARAMETERS.values():
        notes = [
            TYPE_NAMES[row.type],
            row.limits,
            row.unit,
            "fixed while configured" if row.read_only else "may change at any time",
        ]
        lines += [f"    # {row.description}", f"    # ({'; '.join(note for note in notes if note)})"]
        lines.append(f"    {row.name}: {_yaml_value(row)}")
    return "\n".join(lines) + "\n"


def parameter_table() -> str:
    """Markdown table of the parameters."""
    rows = ["| parameter | type | default | allowed | unit | changes | |", "|---|---|---|---|---|---|---|"]
    for row in PARAMETERS.values():
        when = "before configure" if row.read_only else "any time"
        cells = [f"`{row.name}`", TYPE_NAMES[row.type], f"`{_yaml_value(row)}`", row.limits, row.unit, when]
        rows.append(f"| {' | '.join([*cells, row.description])} |")
    return "\n".join(rows)


def counter_table() -> str:
    """Markdown table of the counters."""
    rows = ["| counter | counts | when | what to do |", "|---|---|---|---|"]
    for name, info in COUNTERS.items():
        remedy = info.remedy or ("nothing, it is part of normal operation" if info.normal else "")
        rows.append(f"| `{name}` | {info.stream} | {info.meaning} | {remedy} |")
    return "\n".join(rows)


def diagnostics_table() -> str:
    """Markdown table of the values in /diagnostics, without the counters, which have their own."""
    rows = ["| key | |", "|---|---|"]
    rows += [f"| `{key}` | {text} |" for key, text in documented().items() if not key.startswith("counter/")]
    return "\n".join([*rows, "| `counter/<name>` | each counter of the table above |"])


GENERATED: Mapping[str, Callable[[], str]] = {
    "parameters": parameter_table,
    "counters": counter_table,
    "diagnostics": diagnostics_table,
}


_MARKED = re.compile(r"<!-- table: ([\w-]+) -->\n((?:(?!<!-- table: ).)*?)<!-- end -->", re.DOTALL)


def fill(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The Markdown text with everything between ``<!-- table: NAME -->`` and ``<!-- end -->`` written anew.

    Marks of other tables are left as they are.
    """

    def written(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- table: {name} -->\n{tables[name]()}\n<!-- end -->" if name in tables else match[0]

    return _MARKED.sub(written, text)


def filled(root: Path, tables: Mapping[str, Callable[[], str]], complete: bool = False) -> dict[Path, str]:
    """The pages under ``root``, README.md and docs/, that show one of the tables, by their paths in it, written anew.

    Raises:
        ValueError: a mark has no end; no page shows one of the tables; with ``complete``, a page asks for another one.
    """
    pages, shown = {}, set()
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        names = _MARKED.findall(text)
        found = {name for name, _ in names}
        if len(names) != text.count("<!-- table: "):
            raise ValueError(f"{path}: each '<!-- table: NAME -->' needs an '<!-- end -->', both on lines of their own")
        if complete and found - set(tables):
            unknown = ", ".join(sorted(found - set(tables)))
            raise ValueError(f"{path}: no table {unknown}; there are {', '.join(sorted(tables))}")
        if found & set(tables):
            pages[path.relative_to(root)] = fill(text, tables)
            shown |= found
    if missing := sorted(set(tables) - shown):
        raise ValueError(
            f"no page shows {', '.join(missing)}; mark a place by '<!-- table: NAME -->' and '<!-- end -->'"
        )
    return pages


def _yaml_value(row: Parameter) -> str:
    if row.type is str:
        return f'"{row.default}"'
    return str(row.default).lower() if row.type is bool else str(row.default)


def main(root: Path = Path()) -> None:
    """Rewrite the derived files under ``root``, the source tree."""
    (root / "config" / "shared_pose.yaml").write_text(yaml_text(), encoding="utf-8")
    for path, text in filled(root, GENERATED).items():
        (root / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
