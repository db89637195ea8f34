"""Harmonization: what scanner and site put into measurements, taken out; what people differ by, kept."""
