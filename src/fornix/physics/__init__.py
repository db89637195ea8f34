"""Forward physics: tissue to signal, and the scanner in between. Exact, differentiable, batched.

>>> from fornix.physics import simulate
>>> phantom = simulate(protocol="demo", snr=30, artefacts="none", seed=0)  # doctest: +SKIP
>>> phantom.dwi, phantom.truth["dti_fa"]  # doctest: +SKIP

Names are imported when first used: the scanner's fields and kernels are wanted where no phantom is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.core.public import on_first_use

_PUBLIC = {
    "Anatomy": "fornix.physics.anatomy",
    "ArtefactTruth": "fornix.physics.scanner",
    "Artefacts": "fornix.physics.scanner",
    "Bundle": "fornix.physics.anatomy",
    "D_FREE": "fornix.physics.tissue",
    "D_PAR": "fornix.physics.tissue",
    "Noise": "fornix.physics.noise",
    "Phantom": "fornix.physics.phantom",
    "SCHEMES": "fornix.physics.protocol",
    "Tissue": "fornix.physics.tissue",
    "anatomy": "fornix.physics.anatomy",
    "from_bundles": "fornix.physics.bundles",
    "random_protocol": "fornix.physics.protocol",
    "random_tissue": "fornix.physics.phantom",
    "scheme": "fornix.physics.protocol",
    "signal": "fornix.physics.tissue",
    "simulate": "fornix.physics.phantom",
    "truth": "fornix.physics.truth",
    "voxels": "fornix.physics.phantom",
}

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

if TYPE_CHECKING:
    from fornix.physics import anatomy, truth
    from fornix.physics.anatomy import Anatomy, Bundle
    from fornix.physics.bundles import from_bundles
    from fornix.physics.noise import Noise
    from fornix.physics.phantom import Phantom, random_tissue, simulate, voxels
    from fornix.physics.protocol import SCHEMES, random_protocol, scheme
    from fornix.physics.scanner import Artefacts, ArtefactTruth
    from fornix.physics.tissue import D_FREE, D_PAR, Tissue, signal

__getattr__, __dir__ = on_first_use("fornix.physics", _PUBLIC)
