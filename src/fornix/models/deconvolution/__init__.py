"""Constrained spherical deconvolution: responses from the scan, then orientations from the responses."""
