"""What a signal model says of voxels: tensor, kurtosis, NODDI, deconvolution and peaks.

Functions here take lists of voxels, `signals (voxels, N)`; whole scans are the estimators' work.
"""
