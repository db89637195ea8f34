"""Signals on q-space: the prior from the physics and the encoder of any protocol."""
