"""Tissue maps from a scan: diffusion tensor, diffusion kurtosis and NODDI.

`microstructure` is the stage; `fit_tensor` and its siblings work on lists of voxels.
"""

from fornix.microstructure.design import what_can_be_estimated
from fornix.microstructure.estimate import microstructure
from fornix.microstructure.fit import Fit
from fornix.microstructure.kurtosis import fit_kurtosis
from fornix.microstructure.tables import TABLES, fit_noddi
from fornix.microstructure.tensor import fit_tensor

__all__ = [
    "TABLES",
    "Fit",
    "fit_kurtosis",
    "fit_noddi",
    "fit_tensor",
    "microstructure",
    "what_can_be_estimated",
]
