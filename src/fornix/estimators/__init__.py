"""Whole scans in, maps out: microstructure, fibre orientations, predicted signals."""
