"""Simulated voxels as a network sees them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.encoding import ProtocolEncoder
from fornix.physics import random_tissue
from fornix.physics.protocol import scheme
from fornix.physics.tissue import signal


def seen_through(gradients: Gradients, count: int = 400, noise: float = 0.04, seed: int = 0):
    """An encoder and what it sees of random tissue, and the signals."""
    clean = signal(random_tissue(count, seed=seed), gradients).numpy()
    rng = np.random.default_rng(seed)
    real, imaginary = (noise * rng.standard_normal(clean.shape) for _ in range(2))
    signals = np.sqrt((clean + real) ** 2 + imaginary**2).astype(np.float32)
    encoder = ProtocolEncoder(gradients, "cpu")
    return encoder, encoder.encode(signals, np.full(count, noise)), signals


def turned(name: str, seed: int = 3):
    """The same voxels seen through a named scheme, and through the scheme turned."""
    rotation = Rotation.random(random_state=seed).as_matrix()
    gradients = scheme(name)
    encoder, seen, signals = seen_through(gradients)
    other = ProtocolEncoder(gradients.rotated(rotation), "cpu")
    return rotation, (encoder, seen), (other, other.encode(signals, np.full(len(signals), 0.04)))
