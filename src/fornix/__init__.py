"""Fornix: the machine-learning toolkit for diffusion MRI of the brain."""

__version__ = "0.1.0"
