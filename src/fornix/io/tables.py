"""Gradient files in and out: FSL's bval/bvec pair and MRtrix's table of four columns."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import B0_THRESHOLD, Gradients
from fornix.io.files import atomic, input_file

#: Bytes; a table of a hundred thousand volumes is smaller.
_LARGEST = 1 << 24


def read_fsl(
    bval: str | Path,
    bvec: str | Path,
    affine: ArrayLike,
    b0_threshold: float = B0_THRESHOLD,
    exclude: Collection[int] = (),
) -> Gradients:
    """The table of an FSL pair, for the image whose affine is given.

    Args:
        bval: Its b-values.
        bvec: Its b-vectors.
        affine: (4, 4) of the image.
        b0_threshold: s/mm²; a volume is a b0 if b <= this.
        exclude: Volumes to leave out before anything is checked.
    """
    bvals = _numbers(input_file(bval, "bval file"))
    bvecs = _numbers(input_file(bvec, "bvec file"))
    try:
        _check_excluded(exclude, bvals.size)
        return Gradients.from_fsl(bvals.ravel(), bvecs, affine, b0_threshold, exclude)
    except FornixError as error:
        raise FornixError(f"{Path(bval).name}, {Path(bvec).name}: {error}") from error


def write_fsl(gradients: Gradients, affine: ArrayLike, bval: str | Path, bvec: str | Path) -> None:
    """Write an FSL pair for an image with this affine."""
    bvals, bvecs = gradients.to_fsl(affine)
    with atomic(bval) as temporary:
        np.savetxt(temporary, bvals[None], fmt="%.10g")
    with atomic(bvec) as temporary:
        np.savetxt(temporary, bvecs + 0.0, fmt="%.9f")


def read_mrtrix(
    path: str | Path, b0_threshold: float = B0_THRESHOLD, exclude: Collection[int] = ()
) -> Gradients:
    """An MRtrix gradient table (`-grad` file): rows x y z b in world axes; exclude: rows to leave out."""
    rows = _numbers(input_file(path, "gradient table"))
    try:
        _check_excluded(exclude, len(rows))
        return Gradients.from_mrtrix(rows, b0_threshold, exclude)
    except FornixError as error:
        raise FornixError(f"{Path(path).name}: {error}") from error


def write_mrtrix(gradients: Gradients, path: str | Path) -> None:
    """Write an MRtrix gradient table."""
    with atomic(path) as temporary:
        np.savetxt(temporary, gradients.to_mrtrix() + 0.0, fmt="%.9f %.9f %.9f %.10g")


def _check_excluded(exclude: Collection[int], count: int) -> None:
    beyond = [v for v in exclude if not 0 <= v < count]
    if beyond:
        raise FornixError(
            f"--exclude names volume {beyond[0]}, but the table has volumes 0 to {count - 1}"
        )


def _numbers(path: Path) -> NDArray[np.float64]:
    """The table of a text file of any encoding, its numbers parted by blanks, commas or semicolons."""
    try:
        lines = _text(path).translate(_SEPARATORS).splitlines()
        rows = [words for line in lines if (words := line.split("#")[0].split())]
        lengths = {len(row) for row in rows}
        if not rows:
            raise FornixError(f"{path} is empty")
        if len(lengths) > 1:
            raise FornixError(
                f"{path}: rows of different lengths {sorted(lengths)}; repair the file"
            )
        return np.array(rows, dtype=np.float64)
    except (UnicodeError, ValueError, OSError) as error:
        if isinstance(error, FornixError):
            raise
        raise FornixError(f"{path} is not a table of numbers: {str(error)[:80]}") from error


_SEPARATORS = str.maketrans(",;\u2212", "  -")  # and the minus that word processors write


def _text(path: Path) -> str:
    """The text of a file as editors on any system save it."""
    if path.stat().st_size > _LARGEST:
        raise FornixError(
            f"{path} is {path.stat().st_size:,} bytes, too large for a gradient table"
        )
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16")
    return raw.decode("utf-8-sig")
