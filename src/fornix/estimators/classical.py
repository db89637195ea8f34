"""The classical fits of each model, as methods."""

from __future__ import annotations

from functools import partial

from fornix.core.methods import Deferred, Method
from fornix.models.kurtosis import fit_kurtosis
from fornix.models.tensor import fit_tensor

# Builds on torch, a second of start-up that the other fits do not need.
fit_noddi = Deferred("fornix.models.noddi:fit_noddi")

_VERAART = "Veraart et al., NeuroImage 81 (2013) 335"
_ZHANG = "Zhang et al., NeuroImage 61 (2012) 1000"

#: By model; the first of each is its reference: what stands where a learned estimate cannot be trusted.
CLASSICAL_METHODS: dict[str, list[Method]] = {
    "dti": [
        Method(
            "wls",
            partial(fit_tensor, method="wls"),
            "weighted least squares on the logarithm, two stages",
            _VERAART,
        ),
        Method(
            "ols",
            partial(fit_tensor, method="ols"),
            "ordinary least squares on the logarithm",
            "Basser et al., J Magn Reson B 103 (1994) 247",
        ),
        Method(
            "iwls",
            partial(fit_tensor, method="iwls"),
            "weighted least squares, reweighted until it settles",
            _VERAART,
        ),
        Method(
            "nlls",
            partial(fit_tensor, method="nlls"),
            "non-linear, positive definite; Rician likelihood where the noise level is known",
            "Koay et al., J Magn Reson 182 (2006) 115; Veraart et al., MRM 65 (2011) 1138",
        ),
    ],
    "dki": [
        Method(
            "constrained",
            partial(fit_kurtosis, method="constrained"),
            "weighted least squares with 0 <= K(n) <= 3/(b_max D(n)), no black voxels",
            "Tabesh et al., MRM 65 (2011) 823",
        ),
        Method(
            "wls",
            partial(fit_kurtosis, method="wls"),
            "weighted least squares on the logarithm, two stages",
            f"Jensen et al., MRM 53 (2005) 1432; {_VERAART}",
        ),
    ],
    "noddi": [
        Method(
            "exact",
            partial(fit_noddi, method="exact"),
            "all parameters optimised together; Rician likelihood where the noise is known",
            _ZHANG,
        ),
        Method(
            "dispersed",
            partial(fit_noddi, method="dispersed"),
            "the same with the extra-neurite water dispersed like the neurites",
            _ZHANG,
        ),
    ],
}
#: The reference fit of each model.
CLASSICAL: dict[str, Method] = {model: found[0] for model, found in CLASSICAL_METHODS.items()}
