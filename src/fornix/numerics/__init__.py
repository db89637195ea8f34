"""Mathematics without MRI: harmonics, directions, compiled algebra, thresholds."""
