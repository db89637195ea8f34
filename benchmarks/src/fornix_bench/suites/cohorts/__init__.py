"""Simulated cohorts: error rates and power of group statistics along tracts."""
