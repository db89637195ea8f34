"""All tables of methods by stage: for the command line, the generic tests and `fornix cite`."""

from __future__ import annotations

from fornix.core.methods import MethodTable
from fornix.microstructure import TABLES
from fornix.orientation import FOD_METHODS
from fornix.preprocess import CORRECT_METHODS, DENOISE_METHODS, MASK_METHODS, NOISE_METHODS
from fornix.tracking import TRACK_METHODS

#: Every stage's table, in the order of the pipeline.
ALL: dict[str, MethodTable] = {
    "noise": NOISE_METHODS,
    "mask": MASK_METHODS,
    "denoise": DENOISE_METHODS,
    "correct": CORRECT_METHODS,
    **TABLES,
    "fod": FOD_METHODS,
    "track": TRACK_METHODS,
}


def tables(*stages: str) -> list[MethodTable]:
    """The tables of some stages; of all where none is named."""
    return [ALL[stage] for stage in stages or ALL]
