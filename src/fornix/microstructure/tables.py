"""The methods of each model. The first of a table is its default."""

from __future__ import annotations

from functools import partial

from fornix.core.methods import Method, MethodTable
from fornix.microstructure.tensor import fit_tensor

TABLES: dict[str, MethodTable] = {
    "dti": MethodTable(
        "dti",
        [
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
        ],
    ),
}
