"""Pages of the documentation, and a runner for the code on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]

#: One interpreter for a page, so that later blocks see the names of earlier ones.
_DRIVER = """
import doctest, json, subprocess, sys
names = {"__name__": "__main__"}
for language, line, code in json.load(open(sys.argv[1])):
    place = f"{sys.argv[2]}, line {line}"
    if language == "bash":
        if subprocess.run(["bash", "-euo", "pipefail", "-c", code]).returncode:
            sys.exit(f"{place}: the shell block failed")
    elif code.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(code, names, place, sys.argv[2], line)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        runner = doctest.DocTestRunner(optionflags=flags)
        if runner.run(test, clear_globs=False).failed:
            sys.exit(f"{place}: the example gave something else")
        names.update(test.globs)
    else:
        exec(compile("\\n" * line + code, sys.argv[2], "exec"), names)
"""


class Fence(NamedTuple):
    """A fenced block of a page; `title` names the file that it is, where it is one."""

    language: str
    line: int
    code: str
    title: str


def fences_of(page: Path) -> list[Fence]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    pattern = r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$"
    return [
        Fence(m[1], text[: m.start()].count("\n") + 1, m[3], m[2] or "")
        for m in re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture
def fences() -> Callable[[Path], list[Fence]]:
    return fences_of


@pytest.fixture
def run_page() -> Callable[[Path, Path], None]:
    """Run the python and bash blocks of a page in order, in a folder; other fences only show."""

    def run(page: Path, folder: Path) -> None:
        blocks = [
            (f.language, f.line, f.code)
            for f in fences_of(page)
            if f.language in ("python", "bash") and not f.title
        ]
        if not blocks:
            pytest.skip("no code on this page")
        script = folder / "blocks.json"
        script.write_text(json.dumps(blocks))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            [sys.executable, "-c", _DRIVER, str(script), page.relative_to(REPOSITORY).as_posix()],
            cwd=folder,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    return run
