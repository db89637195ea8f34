"""The corrections, one word each, done in the order given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.core.methods import Deferred, Method, MethodTable
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.bias import correct_bias
from fornix.preprocess.gibbs import remove_gibbs

if TYPE_CHECKING:
    from fornix.preprocess.geometry.correction import Corrected

Progress = Callable[[int, int], None]

# Loads torch, a second of start-up, when it is used.
correct_geometry = Deferred("fornix.preprocess.geometry.correction:correct_geometry")


def correct(
    dwi: DWI,
    *,
    methods: Sequence[str] = ("gibbs", "eddy", "bias"),
    acquisition: Acquisition | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DWI:
    """The scan after the corrections named.

    Args:
        dwi: The scan.
        methods: Entries of CORRECT_METHODS, in the order in which they are done.
        acquisition: Phase encoding and reversed scan; what the sidecar says if absent.
        threads: None leaves numba's and torch's numbers as they are.
        progress: Called with (done, in all).
    """
    return corrected(
        dwi, methods=methods, acquisition=acquisition, threads=threads, progress=progress
    )[0]


def corrected(
    dwi: DWI,
    *,
    methods: Sequence[str],
    acquisition: Acquisition | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[DWI, Corrected | None]:
    """As `correct`, with what was found of motion, eddy currents and field, if that was asked for."""
    acquisition, found = acquisition or Acquisition.of(dwi), None
    with use_threads(threads):
        for method in methods:
            made = CORRECT_METHODS[method].run(
                dwi, acquisition=acquisition, threads=threads, progress=progress
            )
            found = found if isinstance(made, DWI) else made
            dwi = made if isinstance(made, DWI) else made.dwi
    return dwi, found


def _gibbs(
    dwi: DWI, acquisition: Acquisition, threads: int | None, progress: Progress | None
) -> DWI:
    if acquisition.interpolated:
        dwi = dwi.with_(notes=(*dwi.notes, tell(acquisition.interpolated)))
    return remove_gibbs(
        dwi,
        slice_axis=acquisition.slice_axis,
        partial_fourier=acquisition.partial_fourier if acquisition.encoding else 1.0,
        phase_axis=None if acquisition.encoding is None else acquisition.encoding.axis,
        threads=threads,
        progress=progress,
    )


def _bias(
    dwi: DWI, acquisition: Acquisition, threads: int | None, progress: Progress | None
) -> DWI:
    return correct_bias(dwi)


def _motion(
    dwi: DWI, acquisition: Acquisition, threads: int | None, progress: Progress | None
) -> Corrected:
    found = correct_geometry(dwi, acquisition, eddy=False, progress=progress)
    return _noted(found)


def _eddy(
    dwi: DWI, acquisition: Acquisition, threads: int | None, progress: Progress | None
) -> Corrected:
    return _noted(correct_geometry(dwi, acquisition, progress=progress))


def _noted(found: Corrected) -> Corrected:
    """With its notes on the scan as well, where later stages and the report look."""
    return replace(found, dwi=found.dwi.with_(notes=(*found.dwi.notes, *found.notes)))


CORRECT_METHODS = MethodTable(
    "correct",
    [
        Method(
            "gibbs",
            _gibbs,
            "Gibbs ringing by subvoxel shifts",
            "Kellner et al., MRM 2016",
        ),
        Method(
            "motion",
            _motion,
            "head motion and lost slices, gradients turned along; the field with --reversed",
            "after Andersson & Sotiropoulos, NeuroImage 2016",
        ),
        Method(
            "eddy",
            _eddy,
            "motion and eddy currents to second order together; the field with --reversed",
            "after Andersson & Sotiropoulos, NeuroImage 2016",
        ),
        Method("bias", _bias, "receive bias field from the b0 and diffusivity"),
    ],
)
