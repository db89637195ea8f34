"""Links between files of the repository, turned into links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

FENCE = re.compile(r"^```.*?^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")


def rewritten(markdown: str, here: str, uri: str, site: dict[str, str], root: Path) -> str:
    """A page whose relative links lead to pages of the site.

    Args:
        markdown: the page.
        here: path in the repository of the file that the page was read from.
        uri: path of the page on the site.
        site: for every file of the repository that is on the site, its path there.
        root: the repository.

    Returns:
        The page. A link to a file that is not on the site becomes its text.
    """

    def turned(match: re.Match[str]) -> str:
        path, hash_, anchor = match["target"].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if there in site:
            relative = posixpath.relpath(site[there], posixpath.dirname(uri) or ".")
            return f"{match[1]}[{match[2]}]({relative}{hash_}{anchor})"
        if (root / there).exists():
            return match[2]
        return match[0]  # the strict build says that it leads nowhere

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(turned, markdown[end:])])
