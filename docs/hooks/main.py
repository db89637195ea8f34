"""What MkDocs calls while it builds the site: pages from files outside docs/, and filled lists.

A page holds a comment such as `<!-- methods -->`; the table that belongs there is made from the
source when the site is built, so that it cannot become untrue.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import api
import commands
import layers
import links
import methods
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fornix"

#: What stands in place of `<!-- name -->` on a page.
FILLED = {
    "methods": methods.tables,
    "commands": commands.reference,
    "layers": lambda: layers.drawing(ROOT / "pyproject.toml"),
    "python": api.public,
}


def outside() -> dict[str, str]:
    """Files of the repository that are pages of the site: their path, and the page."""
    pages = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    for card in sorted((SOURCE / "weights").glob("*.md")):
        pages[card.relative_to(ROOT).as_posix()] = f"weights/{card.name}"
    for readme in sorted(SOURCE.glob("*/README.md")):
        pages[readme.relative_to(ROOT).as_posix()] = f"packages/{readme.parent.name}.md"
    return pages


def on_config(config: Any) -> Any:
    """Fill the lists of the navigation that are made at build time."""
    order = layers.packages(ROOT / "pyproject.toml")
    lists = {
        "Packages": [{p: f"reference/packages/{p}.md"} for p in api.packages(order)],
        "Why it is made so": [
            {Path(page).stem: page} for page in outside().values() if page.startswith("packages/")
        ],
        "Weights": [
            {Path(page).stem: page} for page in outside().values() if page.startswith("weights/")
        ],
    }
    config.nav = _filled(config.nav, lists)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    for path, page in outside().items():
        text = (ROOT / path).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for package in api.packages():
        page = f"reference/packages/{package}.md"
        files.append(File.generated(config, page, content=api.package(package)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill the page's lists and point its links at pages of the site."""
    uri = page.file.src_uri
    if uri == "index.md":
        page.meta["hide"] = ["navigation"]
    if uri.startswith(("benchmarks/", "experiments/", "weights/")):  # long tables, found last
        page.meta["search"] = {"boost": 0.2}
    for name, make in FILLED.items():
        mark = f"<!-- {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    pages = outside()
    site = {f"docs/{f.src_uri}": f.src_uri for f in files} | pages | {"README.md": "index.md"}
    here = {page: path for path, page in pages.items()}.get(uri, f"docs/{uri}")
    if uri.startswith("weights/"):  # a card names the pages of its figures as paths
        markdown = re.sub(r"\bdocs/([a-z]+/[\w-]+\.md)", r"[\1](../../../docs/\1)", markdown)
    return links.rewritten(markdown, here, uri, site, ROOT)


def _filled(nav: list, lists: dict[str, list]) -> list:
    """The navigation with its placeholders replaced."""
    result = []
    for item in nav:
        if isinstance(item, dict):
            [(title, value)] = item.items()
            if value == ["at build time"]:
                value = lists[title]
            elif isinstance(value, list):
                value = _filled(value, lists)
            item = {title: value}
        result.append(item)
    return result
