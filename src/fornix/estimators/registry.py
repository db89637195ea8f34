"""Every method of every stage: for the command line, documentation, generic tests and benchmarks.

A new method is one function and one line in its stage's table; a new stage one line here.
"""

from __future__ import annotations

from fornix.core.methods import MethodTable
from fornix.estimators.fod import FOD_METHODS
from fornix.estimators.mask import MASK_METHODS
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.estimators.predict import PREDICT_METHODS
from fornix.preprocess import CORRECT_METHODS, DENOISE_METHODS, NOISE_METHODS
from fornix.tractography.track import TRACK_METHODS

#: Every stage's table, in the order of the pipeline.
ALL: dict[str, MethodTable] = {
    "noise": NOISE_METHODS,
    "mask": MASK_METHODS,
    "denoise": DENOISE_METHODS,
    "correct": CORRECT_METHODS,
    **MICROSTRUCTURE_METHODS,
    "fod": FOD_METHODS,
    "predict": PREDICT_METHODS,
    "track": TRACK_METHODS,
}


def tables(*stages: str) -> list[MethodTable]:
    """The tables of some stages; of all where none is named."""
    return [ALL[stage] for stage in stages or ALL]
