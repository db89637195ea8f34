"""Small cohorts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d

from fornix.analysis.measurements import Measurements


@pytest.fixture
def small_cohort() -> Callable[..., tuple[Measurements, pd.DataFrame]]:
    """Smooth profiles of two groups with uneven noise; an effect in the first tract's middle."""

    def make(each: int = 12, effect: float = 0.0, seed: int = 0, tracts: int = 4, nodes: int = 20):
        rng = np.random.default_rng(seed)
        count = 2 * each
        group = np.arange(count) % 2
        between = 3 * gaussian_filter1d(rng.normal(size=(count, tracts, nodes)), 3, axis=-1)
        std = np.exp(rng.normal(size=(count, 1, 1))) * np.ones((1, tracts, nodes))
        values = 10 + between + std * rng.normal(size=std.shape)
        values[group == 1, 0, 6:14] += effect
        names = tuple(f"{i:02d}" for i in range(count))
        made = Measurements(
            names, tuple(f"t{i // nodes}" for i in range(tracts * nodes)),
            np.tile(np.arange(nodes), tracts), values.reshape(count, -1), std.reshape(count, -1), "fa",
        )  # fmt: skip
        table = pd.DataFrame(
            {"participant_id": names, "group": np.where(group, "b", "a"), "age": rng.normal(size=count),
             "site": np.arange(count) % 4 // 2}
        )  # fmt: skip
        return made, table

    return make
