"""The methods of each model. The first of a table is its default: `auto`."""

from __future__ import annotations

from functools import partial

from fornix.core.methods import Deferred, Method, MethodTable
from fornix.microstructure.kurtosis import fit_kurtosis
from fornix.microstructure.tensor import fit_tensor

#: The fit that stands where a learned estimate cannot be trusted.
CLASSICAL_DEFAULT = {"dti": "wls", "dki": "constrained", "noddi": "exact"}


# What builds on torch is loaded when it is used: a second of start-up that the other fits do not need.
_learned = Deferred("fornix.microstructure.learned:estimate")
fit_noddi = Deferred("fornix.microstructure.noddi:fit_noddi")

_LEARNED = [
    Method(
        "learned",
        _learned,
        "network on a voxel and its like among the neighbours; any protocol, calibrated",
        "Fornix; Buades et al., CVPR 2005; Romano et al., NeurIPS 2019",
        joint=True,
    ),
    Method(
        "voxelwise",
        _learned,
        "network on each voxel alone; any protocol, calibrated",
        "Fornix; Romano et al., NeurIPS 2019",
        joint=True,
    ),
]

TABLES: dict[str, MethodTable] = {
    "dti": MethodTable(
        "dti",
        [
            *_LEARNED,
            Method(
                "wls",
                partial(fit_tensor, method="wls"),
                "weighted least squares on the logarithm, two stages",
                "Veraart et al., NeuroImage 81 (2013) 335",
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
                "Veraart et al., NeuroImage 81 (2013) 335",
            ),
            Method(
                "nlls",
                partial(fit_tensor, method="nlls"),
                "non-linear, positive definite; Rician likelihood where the noise level is known",
                "Koay et al., J Magn Reson 182 (2006) 115; Veraart et al., MRM 65 (2011) 1138",
            ),
        ],
    ),
    "dki": MethodTable(
        "dki",
        [
            *_LEARNED,
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
                "Jensen et al., MRM 53 (2005) 1432; Veraart et al., NeuroImage 81 (2013) 335",
            ),
        ],
    ),
    "noddi": MethodTable(
        "noddi",
        [
            *_LEARNED,
            Method(
                "exact",
                partial(fit_noddi, method="exact"),
                "all parameters optimised together; Rician likelihood where the noise is known",
                "Zhang et al., NeuroImage 61 (2012) 1000",
            ),
            Method(
                "dispersed",
                partial(fit_noddi, method="dispersed"),
                "the same with the extra-neurite water dispersed like the neurites",
                "Zhang et al., NeuroImage 61 (2012) 1000",
            ),
        ],
    ),
}
