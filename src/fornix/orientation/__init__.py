"""Fibre orientation: responses, deconvolution, peaks."""

from fornix.orientation.estimate import FOD_METHODS, check_fod, fod
from fornix.orientation.peaks import find_peaks

__all__ = ["FOD_METHODS", "check_fod", "find_peaks", "fod"]
