"""Forward physics: tissue to signal, and the scanner in between. Exact, differentiable, batched.

>>> from fornix.physics import simulate
>>> phantom = simulate(protocol="demo", snr=30, artefacts="none", seed=0)  # doctest: +SKIP
>>> phantom.dwi, phantom.truth["dti_fa"]  # doctest: +SKIP
"""

from fornix.physics import anatomy, truth
from fornix.physics.anatomy import Anatomy, Bundle
from fornix.physics.bundles import from_bundles
from fornix.physics.noise import Noise
from fornix.physics.phantom import Phantom, random_tissue, simulate, voxels
from fornix.physics.protocol import SCHEMES, random_protocol, scheme
from fornix.physics.scanner import Artefacts, ArtefactTruth
from fornix.physics.tissue import D_FREE, D_PAR, Tissue, signal

__all__ = [
    "D_FREE",
    "D_PAR",
    "SCHEMES",
    "Anatomy",
    "ArtefactTruth",
    "Artefacts",
    "Bundle",
    "Noise",
    "Phantom",
    "Tissue",
    "anatomy",
    "from_bundles",
    "random_protocol",
    "random_tissue",
    "scheme",
    "signal",
    "simulate",
    "truth",
    "voxels",
]
