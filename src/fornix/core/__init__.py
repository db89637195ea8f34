"""The things that flow through Fornix: scans, gradients, maps, harmonics, directions."""
