"""Coverage-guided fuzzing of every reader: anything but a result or a FornixError is a defect.

    pip install atheris
    python tools/fuzz_readers.py nifti --seconds 600

Seeds are small valid files (tests/helpers/readers.py). An input that breaks a reader (another exception, over
5 s, or memory beyond what the file needs) goes to tests/io/corpus/KIND, one per place of failure, where
tests/io/test_corpus.py reads it ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "io" / "corpus"
sys.path.insert(0, str(ROOT / "tests"))

# What numba compiles cannot be instrumented.
with atheris.instrument_imports(include=["fornix.io", "nibabel"], exclude=["fornix.io._order"]):
    from helpers.readers import KINDS, prepare, read


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("kind", choices=KINDS)
    words.add_argument("--seconds", type=int, default=300)
    asked = words.parse_args()
    seen: set[str] = set()
    folder = Path(tempfile.mkdtemp())
    seeds = Path(tempfile.mkdtemp())
    prepare(folder)
    for k, raw in enumerate(KINDS[asked.kind][1](seeds)):
        read(asked.kind, raw, folder)  # compiled now, so that it does not count
        (seeds / str(k)).write_bytes(raw)

    def one(raw: bytes) -> None:
        wrong = read(asked.kind, raw, folder)
        if wrong and wrong not in seen:
            seen.add(wrong)
            kept = CORPUS / asked.kind / hashlib.sha256(raw).hexdigest()[:12]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(raw)
            print(f"{asked.kind}: {wrong} -> {kept.name} ({len(raw)} bytes)", flush=True)

    flags = [
        f"-max_total_time={asked.seconds}",
        "-timeout=30",
        "-rss_limit_mb=4000",
        "-max_len=4096",
    ]
    atheris.Setup([sys.argv[0], str(seeds), *flags], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
