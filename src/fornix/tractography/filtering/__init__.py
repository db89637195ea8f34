"""Which streamlines to believe: plausibility, weights and support."""
