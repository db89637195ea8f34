"""Orientations that another tool made, checked before anything is built on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.io.nifti import read_volume
from fornix.models.fod_check import check_fod
from fornix.models.peaks import find_peaks


def read_fod(path: str | Path, dwi: DWI, peaks: int = 3) -> Maps:
    """A FOD file as maps `fod` and `peaks`, ready for `track`.

    Args:
        path: NIfTI (X, Y, Z, coefficients) on the scan's grid, real even harmonics in MRtrix3's basis,
            world axes. The unit of the amplitudes does not matter.
        dwi: The scan.
        peaks: How many peaks to find.

    Raises:
        FornixError: Where the grid is another, or the coefficients are not of such a basis: wrong in
            number, odd orders, negative means, or neighbours that agree better when read as DIPY's
            bases.
    """
    data, affine = read_volume(path, "FOD")
    if data.shape[:3] != dwi.grid or not np.allclose(affine, dwi.affine, atol=1e-3):
        raise FornixError(
            f"the FOD {path} is on another grid ({' x '.join(map(str, data.shape[:3]))}) than the scan "
            f"({' x '.join(map(str, dwi.grid))}), or placed elsewhere; resample it to the scan"
        )
    try:
        order = check_fod(data, affine)
    except FornixError as error:
        raise FornixError(f"{path}: {error}") from None
    inside = dwi.brain()
    top = dwi.unmask(find_peaks(data[inside], peaks).reshape(-1, 3 * peaks))
    about = f"read from {Path(path).name}, order {order}"
    made = {"fod": data, "peaks": top}
    return Maps(
        {
            name: Map(
                "", name, np.asarray(values, dtype=np.float32), affine, units="1", method="given",
                description=about,
            )
            for name, values in made.items()
        }
    )  # fmt: skip
