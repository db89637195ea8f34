"""Where the susceptibility field of a scan comes from: a reversed scan, or else a T1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.preprocess.acquisition import T1, Acquisition, in_axes_of
from fornix.preprocess.geometry.field import FieldEstimate, estimate_field
from fornix.preprocess.geometry.field_from_t1 import estimate_field_from_t1
from fornix.preprocess.phase_encoding import PhaseEncoding

#: Corrected images of one head that correlate less than this in the brain are not of one head.
_SAME_HEAD = 0.8
#: The same of a b0 and what a T1 predicts of it, which is less.
_SAME_HEAD_T1 = 0.6
#: Share of the brain that a T1 must show once it is aligned.
_COVERED = 0.9


def find_field(
    dwi: DWI, acquisition: Acquisition
) -> tuple[FieldEstimate, PhaseEncoding, list[str]]:
    """The field, how the scan is distorted by it, and what a user should know, a line each.

    Args:
        dwi: The scan with its mask.
        acquisition: With a reversed scan, which goes first, or a T1.

    Raises:
        FornixError: There is neither; the phase-encoding axis is not known; the reversed scan is not
            reversed, tilted, or of another head; the T1 does not show this head.
    """
    if acquisition.reversed_scan is not None:
        encoding, notes = _pair(acquisition)
        if acquisition.t1 is not None:
            notes.append(
                f"{acquisition.t1.name} is not used for the field: the reversed scan tells more"
            )
        field, more = _from_pair(dwi, acquisition.reversed_scan, encoding)
        return field, encoding, [*notes, *more]
    if acquisition.t1 is None:
        raise FornixError(
            "nothing tells the susceptibility field: give a scan of the other phase direction (--reversed) "
            "or a T1 (--t1)"
        )
    if acquisition.encoding is None:
        raise FornixError(
            "the phase-encoding axis is not known, along which the T1 is registered: give "
            "--phase-encoding (i, j or k)"
        )
    encoding = acquisition.encoding
    field, more = _from_t1(dwi, acquisition.t1, encoding)
    return field, encoding, [*_unknown(encoding, "the sidecar"), *more]


def _from_t1(dwi: DWI, t1: T1, encoding: PhaseEncoding) -> tuple[FieldEstimate, list[str]]:
    """The field that a T1 suggests."""
    if not dwi.gradients.b0_mask.any():
        raise FornixError("the field needs a b0, which this scan does not have")
    brain = dwi.brain()
    b0 = dwi.volume(int(np.flatnonzero(dwi.gradients.b0_mask)[0]))
    found = estimate_field_from_t1(b0, brain, dwi.affine, encoding, t1)
    covered = float((found.second[brain] > 0).mean())
    if covered < _COVERED:
        raise FornixError(
            f"{t1.name} shows only {100 * covered:.0f}% of the brain of the scan once aligned: it is cut, "
            "of another place or of another head"
        )
    if found.after < _SAME_HEAD_T1 or found.after < found.before - 0.01:
        raise FornixError(
            f"once aligned, what {t1.name} predicts of the b0 correlates with it by {found.after:.2f} in the "
            f"brain (as measured {found.before:.2f}): it is no T1 of this head"
        )
    largest = np.abs(found.hz[brain]).max() * encoding.readout_time
    return found, [
        f"the field is an estimate from {t1.name}, registered along {encoding}: it displaces up to "
        f"{largest:.1f} voxels; b0 and T1 correlate by {found.before:.2f} as measured, by {found.after:.2f} "
        "corrected; a reversed scan would tell more"
    ]


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
    return known, _unknown(known, "either sidecar")


def _unknown(encoding: PhaseEncoding, where: str) -> list[str]:
    """What of the phase encoding is not known, and what that costs."""
    words = []
    if not encoding.known_sign:
        words.append(
            f"the sense of phase encoding along {'ijk'[encoding.axis]} is not in {where}: the scan is "
            "corrected all the same, but the field's sign in Hz is a guess"
        )
    if not encoding.known_time:
        words.append(
            f"the readout time is not known: {encoding.readout_time} s is taken, which only scales "
            "the field in Hz"
        )
    return words


def _from_pair(dwi: DWI, other: DWI, encoding: PhaseEncoding) -> tuple[FieldEstimate, list[str]]:
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
