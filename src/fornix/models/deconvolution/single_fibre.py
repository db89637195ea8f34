"""Which voxels hold one straight bundle of fibres, and where it points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.models.deconvolution.penalised import deconvolve_penalised
from fornix.models.peaks import find_peaks
from fornix.numerics.zonal import convolution, finite, fit_zonal

_ROUNDS = 10


def single_fibre_voxels(
    signals: NDArray[np.float32], directions: NDArray[np.float64], lmax: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `count` voxels most like one fibre: their indices (count,) and axes (count, 3).

    Args:
        signals: (voxels, N) of one shell. Deconvolution and response in turn, from a response that is a
            flat disc (Tournier et al., NMR Biomed. 2013): voxels are ranked by sqrt(p1) (1 - p2/p1)² of
            their two largest peaks, the best give the response of the next round, and ten times as many
            are looked at again, until the choice stays the same.
        directions: (N, 3) unit vectors.
        lmax: Highest harmonic order, even.
        count: How many voxels to choose.
    """
    signals = finite(signals)
    count = min(count, len(signals))
    pool = np.arange(len(signals))
    typical = float(np.median(signals.mean(axis=1)))
    response = typical * np.array([1.0, -np.sqrt(5.0), 3.0])
    chosen: NDArray[np.int64] = pool[:0]
    axes = np.zeros((0, 3))
    for trip in range(_ROUNDS):
        # The disc has no more than order 4, and all voxels are looked at with it.
        order = min(4, lmax) if trip == 0 else lmax
        design = convolution(directions, response, order)
        mean = float(response[0] * np.sqrt(4 * np.pi))
        fod = deconvolve_penalised(signals[pool], design, order, mean)
        peaks = find_peaks(fod, 2, relative=0.0, absolute=1e-6)
        height = np.linalg.norm(peaks, axis=2)
        first = np.maximum(height[:, 0], 1e-12)
        rank = np.argsort(-np.sqrt(first) * (1 - height[:, 1] / first) ** 2, kind="stable")
        top = rank[:count]
        before, chosen = chosen, pool[top]
        axes = peaks[top, 0] / first[top, None]
        if np.array_equal(np.sort(before), np.sort(chosen)):
            break
        response = fit_zonal(signals[chosen], directions, axes, 4 if trip == 0 else lmax)
        pool = np.sort(pool[rank[: 10 * count]])
    return chosen, axes
