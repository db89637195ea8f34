"""What a scan in small voxels is worth: errors of signals, FA, fibre orientations and peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.microstructure import microstructure
from fornix.models.deconvolution.csd import csd
from fornix.models.deconvolution.response import Responses, estimate_responses
from fornix.models.peak_matching import match
from fornix.models.peaks import find_peaks
from fornix.models.tensor import fit_tensor
from fornix_bench.table import Row

Array = NDArray[np.float32]
#: Voxels whose fibres are looked at; an axis that is missed counts as this many degrees.
_VOXELS, _MISSED = 4000, 45.0
_LMAX = 6


@dataclass(frozen=True, eq=False)
class Target:
    """What is true in the voxels that are scored.

    Attributes:
        gradients: N volumes.
        reference: The signal of white matter at b = 0.
        inside: (x, y, z) voxels that are scored.
        signals: (n, N) without noise.
        fa: (n,) of the tensor fitted to them.
        white: (m,) which of the n have fibres that are scored.
        fod: (m, coefficients) by deconvolution of the signals without noise.
        axes: (m, P, 3) fibres, and `real` (m, P) which exist; None where the simulator has no list of them.
        real: See `axes`.
        responses: Of the deconvolution, from signals without noise.
    """

    gradients: Gradients
    reference: float
    inside: NDArray[np.bool_]
    signals: Array
    fa: NDArray[np.float64]
    white: NDArray[np.int64]
    fod: NDArray[np.floating]
    axes: NDArray[np.floating]
    real: NDArray[np.bool_]
    responses: Responses


def target_of(
    truth: Array,
    gradients: Gradients,
    inside: NDArray[np.bool_],
    reference: float,
    fibrous: NDArray[np.bool_],
    axes: NDArray[np.floating] | None = None,
    real: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Target:
    """The target of signals without noise.

    Args:
        truth: (x, y, z, N).
        gradients: N volumes.
        inside: Voxels that are scored.
        reference: The signal of white matter at b = 0.
        fibrous: (x, y, z) voxels whose fibres may be scored.
        axes: (x, y, z, P, 3) true fibres; peaks of the true signals' deconvolution where there are none.
        real: (x, y, z, P) which of them exist.
        seed: Of the choice of voxels.
    """
    signals = truth[inside]
    fa = _fa(signals, gradients)
    rng = np.random.default_rng([seed, 82])
    here = np.flatnonzero(fibrous[inside])
    white = np.sort(rng.choice(here, min(_VOXELS, len(here)), replace=False))
    scan = DWI(truth, gradients, np.eye(4), mask=inside)
    tensor = microstructure(scan, models=("dti",), method="wls")
    responses = estimate_responses(scan, tensor["dti_fa"].data, tensor["dti_md"].data, _LMAX)
    found = _fod(signals[white], gradients, responses)
    if axes is None or real is None:
        peaks = find_peaks(found, 3, absolute=0.1)
        shown = np.linalg.norm(peaks, axis=-1)
        mine, exist = peaks / np.maximum(shown, 1e-9)[..., None], shown > 0
    else:
        mine, exist = axes[inside][white], real[inside][white]
    return Target(gradients, reference, inside, signals, fa, white, found, mine, exist, responses)


def scored(found: Array, target: Target) -> Row:
    """Errors of signals (x, y, z, N)."""
    signals = found[target.inside]
    wrong = (signals - target.signals) / target.reference
    b0 = target.gradients.b0_mask
    weighted = wrong[:, ~b0]
    fa = _fa(signals, target.gradients)
    return {
        "b0": _rms(wrong[:, b0]), "weighted": _rms(weighted),
        "contrast": _rms(weighted - weighted.mean(1, keepdims=True)), "FA": _rms(fa - target.fa),
        "FA bias": float((fa - target.fa).mean()), **fibres(signals[target.white], target),
    }  # fmt: skip


def fibres(signals: Array, target: Target, rows: NDArray[np.bool_] | None = None) -> Row:
    """Errors of orientations of the white voxels' signals (m, N), or of some of them.

    Returns:
        `FOD`: one less the mean angular correlation; `peaks`: mean angle of the true fibres to their found
        ones, 45 degrees where one is missed; `spurious`: found ones that are none, per voxel.
    """
    some = slice(None) if rows is None else rows
    made = _fod(signals[some], target.gradients, target.responses)
    peaks = find_peaks(made, 3, absolute=0.1)
    angle, partner = match(peaks, target.axes[some], target.real[some])
    real = target.real[some]
    missed = np.where(np.isfinite(angle), angle, _MISSED)
    extra = (np.linalg.norm(peaks, axis=-1) > 0).sum(1) - (partner >= 0).sum(1)
    return {
        "FOD": 1 - float(np.mean(_correlation(made, target.fod[some]))),
        "peaks": float(missed[real].mean()) if real.any() else float("nan"),
        "spurious": float(extra.mean()) if len(extra) else float("nan"),
    }


def _fa(signals: Array, gradients: Gradients) -> NDArray[np.float64]:
    found = fit_tensor(signals, gradients, "wls", std=False)["fa"]
    return np.asarray(found, dtype=np.float64).reshape(-1)


def _fod(signals: Array, gradients: Gradients, responses: Responses) -> NDArray[np.floating]:
    loose = DWI(
        signals[:, None, None], gradients, np.eye(4), mask=np.ones((len(signals), 1, 1), bool)
    )
    return np.asarray(csd(loose, responses, _LMAX)["fod"]).reshape(len(signals), -1)


def _correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Angular correlation of harmonics, without l = 0 (Anderson, MRM 2005)."""
    x, y = a[:, 1:], b[:, 1:]
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(1) / np.maximum(size, 1e-12))


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))
