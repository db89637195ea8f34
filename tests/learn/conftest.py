"""Small streams and networks that the tests of `fornix.learn` share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.gradients import Gradients
from fornix.learn.observe import Observed, Observer
from fornix.physics import random_tissue
from fornix.physics.protocol import scheme
from fornix.physics.tissue import signal


def seen_through(gradients: Gradients, count: int = 400, noise: float = 0.04, seed: int = 0):
    """An observer and what it sees of random tissue, and the signals."""
    clean = signal(random_tissue(count, seed=seed), gradients).numpy()
    rng = np.random.default_rng(seed)
    real, imaginary = (noise * rng.standard_normal(clean.shape) for _ in range(2))
    signals = np.sqrt((clean + real) ** 2 + imaginary**2).astype(np.float32)
    observer = Observer(gradients, "cpu")
    return observer, observer.observe(signals, np.full(count, noise)), signals


@pytest.fixture(params=["dti6", "dti30", "bench96"])
def sight(request) -> tuple[Observer, Observed, np.ndarray]:
    return seen_through(scheme(request.param))


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)
