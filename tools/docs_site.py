"""Hooks of mkdocs (see mkdocs.yml): an API page per package, and the files outside docs/ that pages link to.

A page may link to any file of the source tree, as it reads on a forge. The site holds a copy of each such file below
``repository/`` (Markdown becomes a page), and links lead to it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "shared_pose_ros"
API = "reference/api"
COPIES = "repository"
# The target of an inline link or picture that is no address and no anchor of the same page.
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the API into the navigation."""
    pages = [{name: f"{API}/{name}.md"} for name in modules()]
    for section in config.nav or []:
        for entry in section.get("Reference", []):
            if "API" in entry:
                entry["API"] = [*entry["API"], *pages]
                return
    raise PluginError("mkdocs.yml has no place for the API: nav needs Reference with an entry API")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the API pages and the copies."""
    for name in modules():
        text = f"# {name}\n\n::: {PACKAGE}.{name}\n"
        files.append(File.generated(config, f"{API}/{name}.md", content=text))
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages() if not file.src_uri.startswith(API)]
    known = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in sorted(linked(page) - known):
            known.add(target)
            if target.startswith("docs/"):
                continue
            if not (ROOT / target).is_file():
                raise PluginError(f"{page} links to {target}, which is no file of the source tree")
            files.append(File.generated(config, f"{COPIES}/{target}", abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their copies, and those of the copies back into docs/."""
    source = page.file.src_uri
    own = source.removeprefix(f"{COPIES}/") if source.startswith(f"{COPIES}/") else f"docs/{source}"

    def led(match: re.Match[str]) -> str:
        target = resolved(own, match[2])
        place = target.removeprefix("docs/") if target.startswith("docs/") else f"{COPIES}/{target}"
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(source))}{match[3] or ''})"

    return outside_code(markdown, lambda text: LINK.sub(led, text))


class RunnableExamples(griffe.Extension):
    """Shows an ``Example:`` of a docstring as code, as griffe does with its plural."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Change the docstring of the package itself, which is no member of another object."""
        self.on_object(obj=pkg)

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Change a docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)


def modules() -> list[str]:
    """The names of the package's modules and sub-packages."""
    folder = ROOT / PACKAGE
    found = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted([*found, *(path.parent.name for path in folder.glob("*/__init__.py"))])


def linked(page: str) -> set[str]:
    """Paths in the source tree that a page of it, given by its path, links to."""
    found: set[str] = set()

    def seen(text: str) -> str:
        found.update(resolved(page, match[2]) for match in LINK.finditer(text))
        return text

    outside_code((ROOT / page).read_text(encoding="utf-8"), seen)
    return found


def resolved(page: str, link: str) -> str:
    """The path in the source tree that a relative link of a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The text with what is not in fenced code changed."""
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))
