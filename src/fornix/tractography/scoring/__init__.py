"""Tractograms against bundles that are known."""
