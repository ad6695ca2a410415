"""Results that the generated pages are made of, and the Markdown of their tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("benchmark/results")


def reader(root: Path) -> Callable[[str], Any]:
    """Gives a result under `root`, the source tree, by its file's name."""
    return lambda name: json.loads((root / RESULTS / name).read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], aligned: bool = False) -> str:
    """Markdown; numbers to three digits, None as a dash; `aligned`: all columns but the first to the right."""
    rest = "---:|" if aligned else "---|"
    lines = [f"| {' | '.join(head)} |", "|---|" + rest * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(digits(cell) for cell in row)} |" for row in rows)])


def rotations(count: int) -> str:
    """In how many rotations a crop is seen at inference."""
    return f"{count} TTA rotations" if count > 1 else "no TTA"


def digits(cell: Any) -> str:
    """A number to three digits, None as a dash, the rest as it is."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def relative_links(text: str, page: Path) -> str:
    """Links that begin at the root of the source tree, `](/docs/...)`, as links from ``page``, a path in it."""
    return re.sub(r"\]\(/([^)#]+)", lambda match: "](" + os.path.relpath(match[1], page.parent), text)
