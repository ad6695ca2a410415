"""Markdown of the generated tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], aligned: bool = False) -> str:
    """Markdown; numbers to three digits, None as a dash; `aligned`: all columns but the first to the right."""
    rest = "---:|" if aligned else "---|"
    lines = [f"| {' | '.join(head)} |", "|---|" + rest * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(digits(cell) for cell in row)} |" for row in rows)])


def digits(cell: Any) -> str:
    """A number to three digits, None as a dash, the rest as it is."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def percent(share: float) -> str:
    """Of a share of 1, one digit behind the point."""
    return f"{100 * share:.1f}"
