"""Benchmarks: each suite is one function that writes its tables and plots into a folder."""

from collections.abc import Callable
from typing import Any

from fornix.bench.classical import run_classical
from fornix.bench.microstructure import run_microstructure
from fornix.bench.mosaics import run_mosaics
from fornix.bench.orientation import run_orientation
from fornix.bench.speed import run_speed
from fornix.bench.tracking_speed import run_tracking_speed
from fornix.bench.tractography import run_tractography
from fornix.bench.tracts import run_tracts
from fornix.bench.unseen import run_unseen

#: What `fornix bench` knows, by name.
SUITES: dict[str, Callable[..., Any]] = {
    "speed": run_speed,
    "tracking-speed": run_tracking_speed,
    "tractography": run_tractography,
    "classical": run_classical,
    "unseen": run_unseen,
    "mosaics": run_mosaics,
    "microstructure": run_microstructure,
    "orientation": run_orientation,
    "tracts": run_tracts,
}

__all__ = ["SUITES", "run_classical", "run_microstructure", "run_speed", "run_unseen"]
