"""Every reader of files by kind, with small valid files: for the fuzzer and the corpus of what it found."""

from __future__ import annotations

import gzip
import json
import resource
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

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

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
_SLOW = 5.0


def _scan(folder: Path) -> None:
    """A table of 8 volumes beside the fuzzed scan."""
    table = Gradients(
        np.r_[0, np.full(7, 1000.0)], np.r_[np.zeros((1, 3)), np.eye(3), np.eye(3), [[1, 0, 0]]]
    )
    write_fsl(table, AFFINE, folder / "x.bval", folder / "x.bvec")


def _nifti_seeds(folder: Path, real: bool = False) -> list[bytes]:
    values = np.arange(4 * 3 * 2 * 8, dtype=np.float32).reshape(4, 3, 2, 8) + 1
    made = []
    for version in (nib.Nifti1Image, nib.Nifti2Image):
        for dtype in (np.int16, np.float32, *(() if real else (np.complex64,))):
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
    save_file(
        {"net.a": np.ones((2, 3), np.float32)},
        path,
        metadata={"fornix": json.dumps({"format": weights.FORMAT})},
    )
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
    "mask": ("x.nii", lambda f: _nifti_seeds(f, real=True), read_volume),
    "gzip": (
        "x.nii.gz",
        lambda f: [gzip.compress(s, mtime=0) for s in _nifti_seeds(f)],
        load,
    ),
    "bval": (
        "x.bval",
        _text("0 1000 1000 1000 1000 1000 1000 1000\n", "5\n" + 7 * "1e3\n"),
        lambda p: read_fsl(p, p.with_name("y.bvec"), AFFINE),
    ),
    "bvec": (
        "x.bvec",
        _text("0 1 0 0 1 0 0 1\n0 0 1 0 0 1 0 0\n0 0 0 1 0 0 1 0\n"),
        lambda p: read_fsl(p.with_name("y.bval"), p, AFFINE),
    ),
    "grad": ("x.b", _text("0 0 0 0\n1 0 0 1000\n"), read_mrtrix),
    "sidecar": ("x.json", _text('{"EchoTime": 0.08, "A": [1, null]}'), read_json),
    "tck": (
        "x.tck",
        lambda f: _tractogram_seeds(f, "tck"),
        lambda p: load_tractogram(p, p.with_name("ref.nii")),
    ),
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
