"""What a scan is worth, measured on the volumes as they were taken, and a verdict with its reasons."""

from fornix.preprocess.quality.measures import Quality, measure_quality
from fornix.preprocess.quality.verdict import LIMITS, Limit, Verdict, verdict_of

__all__ = ["LIMITS", "Limit", "Quality", "Verdict", "measure_quality", "verdict_of"]
