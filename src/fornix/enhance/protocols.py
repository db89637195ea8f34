"""The gradients that a scan is brought to, by whatever names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.io import read_fsl, read_mrtrix
from fornix.io.nifti import EXTENSIONS
from fornix.io.scan import gradients_of
from fornix.physics.protocol import SCHEMES, scheme

#: Beyond this the prior of the q-space encoder holds no tissue, s/mm².
_HIGHEST = 6000.0


def target_gradients(words: str | Path, affine: NDArray[np.float64]) -> Gradients:
    """The gradients that are meant.

    Args:
        words: A scheme of `physics.protocol`, the bval or bvec file of a pair, both parted by a comma, an
            MRtrix table, or a scan with its table beside it.
        affine: (4, 4) of the scan in whose voxel axes a pair's b-vectors are.

    Raises:
        FornixError: It is none of these, cannot be read, or reaches beyond b = 6000.
    """
    found = _read(str(words), affine)
    if not len(found):
        raise FornixError(f"{words} holds no gradients")
    if found.bvals.max() > _HIGHEST:
        raise FornixError(
            f"{words} reaches b = {found.bvals.max():g} s/mm²; signals are predicted up to {_HIGHEST:g}"
        )
    return found


def _read(words: str, affine: NDArray[np.float64]) -> Gradients:
    if words in SCHEMES:
        return scheme(words)
    pair = [Path(w.strip()) for w in words.split(",")]
    if len(pair) == 2:
        bval, bvec = sorted(pair, key=lambda p: "bvec" in p.suffix)
        return read_fsl(bval, bvec, affine)
    path = Path(words)
    if not path.is_file():
        raise FornixError(
            f"{words!r} is no file and no scheme; give a bval file with its bvec beside it, an MRtrix table, "
            f"another scan, or one of: {', '.join(SCHEMES)}"
        )
    if path.name.endswith(EXTENSIONS):
        return gradients_of(path)
    if path.suffix in (".bval", ".bvals", ".bvec", ".bvecs"):
        plural = "s" if path.suffix.endswith("s") else ""
        bval, bvec = (path.with_suffix(f".{kind}{plural}") for kind in ("bval", "bvec"))
        return read_fsl(bval, bvec, affine)
    return read_mrtrix(path)
