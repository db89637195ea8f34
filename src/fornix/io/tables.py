"""Gradient files in and out: FSL's bval/bvec pair and MRtrix's table of four columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import B0_THRESHOLD, Gradients
from fornix.io.files import atomic, input_file


def read_fsl(
    bval: str | Path, bvec: str | Path, affine: ArrayLike, b0_threshold: float = B0_THRESHOLD
) -> Gradients:
    """The table of an FSL pair, for the image whose affine is given."""
    bvals = _numbers(input_file(bval, "bval file"))
    bvecs = _numbers(input_file(bvec, "bvec file"))
    try:
        return Gradients.from_fsl(bvals.ravel(), bvecs, affine, b0_threshold)
    except FornixError as error:
        raise FornixError(f"{Path(bval).name}, {Path(bvec).name}: {error}") from error


def write_fsl(gradients: Gradients, affine: ArrayLike, bval: str | Path, bvec: str | Path) -> None:
    """Write an FSL pair for an image with this affine."""
    bvals, bvecs = gradients.to_fsl(affine)
    with atomic(bval) as temporary:
        np.savetxt(temporary, bvals[None], fmt="%.10g")
    with atomic(bvec) as temporary:
        np.savetxt(temporary, bvecs + 0.0, fmt="%.9f")


def read_mrtrix(path: str | Path, b0_threshold: float = B0_THRESHOLD) -> Gradients:
    """An MRtrix gradient table (`-grad` file): rows x y z b in world axes."""
    return Gradients.from_mrtrix(_numbers(input_file(path, "gradient table")), b0_threshold)


def write_mrtrix(gradients: Gradients, path: str | Path) -> None:
    """Write an MRtrix gradient table."""
    with atomic(path) as temporary:
        np.savetxt(temporary, gradients.to_mrtrix() + 0.0, fmt="%.9f %.9f %.9f %.10g")


def _numbers(path: Path) -> NDArray[np.float64]:
    try:
        text = path.read_text().replace(",", " ")
        rows = [line.split() for line in text.splitlines() if line.split("#")[0].strip()]
        lengths = {len(row) for row in rows}
        if not rows:
            raise FornixError(f"{path} is empty")
        if len(lengths) > 1:
            raise FornixError(
                f"{path}: rows of different lengths {sorted(lengths)}; repair the file"
            )
        return np.array(rows, dtype=np.float64)
    except (UnicodeDecodeError, ValueError) as error:
        if isinstance(error, FornixError):
            raise
        raise FornixError(f"{path} is not a table of numbers: {str(error)[:80]}") from error
