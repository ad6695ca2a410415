"""The documentation without the site's generator: links lead somewhere, menus are complete, no page is too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/README.md", "benchmark/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LONGEST_PAGE = 2500
"""Words, those of tables too."""
MADE_BY_THE_SITE = ("reference/api/", "repository/")


def without_code(text: str) -> str:
    """Markdown without fenced code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as a forge and the site make them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)$", without_code(text), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def dead_links(page: Path) -> Iterator[str]:
    """Links of a page that lead to no file, or to no heading of it."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]*))?\)", without_code(text)):
        path = page.parent / target if target else page
        if not path.exists():
            yield target
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            yield f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Other\n\n## Two words\n\n## Two words\n", encoding="utf-8")
    page.write_text(
        "# A `page`\n[own](#a-page) [good](other.md#two-words-1) [web](https://example.org/x#y)\n"
        "```\n[code](nowhere.md)\n```\n[a](gone.md) [b](other.md#one-word) [c](#b-page)\n",
        encoding="utf-8",
    )
    assert list(dead_links(page)) == ["gone.md", "other.md#one-word", "#b-page"]


def test_the_site_s_menus_show_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = set(re.findall(r"[\w/.-]+\.md", text[text.index("nav:") :]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written <= shown
    assert all(path.startswith(MADE_BY_THE_SITE) for path in shown - written)


def lost_files(text: str) -> list[str]:
    """Python files that a text names, from any folder of the source tree on, and that do not exist."""
    named = set(re.findall(r"`(?:python )?([\w/]+\.py)\b", text))
    folders = [ROOT / name for name in ("shared_pose_ros", "benchmark", "examples", "test", "tools")]
    found = {name for name in named if (ROOT / name).is_file() or any(any(f.rglob(name)) for f in folders)}
    return sorted(named - found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_files_that_a_page_names_exist(page: Path) -> None:
    # bop_toolkit's, whose functions ours were compared with, and the new files that docs/extending.md tells to write.
    foreign = {"pose_error.py", "visibility.py", "pose_matching.py", "score.py"}
    foreign |= {"shared_pose_ros/network/depthwise_encoder.py", "test/network/test_depthwise_encoder.py"}
    assert set(lost_files(page.read_text(encoding="utf-8"))) - foreign == set()


def test_a_lost_file_is_found() -> None:
    text = "`ros/worker.py` `python benchmark/node.py --json x` `ros/frames.py` `setup.py` `python tools/gone.py`"
    assert lost_files(text) == ["ros/frames.py", "tools/gone.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_is_too_long_to_read(page: Path) -> None:
    words = [word for word in page.read_text(encoding="utf-8").split() if re.search(r"\w", word)]
    assert len(words) <= LONGEST_PAGE
