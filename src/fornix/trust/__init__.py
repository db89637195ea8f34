"""How far an estimate can be trusted: calibrated intervals, foreign voxels, the residual's verdict."""

from fornix.trust.calibration import LEVELS, Calibration, strata
from fornix.trust.foreign import Evidence, Familiar

__all__ = ["LEVELS", "Calibration", "Evidence", "Familiar", "strata"]
