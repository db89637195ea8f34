"""Fornix: the machine-learning toolkit for diffusion MRI of the brain.

>>> import fornix
>>> dwi = fornix.load("dwi.nii.gz")                       # doctest: +SKIP
>>> dwi = fornix.brain_mask(fornix.estimate_noise(dwi))   # doctest: +SKIP
>>> maps = fornix.microstructure(dwi)                     # doctest: +SKIP
>>> maps["fa"].data, maps["fa"].std                       # doctest: +SKIP

Every stage is one function that takes a scan (or maps made from one) and returns new objects. Names
are imported when first used, so that `import fornix` takes no time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "DWI": "fornix.core.dwi",
    "FornixError": "fornix.core.errors",
    "FornixWarning": "fornix.core.errors",
    "Gradients": "fornix.core.gradients",
    "Map": "fornix.core.maps",
    "Maps": "fornix.core.maps",
    "Tractogram": "fornix.core.tractogram",
    "brain_mask": "fornix.preprocess",
    "correct": "fornix.preprocess",
    "denoise": "fornix.preprocess",
    "describe": "fornix.info",
    "estimate_noise": "fornix.preprocess",
    "filter_tractogram": "fornix.tracking",
    "fod": "fornix.orientation",
    "load": "fornix.io",
    "load_maps": "fornix.io",
    "microstructure": "fornix.microstructure",
    "predict": "fornix.qspace",
    "run": "fornix.pipeline",
    "save_maps": "fornix.io",
    "save_scan": "fornix.io",
    "score": "fornix.tracking",
    "simulate": "fornix.physics",
    "track": "fornix.tracking",
    "write_tractogram": "fornix.io",
}

__all__ = [
    "DWI",
    "FornixError",
    "FornixWarning",
    "Gradients",
    "Map",
    "Maps",
    "Tractogram",
    "__version__",
    "brain_mask",
    "correct",
    "denoise",
    "describe",
    "estimate_noise",
    "filter_tractogram",
    "fod",
    "load",
    "load_maps",
    "microstructure",
    "predict",
    "run",
    "save_maps",
    "save_scan",
    "score",
    "simulate",
    "track",
    "write_tractogram",
]

if TYPE_CHECKING:
    from fornix.core.dwi import DWI
    from fornix.core.errors import FornixError, FornixWarning
    from fornix.core.gradients import Gradients
    from fornix.core.maps import Map, Maps
    from fornix.core.tractogram import Tractogram
    from fornix.info import describe
    from fornix.io import load, load_maps, save_maps, save_scan, write_tractogram
    from fornix.microstructure import microstructure
    from fornix.orientation import fod
    from fornix.physics import simulate
    from fornix.pipeline import run
    from fornix.preprocess import brain_mask, correct, denoise, estimate_noise
    from fornix.qspace import predict
    from fornix.tracking import filter_tractogram
    from fornix.tracking.score import score
    from fornix.tracking.track import track


class _Package(ModuleType):
    """Importing the subpackage `fornix.microstructure` must not hide the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"fornix has no {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
