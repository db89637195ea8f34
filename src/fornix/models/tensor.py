"""The diffusion tensor by ordinary, weighted, iterated and non-linear least squares.

ln S = ln S0 - b nᵀ D n (Basser et al., J Magn Reson B 1994). The weights of the log-linear fits
are the squared signals that the fit before predicts (Salvador et al., HBM 2005; Veraart et al.,
NeuroImage 2013). The standard deviation of every metric follows from the fit's covariance to first
order (Koay et al., IEEE TMI 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.models.base import Fit, checked_sigma, checked_signals

#: What a tensor fit estimates, and in which columns.
COLUMNS = {
    "fa": slice(0, 1), "md": slice(1, 2), "ad": slice(2, 3), "rd": slice(3, 4),
    "tensor": slice(4, 10), "v1": slice(10, 13), "s0": slice(13, 14),
}  # fmt: skip

#: Rounds of reweighting of the log-linear methods.
ROUNDS = {"ols": 0, "wls": 1, "iwls": 50}


def fit_tensor(
    signals: ArrayLike,
    gradients: Gradients,
    method: str = "wls",
    sigma: ArrayLike | None = None,
    std: bool = True,
    positive: bool = True,
) -> Fit:
    """Fit a tensor to each voxel, in float64 inside, on all threads numba is set to use.

    Args:
        signals: (voxels, N) in any unit; NaN or inf marks the voxel bad (zeros come back); signals that
            are not positive get almost no weight.
        gradients: N b-values and world directions; every volume is used, b0s with their true b.
        method: `ols`; `wls`, two stages; `iwls`, reweighted until it settles; `nlls`, on the signals
            themselves: the maximum of the Rician likelihood where sigma is known, else least squares.
        sigma: Noise standard deviation of the complex channels, a number or (voxels,), in units of the
            signals; None, NaN or 0 where unknown: the residuals then give the standard deviations.
        std: Also compute standard deviations.
        positive: `nlls` only: search among tensors without negative eigenvalues.

    Returns:
        fa, md, ad, rd (µm²/ms), tensor (Dxx Dyy Dzz Dxy Dxz Dyz, µm²/ms, world axes), v1 (world axes),
        s0. Negative eigenvalues become 0 in all of them and flag the voxel.

    Raises:
        FornixError: Where the protocol gives no tensor.
    """
    if reason := gradients.facts.why_not_dti:
        raise FornixError(f"no tensor from this protocol: {reason}")
    data = checked_signals(signals, len(gradients))
    noise = checked_sigma(sigma, len(data))
    design = gradients.facts.tensor_design
    pinv = np.ascontiguousarray(np.linalg.pinv(design.T))
    values = np.zeros((len(data), 14), dtype=np.float32)
    spread = np.zeros_like(values)
    flags = np.zeros(len(data), dtype=np.uint8)
    if method in ROUNDS:
        from fornix.models._tensor_kernels import linear_tensor

        linear_tensor(
            data, noise, design, pinv, ROUNDS[method], 1e-7, std, values, spread, flags
        )  # fmt: skip
    elif method == "nlls":
        from fornix.models._tensor_nlls import nonlinear_tensor

        nonlinear_tensor(data, noise, design, pinv, positive, std, values, spread, flags)
    else:
        raise FornixError(
            f"the tensor has no method {method!r}; choose one of: ols, wls, iwls, nlls"
        )
    return Fit(COLUMNS, values, spread if std else None, flags)
