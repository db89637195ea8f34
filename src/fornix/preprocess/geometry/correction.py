"""Motion, eddy currents and the susceptibility field of a scan corrected together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.physics.scanner.fields import EDDY_TERMS
from fornix.preprocess.acquisition import Acquisition, in_axes_of
from fornix.preprocess.geometry._sampling import spline
from fornix.preprocess.geometry.alignment import Aligned, align
from fornix.preprocess.geometry.field import FieldEstimate, estimate_field
from fornix.preprocess.geometry.resampling import resample
from fornix.preprocess.geometry.transform import Geometry
from fornix.preprocess.phase_encoding import PhaseEncoding

Progress = Callable[[int, int], None]

#: Thinner grids and smaller brains show too little to register.
_THINNEST, _SMALLEST = 5, 2000
#: Corrected images of one head that correlate less than this in the brain are not of one head.
_SAME_HEAD = 0.8
#: Radius at which turns count as mm in framewise displacement.
_RADIUS = 50.0


@dataclass(frozen=True, eq=False)
class Corrected:
    """A corrected scan and what was found.

    Attributes:
        dwi: On the grid of the head at rest, gradients turned along.
        aligned: Geometry, residuals, lost slices; None where nothing could be registered.
        field: From the reversed scan, None without one.
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
        FornixError: The reversed scan is not reversed, of another grid, or of another head.
    """
    acquisition = acquisition or Acquisition.of(dwi)
    encoding, notes = acquisition.encoding, list(acquisition.doubts)
    field = None
    if acquisition.reversed_scan is not None:
        encoding, more = _pair(acquisition)
        notes += more
        field, more = _field(dwi, acquisition.reversed_scan, encoding)
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


def _pair(acquisition: Acquisition) -> tuple[PhaseEncoding, list[str]]:
    """How the first scan of a pair is distorted."""
    own, other = acquisition.encoding, acquisition.reversed_encoding
    known = own or (None if other is None else other.reversed)
    if known is None:
        raise FornixError(
            "the phase-encoding axis of the pair is not known: give --phase-encoding (i, j or k)"
        )
    if own is not None and other is not None:
        if own.axis != other.axis:
            raise FornixError(
                f"the scans of the pair are phase-encoded along {own} and {other}: no reversed pair"
            )
        if own.known_sign and other.known_sign and own.sign == other.sign:
            raise FornixError(
                f"both scans of the pair are phase-encoded along {own}: --reversed must be the other way"
            )
        if not own.known_sign and other.known_sign:
            known = PhaseEncoding(own.axis, -other.sign, own.readout_time, True, own.known_time)
    words = []
    if not known.known_sign:
        words.append(
            f"the sense of phase encoding along {'ijk'[known.axis]} is in neither sidecar: the pair is "
            "corrected all the same, but the field's sign in Hz is a guess"
        )
    if not known.known_time:
        words.append(
            f"the readout time is not known: {known.readout_time} s is taken, which only scales "
            "the field in Hz"
        )
    return known, words


def _field(dwi: DWI, other: DWI, encoding: PhaseEncoding) -> tuple[FieldEstimate, list[str]]:
    """The field that a reversed scan shows."""
    if not (dwi.gradients.b0_mask.any() and other.gradients.b0_mask.any()):
        raise FornixError("the field needs a b0 in both scans of the pair")
    in_axes_of(encoding, dwi.affine, other.affine)  # refuses a tilted one
    first = dwi.volume(int(np.flatnonzero(dwi.gradients.b0_mask)[0]))
    second = other.volume(int(np.flatnonzero(other.gradients.b0_mask)[0]))
    if other.grid != dwi.grid or not np.allclose(
        other.affine, dwi.affine, atol=0.02 * float(dwi.voxel_size.min())
    ):
        second = _on_grid(second, other, dwi)
    mask = dwi.brain()
    if dwi.mask is not None:
        mask = mask | (ndimage.gaussian_filter(second, 1.0) > 0.4 * np.median(second[mask]))
        mask &= ndimage.binary_dilation(dwi.brain(), iterations=4)
    found = estimate_field(first, second, mask, dwi.affine, encoding)
    words = []
    if found.after < _SAME_HEAD or found.after < found.before - 0.01:
        raise FornixError(
            f"after correction the b0s of the pair correlate by {found.after:.2f} in the brain "
            f"(as measured {found.before:.2f}): they are not a reversed pair of one head"
        )
    largest = np.abs(found.hz[mask]).max() * encoding.readout_time
    words.append(
        f"the field displaces up to {largest:.1f} voxels; the b0s of the pair correlate by "
        f"{found.before:.3f} as measured, by {found.after:.3f} corrected"
    )
    return found, words


def _on_grid(image: NDArray[np.float32], other: DWI, dwi: DWI) -> NDArray[np.float32]:
    """An image of another grid on the scan's."""
    matrix = np.linalg.inv(other.affine) @ dwi.affine
    moved = ndimage.affine_transform(
        image, matrix[:3, :3], matrix[:3, 3], output_shape=dwi.grid, order=3, mode="nearest"
    )
    return np.asarray(np.clip(moved, 0, None), dtype=np.float32)
