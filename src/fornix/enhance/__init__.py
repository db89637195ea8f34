"""Better and comparable scans: super-resolution in angle and space, harmonization across scanners."""
