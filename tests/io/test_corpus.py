"""What a fuzzer once broke a reader with (tools/fuzz_readers.py) is a result now, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.readers import KINDS, prepare, read

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(p for p in CORPUS.glob("*/*") if p.is_file())


@pytest.mark.parametrize("kind", KINDS)
def test_valid_files_of_every_kind_are_read(kind: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    name, seeds, reader = KINDS[kind]
    for raw in seeds(tmp_path):
        (tmp_path / name).write_bytes(raw)
        assert reader(tmp_path / name) is not None


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_broke_a_reader_is_one_line_now(path: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    assert read(path.parent.name, path.read_bytes(), tmp_path) == ""
