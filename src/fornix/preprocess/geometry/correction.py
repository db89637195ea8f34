"""Motion, eddy currents and the susceptibility field of a scan corrected together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.physics.scanner.fields import EDDY_TERMS
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry._sampling import spline
from fornix.preprocess.geometry.alignment import Aligned, align
from fornix.preprocess.geometry.field import FieldEstimate
from fornix.preprocess.geometry.field_source import find_field
from fornix.preprocess.geometry.resampling import resample
from fornix.preprocess.geometry.transform import Geometry

Progress = Callable[[int, int], None]

#: Thinner grids and smaller brains show too little to register.
_THINNEST, _SMALLEST = 5, 2000
#: Radius at which turns count as mm in framewise displacement.
_RADIUS = 50.0


@dataclass(frozen=True, eq=False)
class Corrected:
    """A corrected scan and what was found.

    Attributes:
        dwi: On the grid of the head at rest, gradients turned along.
        aligned: Geometry, residuals, lost slices; None where nothing could be registered.
        field: From the reversed scan or the T1, None without them.
        notes: One line each.
    """

    dwi: DWI
    aligned: Aligned | None
    field: FieldEstimate | None
    notes: tuple[str, ...]

    def confounds(self) -> Mapping[str, list[Any]]:
        """Columns of the confounds table, one row a volume: mm, radians, Hz; empty without motion."""
        if self.aligned is None:
            return {}
        geometry = self.aligned.geometry
        moves, turns = geometry.translations, geometry.angles
        table: dict[str, list[Any]] = {}
        for name, values in (("trans", moves), ("rot", turns)):
            for i, axis in enumerate("xyz"):
                table[f"{name}_{axis}"] = (values[:, i].round(6) + 0.0).tolist()
        change = np.abs(np.diff(np.c_[moves, turns * _RADIUS], axis=0, prepend=np.nan)).sum(1)
        table["framewise_displacement"] = ["n/a" if np.isnan(v) else round(v, 6) for v in change]
        if geometry.encoding is not None:
            for i, term in enumerate(EDDY_TERMS):
                table[f"eddy_{term}"] = (geometry.eddy[:, i].round(6) + 0.0).tolist()
        table["outlier_slices"] = [
            ",".join(map(str, np.flatnonzero(row))) or "n/a" for row in self.aligned.lost
        ]
        return table


def correct_geometry(
    dwi: DWI,
    acquisition: Acquisition | None = None,
    *,
    eddy: bool = True,
    progress: Progress | None = None,
) -> Corrected:
    """The scan with its volumes aligned, undistorted and interpolated once.

    Args:
        dwi: The scan with its mask.
        acquisition: How it was taken; what its sidecar says if absent.
        eddy: False corrects head motion alone.
        progress: Called with (rounds done, in all).

    Raises:
        FornixError: As of `find_field`.
    """
    acquisition = acquisition or Acquisition.of(dwi)
    encoding, notes = acquisition.encoding, list(acquisition.doubts)
    field = None
    if acquisition.tells_field:
        field, encoding, more = find_field(dwi, acquisition)
        notes += more
    elif encoding is None and eddy:
        notes.append(
            "the phase-encoding direction is not known, so eddy currents are not corrected; "
            "give --phase-encoding (i, j or k, with - where it is the other way)"
        )
    if why := too_little(dwi):
        notes.append(f"motion is not corrected: {why}")
        if field is None:
            return Corrected(dwi, None, None, tuple(map(tell, notes)))
        rest = Geometry.at_rest(
            dwi.affine, dwi.grid, len(dwi.gradients), encoding, spline(field.hz)
        )
        return Corrected(resample(dwi, rest), None, field, tuple(map(tell, notes)))
    found = align(
        dwi,
        encoding if eddy or field is not None else None,
        field=None if field is None else spline(field.hz),
        eddy=eddy,
        slice_axis=acquisition.slice_axis,
        progress=progress,
    )
    fixed = resample(dwi, found.geometry, found.lost, slice_axis=acquisition.slice_axis)
    return Corrected(fixed, found, field, tuple(map(tell, [*notes, *_words(found)])))


def too_little(dwi: DWI) -> str:
    """Why a scan cannot be registered, in half a line; empty if it can."""
    if min(dwi.grid) < _THINNEST:
        return f"the grid of {' x '.join(map(str, dwi.grid))} is too thin to see it"
    if dwi.brain().sum() < _SMALLEST:
        return f"{int(dwi.brain().sum()):,} voxels of brain are too few to see it"
    if len(dwi.gradients) < 3:
        return f"{len(dwi.gradients)} volumes are too few"
    return ""


def _words(found: Aligned) -> list[str]:
    """What a user should look at."""
    move = np.linalg.norm(found.geometry.translations, axis=1).max()
    turn = np.degrees(np.linalg.norm(found.geometry.angles, axis=1)).max()
    words = []
    if move > 3 or turn > 2:
        words.append(f"the head moved by up to {move:.1f} mm and {turn:.1f} degrees")
    if found.lost.any():
        volumes = np.flatnonzero(found.lost.any(1))
        words.append(
            f"{int(found.lost.sum())} slices in {len(volumes)} volumes lost or gained signal and were "
            "replaced by what the other volumes predict"
        )
    worst = np.flatnonzero(found.lost.mean(1) > 0.5)
    if len(worst):
        words.append(
            f"volumes {worst.tolist()} are destroyed in most slices: leave them out with --exclude"
        )
    return words
