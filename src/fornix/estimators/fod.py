"""The stage: from a scan to fibre orientation distributions and their peaks."""

from __future__ import annotations

from functools import partial

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Map, Maps
from fornix.core.methods import Deferred, Method, MethodTable
from fornix.estimators.microstructure import microstructure
from fornix.models.deconvolution.csd import csd, csd_dipy, msmt
from fornix.models.deconvolution.response import estimate_responses
from fornix.models.peaks import find_peaks

# Loads torch, a second of start-up, when it is used.
learned_fod = Deferred("fornix.estimators.fod_learned:learned_fod")


def _network(name: str, weights: str, summary: str) -> Method:
    return Method(
        name, partial(learned_fod, name=name, weights=weights), summary, weights=weights,
        whole_scan=True, raw_noise=True, adapts=True, peak_probabilities=True, min_volumes=7,
    )  # fmt: skip


#: The default misses and invents fewer fibres than deconvolution on every simulated and real scan of
#: docs/benchmarks/orientation.md but single voxels at 12 and 6 directions.
FOD_METHODS = MethodTable(
    "fod",
    [
        _network(
            "learned",
            "fod-spatial",
            "equivariant network that reads neighbours, any protocol, with uncertainty",
        ),
        _network("voxelwise", "fod", "the same of single voxels"),
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
            "csd-dipy",
            csd_dipy,
            "DIPY's deconvolution (slow)",
            "Tournier et al., NeuroImage 2007",
            peer="DIPY",
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
    *,
    method: str = "auto",
    tensor: Maps | None = None,
    lmax: int | None = None,
    peaks: int = 3,
    min_peak_prob: float | None = None,
    adapt: bool = False,
    threads: int | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Maps:
    """Fibre orientation distributions, tissue fractions and peaks.

    Args:
        dwi: The scan, with its mask.
        method: An entry of `FOD_METHODS`; `auto` is `learned`.
        tensor: Maps with dti_fa and dti_md for deconvolution, fitted here if not given.
        lmax: Harmonic order of deconvolution; by default the highest up to 8 that the directions
            support. Networks always give 8.
        peaks: How many at most.
        min_peak_prob: Least probability of a fibre for a peak to be shown, 0 to 1; networks only,
            `fod_learned.MIN_PEAK_PROB` if absent.
        adapt: Fit the network's idea of this scan to the scan's own volumes first, without labels, kept
            only if volumes it was not shown are predicted better; networks only.
        threads: None leaves numba's and torch's numbers as they are.
        device: `auto`, `cpu` or `cuda`, for networks.
        seed: Which voxels and volumes an adaptation looks at; nothing else is left to chance.

    Returns:
        Maps `fod` (X, Y, Z, coefficients; MRtrix3 convention, world axes, unit integral for one whole voxel
        of fibre), `wm`, `gm`, `csf` where the method gives them, and `peaks` (X, Y, Z, 9: three vectors in
        world axes, length = amplitude); networks also give the maps of `fod_learned.learned_fod`.

    Raises:
        FornixError: Fewer than six directions were measured, or an option does not go with the method.
    """
    entry, notes = FOD_METHODS.named(method), []
    facts = dwi.gradients.facts
    if method == "auto" and (reason := facts.why_no_network) and not facts.why_not_dti:
        entry = FOD_METHODS["msmt" if facts.levels >= 3 else "csd"]
        notes.append(tell(f"{reason}: deconvolution is used, {entry.name}"))
    method = entry.name
    shells = dwi.gradients.shells
    directions = max((len(s) for s in shells), default=0)
    everything = int((~dwi.gradients.b0_mask).sum())
    if everything < 6:
        raise FornixError(
            f"fibre orientations need 6 directions or more, this scan has {everything}"
        )
    if adapt:
        FOD_METHODS.check(method, "adapts", "--adapt")
    if min_peak_prob is not None:
        FOD_METHODS.check(method, "peak_probabilities", "--min-peak-prob")
    if entry.whole_scan:
        if lmax not in (None, 8):
            raise FornixError(f"the method {method} gives order 8; leave lmax out")
        with use_threads(threads):
            maps: Maps = entry.run(dwi, peaks, device, min_peak_prob, adapt, seed)
        return maps
    if lmax is None:
        richest = max(directions, everything if method == "msmt" else 0)
        lmax = 8 if richest >= 28 else 6 if richest >= 15 else 4
    with use_threads(threads):
        tensor = tensor or microstructure(dwi, models=("dti",), method="wls")
        responses = estimate_responses(dwi, tensor["dti_fa"].data, tensor["dti_md"].data, lmax)
        if responses.voxels["wm"] < 50:
            notes.append(
                tell(f"the fibre response comes from {responses.voxels['wm']} voxels only")
            )
        found = entry.run(dwi, responses, lmax, device=device)
        inside = dwi.brain()
        top = dwi.unmask(
            find_peaks(found["fod"][inside], peaks, absolute=0.1).reshape(-1, 3 * peaks)
        )
    about = f"real even harmonics of order {lmax}, MRtrix3 basis, world axes"
    found_maps = {
        "fod": _map("fod", found["fod"], dwi, entry, f"fibre orientation distribution: {about}")
    }
    for name in ("wm", "gm", "csf"):
        if name in found:
            found_maps[name] = _map(name, found[name], dwi, entry, _DESCRIPTIONS[name])
    found_maps["peaks"] = _map(
        "peaks", top, dwi, entry, f"{peaks} vectors in world axes, length = FOD amplitude"
    )
    return Maps(found_maps, tensor.trust, tuple(notes))


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
