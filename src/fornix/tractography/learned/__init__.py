"""The tracking policy: a network that chooses each step."""
