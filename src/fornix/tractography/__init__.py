"""Tractography: seeds, trackers, stopping by tissue, filtering, scoring against truth."""
