"""The stage: from a scan to fibre orientation distributions and their peaks."""

from __future__ import annotations

from functools import partial

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Map, Maps
from fornix.core.methods import Deferred, Method, MethodTable
from fornix.microstructure import microstructure
from fornix.orientation.csd import csd, csd_dipy, msmt
from fornix.orientation.peaks import find_peaks
from fornix.orientation.response import estimate_responses

# Loads torch, a second of start-up, when it is used.
learned_fod = Deferred("fornix.orientation.learned:learned_fod")

#: The default misses and invents fewer fibres than deconvolution on every simulated and real scan of
#: docs/benchmarks/orientation.md but loose voxels at 12 and 6 directions.
FOD_METHODS = MethodTable(
    "fod",
    [
        Method(
            "learned",
            partial(learned_fod, method="learned"),
            "equivariant network that reads neighbours, any protocol, with uncertainty",
            joint=True,
        ),
        Method(
            "voxelwise",
            partial(learned_fod, method="voxelwise"),
            "the same of single voxels",
            joint=True,
        ),
        Method(
            "msmt",
            msmt,
            "multi-tissue deconvolution, interior point",
            "Jeurissen et al., NeuroImage 2014",
        ),
        Method(
            "csd", csd, "single-tissue deconvolution, Newton", "Tournier et al., NeuroImage 2007"
        ),
        Method(
            "csd-dipy", csd_dipy, "DIPY's deconvolution (slow)", "Tournier et al., NeuroImage 2007"
        ),
    ],
)

_DESCRIPTIONS = {
    "wm": "share of the signal from fibres",
    "gm": "share of the signal from grey matter",
    "csf": "share of the signal from free water",
}


def fod(
    dwi: DWI,
    method: str = "auto",
    *,
    tensor: Maps | None = None,
    lmax: int | None = None,
    peaks: int = 3,
    threads: int | None = None,
    device: str = "auto",
    adapt: bool = False,
    confident: float | None = None,
) -> Maps:
    """Fibre orientation distributions, tissue shares and peaks.

    method: an entry of FOD_METHODS; `auto` is `learned`.
    tensor: maps with dti_fa and dti_md, fitted here if not given.
    lmax: harmonic order; by default the highest up to 8 that the directions support. `learned`
        and `voxelwise` always give 8.
    adapt: fit the network's idea of this scan to the scan's own volumes first, without labels, kept
        only if volumes it was not shown are predicted better; learned methods only.
    confident: least probability of a fibre for a peak to be shown, 0 to 1; learned methods only,
        `orientation.learned.CONFIDENT` if absent.

    Returns Maps `fod` (X, Y, Z, coefficients; MRtrix3 convention, world axes, unit integral for one
    whole voxel of fibre), `wm`, `gm`, `csf` where the method gives them, and `peaks` (X, Y, Z, 9:
    three vectors in world axes, length = amplitude); the learned methods also give the maps of
    `orientation.learned.learned_fod`.

    Raises FornixError where fewer than six directions were measured.
    """
    entry = FOD_METHODS.named(method)
    method = entry.name
    directions = max((len(s) for s in dwi.gradients.shells), default=0)
    everything = int((~dwi.gradients.b0_mask).sum())
    if everything < 6:
        raise FornixError(
            f"fibre orientations need 6 directions or more, this scan has {everything}"
        )
    if entry.joint:
        if lmax not in (None, 8):
            raise FornixError(f"the method {method} gives order 8; leave lmax out")
        least = {} if confident is None else {"confident": confident}
        with use_threads(threads):
            found_maps: Maps = entry.run(dwi, peaks, device, adapt=adapt, **least)
        return found_maps
    if adapt:
        raise FornixError(
            "only the methods learned and voxelwise adapt to a scan; leave --adapt out"
        )
    if confident is not None:
        raise FornixError(f"the method {method} gives no probabilities; leave --confident out")
    if lmax is None:
        richest = max(directions, everything if method == "msmt" else 0)
        lmax = 8 if richest >= 28 else 6 if richest >= 15 else 4
    with use_threads(threads):
        tensor = tensor or microstructure(dwi, ("dti",), "wls")
        responses = estimate_responses(dwi, tensor["dti_fa"].data, tensor["dti_md"].data, lmax)
        notes = []
        if responses.voxels["white"] < 50:
            notes.append(
                tell(f"the fibre response comes from {responses.voxels['white']} voxels only")
            )
        found = entry.run(dwi, responses, lmax, device=device)
        inside = dwi.brain()
        top = dwi.unmask(
            find_peaks(found["fod"][inside], peaks, absolute=0.1).reshape(-1, 3 * peaks)
        )
    about = f"real even harmonics of order {lmax}, MRtrix3 basis, world axes"
    maps = {
        "fod": _map("fod", found["fod"], dwi, entry, f"fibre orientation distribution: {about}")
    }
    for name in ("wm", "gm", "csf"):
        if name in found:
            maps[name] = _map(name, found[name], dwi, entry, _DESCRIPTIONS[name])
    maps["peaks"] = _map(
        "peaks", top, dwi, entry, f"{peaks} vectors in world axes, length = FOD amplitude"
    )
    return Maps(maps, tensor.trust, tuple(notes))


def _map(param: str, data: np.ndarray, dwi: DWI, method: Method, description: str) -> Map:
    return Map(
        "",
        param,
        np.asarray(data, dtype=np.float32),
        dwi.affine,
        units="1",
        method=method.name,
        description=description,
        reference=method.reference,
    )
