"""Coverage-guided fuzzing of every reader: anything but a result or a FornixError is a defect.

    pip install atheris
    python tools/fuzz_readers.py nifti --seconds 600

Seeds are small valid files, made here. An input that breaks a reader (another exception, over 5 s, or memory
beyond what the file needs) goes to tests/io/corpus/KIND, one per place of failure, where
tests/io/test_corpus.py reads it ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fornix.io", "nibabel"]):
    import nibabel as nib
    import numpy as np
    from safetensors.numpy import save_file

    from fornix.core.errors import FornixError
    from fornix.core.gradients import Gradients
    from fornix.core.tractogram import Tractogram
    from fornix.io import load, load_tractogram, read_fsl, read_mrtrix, read_volume, save_tractogram
    from fornix.io.files import sha256
    from fornix.io.sidecar import read_json
    from fornix.io.tables import write_fsl
    from fornix.nets import weights

CORPUS = Path(__file__).parents[1] / "tests" / "io" / "corpus"
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
_SLOW = 5.0


def _scan(folder: Path) -> None:
    """A table of 8 volumes beside the fuzzed scan."""
    table = Gradients(
        np.r_[0, np.full(7, 1000.0)], np.r_[np.zeros((1, 3)), np.eye(3), np.eye(3), [[1, 0, 0]]]
    )
    write_fsl(table, AFFINE, folder / "x.bval", folder / "x.bvec")


def _nifti_seeds(folder: Path) -> list[bytes]:
    values = np.arange(4 * 3 * 2 * 8, dtype=np.float32).reshape(4, 3, 2, 8) + 1
    made = []
    for version in (nib.Nifti1Image, nib.Nifti2Image):
        for dtype in (np.int16, np.float32, np.complex64):
            path = folder / "seed.nii"
            nib.save(version(values.astype(dtype), AFFINE), path)
            made.append(path.read_bytes())
    return made


def _tractogram_seeds(folder: Path, extension: str) -> list[bytes]:
    points = np.random.default_rng(0).uniform(0, 6, (12, 3)).astype(np.float32)
    made = Tractogram(points, np.array([0, 5, 12]), AFFINE, (4, 4, 4))
    path = folder / f"seed.{extension}"
    save_tractogram(made, path)
    return [path.read_bytes()]


def _weight_seeds(folder: Path) -> list[bytes]:
    path = folder / "seed.safetensors"
    save_file({"net.a": np.ones((2, 3), np.float32)}, path, metadata={"about": "{}"})
    return [path.read_bytes()]


def _read_weights(path: Path) -> object:
    """As if a user had put weights of their own there, with their hash in the manifest."""
    path.with_name("manifest.json").write_text(json.dumps({"fuzzed": sha256(path)}))
    weights.load.cache_clear()
    return weights.load("fuzzed", path.parent)


def _text(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [t.encode() for t in texts]


#: Kind: name of the fuzzed file, its seeds, and what reads it.
KINDS: dict[str, tuple[str, Callable[[Path], list[bytes]], Callable[[Path], object]]] = {
    "nifti": ("x.nii", _nifti_seeds, load),
    "mask": ("x.nii", _nifti_seeds, read_volume),
    "gzip": (
        "x.nii.gz",
        lambda f: [__import__("gzip").compress(s, mtime=0) for s in _nifti_seeds(f)],
        load,
    ),
    "bval": (
        "x.bval",
        _text("0 1000 1000 1000 1000 1000 1000 1000\n", "5\n1e3\n"),
        lambda p: read_fsl(p, p.with_name("y.bvec"), AFFINE),
    ),
    "bvec": (
        "x.bvec",
        _text("0 1 0 0 1 0 0 1\n0 0 1 0 0 1 0 0\n0 0 0 1 0 0 1 0\n"),
        lambda p: read_fsl(p.with_name("y.bval"), p, AFFINE),
    ),
    "grad": ("x.b", _text("0 0 0 0\n1 0 0 1000\n"), read_mrtrix),
    "sidecar": ("x.json", _text('{"EchoTime": 0.08, "A": [1, null]}'), read_json),
    "tck": ("x.tck", lambda f: _tractogram_seeds(f, "tck"), lambda p: load_tractogram(p, p.with_name("ref.nii"))),
    "trk": ("x.trk", lambda f: _tractogram_seeds(f, "trk"), load_tractogram),
    "trx": ("x.trx", lambda f: _tractogram_seeds(f, "trx"), load_tractogram),
    "weights": ("fuzzed.safetensors", _weight_seeds, _read_weights),
}  # fmt: skip


def prepare(folder: Path) -> None:
    """The files that stand beside the fuzzed one."""
    _scan(folder)
    (folder / "y.bval").write_bytes((folder / "x.bval").read_bytes())
    (folder / "y.bvec").write_bytes((folder / "x.bvec").read_bytes())
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), AFFINE), folder / "ref.nii")


def read(kind: str, raw: bytes, folder: Path) -> str:
    """Empty where the reader takes the bytes or refuses them in one line; else what is wrong."""
    name, _, reader = KINDS[kind]
    path = folder / name
    path.write_bytes(raw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader(path)
    except FornixError as error:
        if "\n" in str(error):
            return "the message has more than one line"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
    if time.perf_counter() - start > _SLOW:
        return "slow"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return "memory" if grown > 2e8 + 2 * len(raw) else ""


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
