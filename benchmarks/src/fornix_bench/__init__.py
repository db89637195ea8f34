"""Benchmarks: each suite is one function that writes its tables and plots into a folder."""

from collections.abc import Callable
from typing import Any

from fornix_bench.suites.checks import run_checks
from fornix_bench.suites.classical import run_classical
from fornix_bench.suites.cohorts.suite import run_cohorts
from fornix_bench.suites.commands import run_commands
from fornix_bench.suites.enhance.suite import run_enhance
from fornix_bench.suites.harmonize.suite import run_harmonize
from fornix_bench.suites.longitudinal import run_longitudinal
from fornix_bench.suites.microstructure.suite import run_microstructure
from fornix_bench.suites.mosaics import run_mosaics
from fornix_bench.suites.noise import run_noise
from fornix_bench.suites.orientation.suite import run_orientation
from fornix_bench.suites.preprocess.page import run_preprocess
from fornix_bench.suites.reference_b import run_reference_b
from fornix_bench.suites.segmentation import run_segmentation
from fornix_bench.suites.side import run_side
from fornix_bench.suites.speed import run_speed
from fornix_bench.suites.study_template import run_template
from fornix_bench.suites.tractography.connections import run_connectome
from fornix_bench.suites.tractography.ends import run_tracking_ends
from fornix_bench.suites.tractography.speed import run_tracking_speed
from fornix_bench.suites.tractography.suite import run_tractography
from fornix_bench.suites.tractography.tracts import run_tracts
from fornix_bench.suites.unseen import run_unseen

#: What `fornix bench` knows, by name.
SUITES: dict[str, Callable[..., Any]] = {
    "speed": run_speed,
    "checks": run_checks,
    "cohorts": run_cohorts,
    "commands": run_commands,
    "noise": run_noise,
    "preprocess": run_preprocess,
    "tracking-speed": run_tracking_speed,
    "tractography": run_tractography,
    "tracking-ends": run_tracking_ends,
    "connectome": run_connectome,
    "classical": run_classical,
    "unseen": run_unseen,
    "mosaics": run_mosaics,
    "reference-b": run_reference_b,
    "microstructure": run_microstructure,
    "orientation": run_orientation,
    "tracts": run_tracts,
    "segmentation": run_segmentation,
    "harmonize": run_harmonize,
    "enhance": run_enhance,
    "longitudinal": run_longitudinal,
    "side": run_side,
    "template": run_template,
}

__all__ = ["SUITES", "run_classical", "run_microstructure", "run_speed", "run_unseen"]
