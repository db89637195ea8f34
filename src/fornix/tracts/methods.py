"""The ways of finding tracts, by the words of `--method`."""

#: Methods of `segment_tracts`.
TRACT_METHODS = ("network", "atlas")
