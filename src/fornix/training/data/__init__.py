"""Endless simulated training data with known truth."""
