"""The documentation site: it builds strictly, without a network, and its picture is the contract."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PYPROJECT = REPOSITORY / "pyproject.toml"


@pytest.fixture(scope="module")
def layers():
    path = REPOSITORY / "docs" / "hooks" / "layers.py"
    spec = importlib.util.spec_from_file_location("layers_of_the_site", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_site_builds_strictly_and_is_whole(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed)
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet
    for page in tmp_path.rglob("*.html"):
        check_page(page)


def check_page(page: Path) -> None:
    """Its lists are filled, it loads nothing from elsewhere, and its images are there."""
    text = page.read_text("utf-8")
    assert not re.search(r"<!-- (methods|commands|layers|python) -->|at build time", text), page
    assert not re.search(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//", text), page
    assert not re.search(r"<link[^>]*href=\"?https?://", text), page
    for source in re.findall(r'<img[^>]*\ssrc="([^":]+)"', text):
        assert (page.parent / source).exists(), f"{page.name}: {source}"


def test_the_picture_has_the_layers_of_the_contract(layers) -> None:
    drawing = layers.drawing(PYPROJECT)
    names = layers.packages(PYPROJECT)
    assert len(names) == len(set(names)) > 10
    assert re.findall(r">(\w+)</text>", drawing) == names


def test_every_layer_has_a_reason(layers) -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == layers.packages(PYPROJECT)


def test_layers_beside_each_other_share_a_row(layers, tmp_path: Path) -> None:
    layer = '["a | b", "(c)", "d : e"]'
    text = f'[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = {layer}\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert layers.contract(tmp_path / "pyproject.toml") == [["a", "b"], ["c"], ["d", "e"]]
