"""What a run is going to do, and why: said before the work starts."""

from __future__ import annotations

from fornix.core.dwi import DWI
from fornix.enhance.grids import fine_grid
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.denoise import DENOISE_METHODS
from fornix.preprocess.history import done_twice
from fornix.workflow.options import PREPROCESS, Options


def plan(scan: DWI, options: Options, acquisition: Acquisition) -> list[str]:
    """The steps of preprocessing in their order, a line each, with what they rest on.

    Args:
        scan: As it was read.
        options: Of the run.
        acquisition: What is known beside the scan.
    """
    denoiser, corrections = PREPROCESS[options.preprocess]
    lines = [f"scan: {scan.gradients}; {' x '.join(map(str, scan.grid))} voxels"]
    doubts = [*acquisition.doubts, *done_twice(scan.meta, denoiser, corrections)]
    lines += [f"doubt: {doubt}" for doubt in doubts]
    if denoiser:
        few = len(scan.gradients) < DENOISE_METHODS[denoiser].min_volumes
        why = (
            "left out, too few volumes"
            if few
            else "first, while the noise of voxels is still independent"
        )
        lines.append(f"denoise ({denoiser}): {why}")
    words = {
        "gibbs": _gibbs(acquisition),
        "motion": _geometry(acquisition, eddy=False),
        "eddy": _geometry(acquisition, eddy=True),
        "bias": "receive field from the b0; ratios of volumes, and so maps of diffusion, do not change",
    }
    lines += [f"{word}: {words[word]}" for word in corrections]
    if options.enhance is not None:
        fine = fine_grid(scan, options.enhance)
        lines.append(
            f"enhance: voxels of {options.enhance:g} mm for all that follows, "
            f"{' x '.join(map(str, fine.shape))}; denoised, deconvolved, corrected by a network"
        )
    if not corrections:
        lines.append("no corrections: motion, eddy currents and distortion stay as they are")
    return lines


def _gibbs(acquisition: Acquisition) -> str:
    if acquisition.interpolated:
        return f"judged by the images' spectrum; {acquisition.interpolated}"
    share = acquisition.partial_fourier
    if acquisition.encoding is not None and share < 1:
        return (
            f"ringing in slices across {'ijk'[acquisition.slice_axis]}, partial Fourier {share:g}"
        )
    return f"ringing in slices across {'ijk'[acquisition.slice_axis]}, k-space taken as full"


def _geometry(acquisition: Acquisition, eddy: bool) -> str:
    encoding, partner = acquisition.encoding, acquisition.reversed_scan
    found = ["head motion and lost slices"]
    if eddy and (encoding is not None or acquisition.reversed_encoding is not None):
        found.append("eddy currents")
    elif eddy:
        found.append(
            "no eddy currents, as the phase-encoding direction is not known (--phase-encoding)"
        )
    if partner is not None:
        found.append(f"the field, from the pair with {partner.stem}")
    elif acquisition.t1 is not None:
        found.append(f"the field, an estimate from {acquisition.t1.name} along the phase axis")
    else:
        found.append("no field, so distortion stays (--reversed, or --t1 for an estimate)")
    how = ""
    if encoding is not None:
        how = f"; phase encoding {encoding}" + ("" if encoding.known_sign else ", sense not known")
        how += (
            f", readout {encoding.readout_time:g} s"
            if encoding.known_time
            else ", readout not known"
        )
    return ", ".join(found) + how + "; one interpolation"
