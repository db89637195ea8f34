"""How far an estimate can be trusted: calibrated intervals, out-of-distribution scores, peaks."""
