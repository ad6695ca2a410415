"""HTML pages that need nothing but themselves: tables, figures and inlined pictures, for the reports.

The markup is XML too (closed tags, quoted attributes), so that a test can parse it. Text is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ccc;text-align:right}
td:first-child,th:first-child{text-align:left}tr.mean{font-weight:600;background:#f3f3f3}
p.protocol{background:#f7f5e8;padding:.6em 1em;border-left:4px solid #c9b458}
figure{display:inline-block;margin:.5em;vertical-align:top}figure img{max-width:520px;width:100%}
figcaption{font-size:13px;max-width:520px}
"""


@dataclass(frozen=True)
class Picture:
    """An image ``(H, W, 3)`` uint8 RGB with a caption, for a report."""

    image: np.ndarray
    caption: str


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` "protocol" sets it apart."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{html.escape(text)}</p>"


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], summary: Sequence[str] | None = None, kind: str = ""
) -> str:
    """A table, first column to the left, the rest to the right.

    Args:
        heads: of the columns; empty for a table without a head.
        rows: cells.
        summary: a last row in bold.
        kind: class of the table, for a style.
    """
    lines = [f'<table class="{kind}">' if kind else "<table>"]
    if heads:
        lines.append("<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>")
    lines += [_row(row) for row in rows]
    lines += [_row(summary, ' class="mean"')] if summary is not None else []
    return "".join(lines) + "</table>"


def figure(shown: Picture) -> str:
    """The picture over its caption."""
    return (
        f"<figure>{picture(shown.image, shown.caption)}<figcaption>{html.escape(shown.caption)}</figcaption></figure>"
    )


def picture(image: np.ndarray, alternative: str) -> str:
    """The image, inlined as PNG, with the text for who cannot see it; ValueError if it is no ``(H, W, 3)`` uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture of shape {image.shape} and {image.dtype} cannot be shown; give (H, W, 3) uint8")
    done, data = cv2.imencode(".png", image[:, :, ::-1])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded; give a smaller one")
    source = "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()
    return f'<img src="{source}" alt="{html.escape(alternative)}"/>'


def write_page(path: str | Path, title: str, body: Iterable[str], style: str = "") -> Path:
    """Write one self-contained file.

    Args:
        path: the file; its folder is made.
        title: heading and title.
        body: markup, from the functions above.
        style: CSS on top of the common one.

    Returns:
        The file.
    """
    path, heading = Path(path), html.escape(title)
    page = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>{heading}</title>'
    page += (
        f"<style>{_STYLE}{style}</style></head><body>\n<h1>{heading}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _row(cells: Sequence[str], attribute: str = "") -> str:
    return f"<tr{attribute}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
