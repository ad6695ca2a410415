"""HTML pages that need nothing but themselves: tables, figures and inlined pictures, for the reports.

The markup is XML too (closed tags, quoted attributes), so that a test can parse it. Text is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

_STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ccc;--shade:#f1f1f1;--note:#f7f5e8;--link:#1558a0}
@media(prefers-color-scheme:dark){
:root{--ink:#ddd;--paper:#181818;--line:#444;--shade:#262626;--note:#2a2820;--link:#7ab4f0}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;
color:var(--ink);background:var(--paper)}a{color:var(--link)}
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}
td,th{padding:.25em .7em;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child{text-align:left}tr.mean{font-weight:600;background:var(--shade)}
p.protocol{background:var(--note);padding:.6em 1em;border-left:4px solid #c9b458}
figure{display:inline-block;margin:.5em;vertical-align:top}img{height:auto}figure img{max-width:min(520px,100%)}
figcaption{font-size:13px;max-width:520px}
@media print{:root{color-scheme:light;--ink:#000;--paper:#fff;--line:#bbb;--shade:#eee;--note:#f7f5e8;--link:#000}
body{max-width:none;margin:0;font-size:11px}figure,svg,tr{break-inside:avoid}h2,h3{break-after:avoid}}
"""


@dataclass(frozen=True)
class Picture:
    """An image ``(H, W, 3)`` uint8 RGB with a caption, for a report."""

    image: np.ndarray
    caption: str


def heading(text: str, identifier: str = "", level: int = 2) -> str:
    """A heading that ``contents`` can lead to."""
    attribute = f' id="{html.escape(identifier)}"' if identifier else ""
    return f"<h{level}{attribute}>{html.escape(text)}</h{level}>"


def contents(entries: Mapping[str, str]) -> str:
    """Links within the page: texts by the identifiers of their headings."""
    links = (f'<li><a href="#{html.escape(name)}">{html.escape(text)}</a></li>' for name, text in entries.items())
    return f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'


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
        lines.append("<tr>" + "".join(f'<th scope="col">{html.escape(head)}</th>' for head in heads) + "</tr>")
    lines += [_row(row) for row in rows]
    lines += [_row(summary, ' class="mean"')] if summary is not None else []
    return "".join(lines) + "</table>"


def figure(shown: Picture, quality: int | None = None) -> str:
    """The picture over its caption; ``quality`` as for ``picture``."""
    image = picture(shown.image, shown.caption, quality)
    return f"<figure>{image}<figcaption>{html.escape(shown.caption)}</figcaption></figure>"


def picture(image: np.ndarray, alternative: str, quality: int | None = None) -> str:
    """The image, inlined.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        alternative: text for who cannot see it.
        quality: of JPEG, 0…100; None inlines a PNG, larger and without loss.

    Raises:
        ValueError: the image has another shape or type, or cannot be encoded.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture of shape {image.shape} and {image.dtype} cannot be shown; give (H, W, 3) uint8")
    kind, settings = ("png", []) if quality is None else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    done, data = cv2.imencode(f".{kind}", image[:, :, ::-1], settings)
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded; give a smaller one")
    source = f"data:image/{kind};base64," + base64.b64encode(data.tobytes()).decode()
    height, width = image.shape[:2]
    return f'<img src="{source}" alt="{html.escape(alternative)}" width="{width}" height="{height}"/>'


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
    path, name = Path(path), html.escape(title)
    page = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
    page += f'<meta name="viewport" content="width=device-width"/><title>{name}</title>'
    page += f"<style>{_STYLE}{style}</style></head><body>\n<h1>{name}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _row(cells: Sequence[str], attribute: str = "") -> str:
    return f"<tr{attribute}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
