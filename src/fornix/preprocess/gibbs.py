"""Removal of Gibbs ringing by local subvoxel shifts (Kellner et al., MRM 2016), with partial Fourier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.series import put_volume, room_like
from fornix.preprocess._gibbs_slices import without_ringing
from fornix.preprocess._gibbs_spectrum import is_halved, is_interpolated, power_along

#: Voxels along an axis from which ringing can be told from structure.
_FEWEST = 8
#: Bytes of slices that are worked on at once.
_BYTES = 1 << 22


def remove_gibbs(
    dwi: DWI,
    *,
    slice_axis: int = 2,
    partial_fourier: float = 1.0,
    phase_axis: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DWI:
    """The scan without ringing in the slice plane.

    Do it after denoising and before anything that interpolates. An axis along which the images' own spectrum
    is empty at its border was interpolated or filtered, rings with another period, and is left as it is; a
    note says so.

    With partial Fourier, what was measured on one side only is weighted up first (`doubled`); the period
    of the ringing is that of full k-space then.

    Args:
        dwi: The scan.
        slice_axis: Voxel axis across the slices.
        partial_fourier: Share of the lines along `phase_axis` that were measured, 0.5 to 1. Usual are 7/8,
            6/8 and 5/8; `Acquisition.of` reads it from a sidecar.
        phase_axis: Voxel axis of phase encoding, needed with partial Fourier.
        threads: None leaves numba's number as it is.
        progress: Called with (volumes done, volumes in all).

    Raises:
        FornixError: Axes or a share that cannot be.
    """
    across = slice_axis
    _check(across, partial_fourier, phase_axis)
    plane = [a for a in range(3) if a != across]
    if min(dwi.grid[a] for a in plane) < _FEWEST:
        return dwi
    notes = list(dwi.notes)
    power = power_along(dwi, across)
    rings = [
        not is_interpolated(p, partial_fourier if a == phase_axis else 1.0)
        for a, p in zip(plane, power)
    ]
    if not all(rings):
        names = " and ".join("ijk"[a] for a, r in zip(plane, rings) if not r)
        notes.append(
            tell(
                f"Gibbs ringing along {names} left as it is: the images were interpolated or filtered there, "
                "their k-space is empty at its border"
            )
        )
        if not any(rings):
            return dwi.with_(notes=tuple(notes))
    if phase_axis is None or not rings[plane.index(phase_axis)]:
        partial_fourier = 1.0
    elif partial_fourier < 1 and all(rings) and not is_halved(
        power[plane.index(phase_axis)], power[1 - plane.index(phase_axis)], partial_fourier
    ):  # fmt: skip
        notes.append(
            tell(
                f"partial Fourier of {partial_fourier:g} does not show in the images: the scanner filled "
                "k-space; ringing is removed as from full k-space"
            )
        )
        partial_fourier = 1.0
    out = room_like(dwi.data)
    with use_threads(threads) as count:
        done = 0
        for volumes, slices, values in _parts(dwi, across):
            made = _finite(
                values,
                axes=(rings[0], rings[1]),
                partial_fourier=partial_fourier,
                partial_axis=0 if phase_axis is None else plane.index(phase_axis),
                threads=count,
            )
            if isinstance(out, np.ndarray):
                # (V, S, n, m) back to where slices and volumes stand in the scan.
                place = np.moveaxis(out, (3, across), (0, 1))
                place[volumes, slices] = made
            else:
                put_volume(out, volumes.start, np.moveaxis(made[0], 0, across))
            done += made.shape[0] * made.shape[1]
            if progress is not None:
                progress(done // dwi.grid[across], len(dwi.gradients))
    return dwi.with_(data=out, notes=tuple(notes))


def _parts(dwi: DWI, across: int) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Volumes, slices, and their values (V, S, n, m), in an order that reads memory along its own."""
    depth, count = dwi.grid[across], len(dwi.gradients)
    if not isinstance(dwi.data, np.ndarray):
        for v in range(count):
            yield slice(v, v + 1), slice(0, depth), np.moveaxis(dwi.volume(v), across, 0)[None]
        return
    view = np.moveaxis(dwi.data, (3, across), (0, 1))
    image = view[0, 0].size * 4
    by_volume = abs(dwi.data.strides[3]) == max(map(abs, dwi.data.strides))
    many = max(1, _BYTES // (image * (depth if by_volume else count)))
    for start in range(0, count if by_volume else depth, many):
        part = slice(start, min(start + many, count if by_volume else depth))
        volumes, slices = (part, slice(0, depth)) if by_volume else (slice(0, count), part)
        yield volumes, slices, view[volumes, slices]


def _finite(values: NDArray[np.float32], **how: Any) -> NDArray[np.float32]:
    """Slices (V, S, n, m) without ringing; what is no number is taken as 0 and left."""
    flat = np.ascontiguousarray(values).reshape(-1, *values.shape[2:])
    broken = None if np.isfinite(flat.sum()) else ~np.isfinite(flat)
    made = without_ringing(flat if broken is None else np.where(broken, 0, flat), **how)
    if broken is not None:
        made[broken] = flat[broken]
    return made.reshape(values.shape)


def _check(across: int, partial_fourier: float, phase_axis: int | None) -> None:
    if across not in (0, 1, 2):
        raise FornixError(f"the slice axis is 0, 1 or 2, not {across}")
    if not 0.5 < partial_fourier <= 1:
        raise FornixError(
            f"partial Fourier is the share of lines measured, above 0.5 up to 1, not {partial_fourier}"
        )
    if partial_fourier < 1 and phase_axis is None:
        raise FornixError("partial Fourier needs the axis of phase encoding: give phase_axis")
    if phase_axis is not None and (phase_axis not in (0, 1, 2) or phase_axis == across):
        raise FornixError(
            f"the phase-encoding axis lies in the slices; this one is {phase_axis}, across them is {across}"
        )
