"""The version of Fornix, here once."""

__version__ = "0.1.0"
