"""Fibre orientation: responses, deconvolution, peaks."""

from fornix.orientation.check import check_fod, check_peaks, peaks_to_world
from fornix.orientation.estimate import FOD_METHODS, fod
from fornix.orientation.external import read_fod
from fornix.orientation.peaks import Peaks, find_peaks, measure_peaks

__all__ = [
    "FOD_METHODS",
    "Peaks",
    "check_fod",
    "check_peaks",
    "find_peaks",
    "fod",
    "measure_peaks",
    "peaks_to_world",
    "read_fod",
]
