"""How a scan was taken: from its sidecar, from the options, and its reversed partner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.io import load, read_volume
from fornix.io.names import sidecar_path, stem_of
from fornix.io.sidecar import read_sidecar
from fornix.preprocess.acquisition import T1, Acquisition
from fornix.workflow.options import PREPROCESS, Options


def acquisition_of(
    scan: DWI,
    options: Options,
    reversed_scan: str | Path | None = None,
    t1: str | Path | None = None,
) -> Acquisition:
    """What is known of a scan beside its signals.

    Args:
        scan: The scan.
        options: With what goes before the sidecar.
        reversed_scan: A series with its table, or an image of b0s alone.
        t1: An image of the same head that EPI does not distort.

    Raises:
        FornixError: For a phase encoding that cannot be, or a reversed scan or T1 that cannot be read.
    """
    for word, given in (("--reversed", reversed_scan), ("--t1", t1)):
        if given is not None and "eddy" not in PREPROCESS[options.preprocess][1]:
            raise FornixError(
                f"{word} needs the corrections, which --preprocess {options.preprocess} leaves out; use full"
            )
    other = None if reversed_scan is None else _b0s(reversed_scan, options)
    found = Acquisition.of(scan, other, options.phase_encoding, options.readout_time)
    return found if t1 is None else replace(found, t1=read_t1(t1))


def read_t1(path: str | Path) -> T1:
    """A T1 from a file.

    Raises:
        FornixError: The file is no image of three dimensions, or shows nothing.
    """
    data, affine = read_volume(path, "T1")
    name = Path(path).name
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise FornixError(
            f"{name} has {data.ndim} dimensions ({' x '.join(map(str, data.shape))}); a T1 is one image, "
            "3-D"
        )
    data = np.nan_to_num(data, posinf=0, neginf=0)
    if min(data.shape) < 8 or data.max() <= data.min():
        raise FornixError(f"{name} shows no head: give a whole T1, 3-D, of the scan's head")
    return T1(data, np.asarray(affine, np.float64), name)


def _b0s(path: str | Path, options: Options) -> DWI:
    """A scan, or an image without a table as b0s."""
    base = sidecar_path(path)
    if any(base.with_suffix(end).exists() for end in (".bval", ".bvals")):
        return load(path, max_memory=options.max_memory)
    data, affine = read_volume(path)
    data = data[..., None] if data.ndim == 3 else data
    if data.ndim != 4:
        raise FornixError(f"{path} has {data.ndim} dimensions; --reversed takes a scan or b0s")
    count = data.shape[3]
    table = Gradients(np.zeros(count), np.zeros((count, 3)))
    return DWI(
        np.asarray(data, np.float32), table, affine, stem=stem_of(path), meta=read_sidecar(path)
    )
