"""A scan with every artefact beside one with noise alone: what the corrections leave, each one's share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.physics import simulate
from fornix.physics.phantom import Phantom
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess import correct, denoise, estimate_noise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.correct import corrected
from fornix.preprocess.phase_encoding import PhaseEncoding
from fornix.preprocess.undenoised import corrected_undenoised
from fornix_bench.table import Row

#: Everything that a usual scan has, and its reversed partner.
SPOILT = Artefacts(
    field=60, eddy=8, motion_mm=1.0, motion_degrees=1.0, dropout=0.01, gibbs=0.9, partial_fourier=0.875,
    ghost=0.02, bias=0.25,
)  # fmt: skip
PROTOCOLS = (
    ("1 + 32 at b = 1000", shells(1, (1000, 32))),
    ("6 + 30 + 60 at b = 1000, 2500", shells(6, (1000, 30), (2500, 60))),
)
_STEPS = ("gibbs", "eddy", "bias")
_SNR = 20.0


def rows(threads: int = 2, quick: bool = False, seed: int = 0) -> list[Row]:
    """A row a variant: RMSE of FA and MD in white matter and in the brain, angle of v1 and FOD peaks.

    `ratio_…`: over the same of noise alone, which goes the same way (goal: 1.3).
    """
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, table in PROTOCOLS[:1] if quick else PROTOCOLS:
            size = 5.0 if quick else 2.5

            # What truncated k-space blurs, no correction brings back.
            blurred = Artefacts(gibbs=SPOILT.gibbs, partial_fourier=SPOILT.partial_fourier)
            plain, spoilt, coarse = (
                _scanned(v, table, size, threads, seed) for v in (Artefacts(), SPOILT, blurred)
            )
            other = replace(SPOILT, phase_encoding="j-")
            partner = _scanned(other, shells(4, (1000, 6)), size, threads, seed).dwi
            encoding = PhaseEncoding(1, 1, SPOILT.readout_time)
            alone = Acquisition(encoding, partial_fourier=SPOILT.partial_fourier)
            pair = replace(
                alone, reversed_scan=partner, reversed_encoding=replace(encoding, sign=-1)
            )
            variants: list[tuple[str, DWI, Sequence[str], Acquisition | None]] = [
                ("noise alone", plain.dwi, (), None),
                ("all corrections", spoilt.dwi, _STEPS, pair),
                ("truncated k-space and noise alone", coarse.dwi, ("gibbs",), alone),
                ("without Gibbs", spoilt.dwi, ("eddy", "bias"), pair),
                ("without eddy currents", spoilt.dwi, ("gibbs", "motion", "bias"), pair),
                ("without the field", spoilt.dwi, _STEPS, alone),
                ("without bias field", spoilt.dwi, ("gibbs", "eddy"), pair),
                ("without motion, eddy, field", spoilt.dwi, ("gibbs", "bias"), alone),
                ("uncorrected", spoilt.dwi, (), None),
            ]  # fmt: skip
            base: Row = {}
            for label, dwi, steps, known in variants[:2] if quick else variants:
                scores = _scores(dwi, steps, known, plain)
                base = base or scores
                ratios = {f"ratio_{k}": v / base[k] for k, v in scores.items()}
                made.append({"scan": name, "variant": label, **scores, **ratios})
    return made


def _scanned(
    artefacts: Artefacts, table: Gradients, size: float, threads: int, seed: int
) -> Phantom:
    return simulate(
        protocol=table,
        snr=_SNR,
        voxel_size=size,
        seed=seed + 3,
        threads=threads,
        artefacts=artefacts,
    )


def _scores(dwi: DWI, steps: Sequence[str], known: Acquisition | None, plain: Phantom) -> Row:
    # The head at rest is the truth's: its mask is used throughout, so that all variants see the same voxels.
    raw = estimate_noise(dwi.with_(mask=plain.mask))
    clean = as_networks_see(raw, steps, known).with_(mask=plain.mask, sigma=raw.sigma)
    maps = microstructure(clean, models=("dti",), method="learned")
    true, inside = plain.truth, plain.mask
    fa = true["dti_fa"].data
    white = inside & (fa > 0.3)
    row: Row = {}
    for name, scale in (("fa", 1.0), ("md", 1e3)):
        error = scale * (maps[f"dti_{name}"].data - true[f"dti_{name}"].data)
        row[name] = float(np.sqrt(np.square(error)[inside].mean()))
    row["v1"] = _angle(maps["dti_v1"].data[white][:, None], true["dti_v1"].data[white])
    peaks = fod(clean, method="learned")["peaks"].data[white]
    row["fod"] = _angle(peaks.reshape(len(peaks), -1, 3), true["peaks"].data[white][:, :3])
    return row


def as_networks_see(raw: DWI, steps: Sequence[str], known: Acquisition | None) -> DWI:
    """The scan with its corrections but not denoised, as `fornix run` gives it to the networks: found on the
    denoised scan.
    """
    geometry = [s for s in steps if s in ("motion", "eddy")]
    known = known or Acquisition()
    if not geometry:
        return corrected_undenoised(raw, steps, known)
    before = [s for s in steps if s == "gibbs"]
    clean = correct(denoise(raw, method="mppca"), methods=before, acquisition=known)
    found = corrected(clean, methods=geometry, acquisition=known)[1]
    assert found is not None and found.aligned is not None
    return corrected_undenoised(raw, steps, known, found.aligned.geometry, found.aligned.lost)


def _angle(found: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Mean angle between true axes (n, 3) and the nearest of those found (n, k, 3), degrees; none is 90."""
    size = np.linalg.norm(found, axis=2) * np.linalg.norm(true, axis=1)[:, None]
    cosine = np.abs(np.einsum("nki,ni->nk", found, true)) / np.maximum(size, 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine.max(1), 0, 1))).mean())
