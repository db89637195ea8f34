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

from typing import TYPE_CHECKING

from fornix.core.public import on_first_use
from fornix.core.version import __version__

_PUBLIC = {
    "Anatomy": "fornix.physics.anatomy",
    "Artefacts": "fornix.physics.scanner.artefacts",
    "BundleTruth": "fornix.tractography.scoring.truth",
    "Comparison": "fornix.analysis.compare",
    "Connectome": "fornix.analysis.connectome",
    "DWI": "fornix.core.dwi",
    "Design": "fornix.analysis.design",
    "Deviation": "fornix.analysis.normative",
    "Enhanced": "fornix.enhance.result",
    "FornixError": "fornix.core.errors",
    "FornixWarning": "fornix.core.errors",
    "Gradients": "fornix.core.gradients",
    "Harmonization": "fornix.enhance.harmonization.model",
    "Harmonized": "fornix.enhance.harmonization.harmonize",
    "Map": "fornix.core.maps",
    "Maps": "fornix.core.maps",
    "Measurements": "fornix.analysis.measurements",
    "Noise": "fornix.physics.noise",
    "Options": "fornix.workflow.options",
    "Outcome": "fornix.pipeline",
    "Parcellation": "fornix.analysis.parcellation",
    "Phantom": "fornix.physics.phantom",
    "ScanFacts": "fornix.workflow.scan_facts",
    "Score": "fornix.tractography.scoring.score",
    "TissueFractions": "fornix.tractography.tissue_fractions",
    "Tractogram": "fornix.core.tractogram",
    "apply_harmonization": "fornix.enhance.harmonization.harmonize",
    "brain_mask": "fornix.estimators.mask",
    "compare": "fornix.analysis.compare",
    "connectome": "fornix.analysis.connectome",
    "correct": "fornix.preprocess",
    "denoise": "fornix.preprocess",
    "describe": "fornix.workflow.scan_facts",
    "enhance_scan": "fornix.enhance.scan",
    "estimate_noise": "fornix.preprocess",
    "filter_tractogram": "fornix.tractography.filtering.filter",
    "fit_harmonization": "fornix.enhance.harmonization.harmonize",
    "fod": "fornix.estimators.fod",
    "label_streamlines": "fornix.tracts.label",
    "load": "fornix.io",
    "load_harmonization": "fornix.enhance.harmonization.model_file",
    "load_maps": "fornix.io",
    "load_parcellation": "fornix.analysis.parcellation",
    "load_tractogram": "fornix.io",
    "make_design": "fornix.analysis.design",
    "microstructure": "fornix.estimators.microstructure",
    "normative": "fornix.analysis.normative",
    "predict": "fornix.estimators.predict",
    "read_measurements": "fornix.analysis.profile_tables",
    "run": "fornix.pipeline",
    "save_harmonization": "fornix.enhance.harmonization.model_file",
    "save_maps": "fornix.io",
    "save_scan": "fornix.io",
    "save_tractogram": "fornix.io",
    "score": "fornix.tractography.scoring.score",
    "segment_tracts": "fornix.tracts.segment",
    "simulate": "fornix.physics",
    "track": "fornix.tractography.track",
    "track_tracts": "fornix.tracts.tracking",
    "tract_profiles": "fornix.tracts.profile",
}

__all__ = [
    "DWI",
    "Anatomy",
    "Artefacts",
    "BundleTruth",
    "Comparison",
    "Connectome",
    "Design",
    "Deviation",
    "Enhanced",
    "FornixError",
    "FornixWarning",
    "Gradients",
    "Harmonization",
    "Harmonized",
    "Map",
    "Maps",
    "Measurements",
    "Noise",
    "Options",
    "Outcome",
    "Parcellation",
    "Phantom",
    "ScanFacts",
    "Score",
    "TissueFractions",
    "Tractogram",
    "__version__",
    "apply_harmonization",
    "brain_mask",
    "compare",
    "connectome",
    "correct",
    "denoise",
    "describe",
    "enhance_scan",
    "estimate_noise",
    "filter_tractogram",
    "fit_harmonization",
    "fod",
    "label_streamlines",
    "load",
    "load_harmonization",
    "load_maps",
    "load_parcellation",
    "load_tractogram",
    "make_design",
    "microstructure",
    "normative",
    "predict",
    "read_measurements",
    "run",
    "save_harmonization",
    "save_maps",
    "save_scan",
    "save_tractogram",
    "score",
    "segment_tracts",
    "simulate",
    "track",
    "track_tracts",
    "tract_profiles",
]

if TYPE_CHECKING:
    from fornix.analysis.compare import Comparison, compare
    from fornix.analysis.connectome import Connectome, connectome
    from fornix.analysis.design import Design, make_design
    from fornix.analysis.measurements import Measurements
    from fornix.analysis.normative import Deviation, normative
    from fornix.analysis.parcellation import Parcellation, load_parcellation
    from fornix.analysis.profile_tables import read_measurements
    from fornix.core.dwi import DWI
    from fornix.core.errors import FornixError, FornixWarning
    from fornix.core.gradients import Gradients
    from fornix.core.maps import Map, Maps
    from fornix.core.tractogram import Tractogram
    from fornix.enhance.harmonization.harmonize import (
        Harmonized,
        apply_harmonization,
        fit_harmonization,
    )
    from fornix.enhance.harmonization.model import Harmonization
    from fornix.enhance.harmonization.model_file import load_harmonization, save_harmonization
    from fornix.enhance.result import Enhanced
    from fornix.enhance.scan import enhance_scan
    from fornix.estimators.fod import fod
    from fornix.estimators.mask import brain_mask
    from fornix.estimators.microstructure import microstructure
    from fornix.estimators.predict import predict
    from fornix.io import load, load_maps, load_tractogram, save_maps, save_scan, save_tractogram
    from fornix.physics import simulate
    from fornix.physics.anatomy import Anatomy
    from fornix.physics.noise import Noise
    from fornix.physics.phantom import Phantom
    from fornix.physics.scanner.artefacts import Artefacts
    from fornix.pipeline import Outcome, run
    from fornix.preprocess import correct, denoise, estimate_noise
    from fornix.tractography.filtering.filter import filter_tractogram
    from fornix.tractography.scoring.score import Score, score
    from fornix.tractography.scoring.truth import BundleTruth
    from fornix.tractography.tissue_fractions import TissueFractions
    from fornix.tractography.track import track
    from fornix.tracts.label import label_streamlines
    from fornix.tracts.profile import tract_profiles
    from fornix.tracts.segment import segment_tracts
    from fornix.tracts.tracking import track_tracts
    from fornix.workflow.options import Options
    from fornix.workflow.scan_facts import ScanFacts, describe


__getattr__, __dir__ = on_first_use("fornix", _PUBLIC, "__version__")
