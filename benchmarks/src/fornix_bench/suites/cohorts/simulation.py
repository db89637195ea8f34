"""A simulated cohort: FA along tracts of two groups, smooth between subjects, measured unevenly well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from fornix.analysis.measurements import Measurements

#: Stretches with a true effect: tract, from and to as shares of its length.
STRETCHES = {
    "AF_left": (0.40, 0.70), "CST_right": (0.55, 0.75), "ILF_left": (0.10, 0.40),
    "UF_right": (0.00, 1.00), "FX_left": (0.45, 0.55),
}  # fmt: skip
_NAMES = ("AF", "CG", "CST", "FX", "ICP", "IFO", "ILF", "SLF", "UF", "OR")
TRACTS = tuple(f"{name}_{side}" for name in _NAMES for side in ("left", "right"))


@dataclass(frozen=True)
class CohortSpec:
    """How a cohort is drawn.

    Attributes:
        each: Subjects in each of two groups.
        nodes: Of each tract.
        effect: Relative fall of FA of the second group in `STRETCHES`.
        between: Standard deviation between subjects at a node, FA.
        between_length: Of its correlation along a tract, share of the length (kernel).
        noise: Median standard deviation of the measurement, FA.
        noise_spread: Of log noise between subjects: some moved, some did not.
        noise_ratio: Noise of the second group over that of the first.
        known: Of the log error of the standard deviations that come with the values.
    """

    each: int = 30
    nodes: int = 50
    effect: float = 0.0
    between: float = 0.025
    between_length: float = 0.08
    noise: float = 0.025
    noise_spread: float = 0.7
    noise_ratio: float = 1.0
    known: float = 0.15


def affected(nodes: int) -> NDArray[np.bool_]:
    """(V,) nodes with a true effect."""
    out = np.zeros((len(TRACTS), nodes), bool)
    place = (np.arange(nodes) + 0.5) / nodes
    for tract, (low, high) in STRETCHES.items():
        out[TRACTS.index(tract)] = (place >= low) & (place <= high)
    return out.ravel()


def cohort(spec: CohortSpec, seed: int) -> tuple[Measurements, pd.DataFrame]:
    """Profiles of the cohort, with their standard deviations, and its table (group, age)."""
    rng = np.random.default_rng([seed, 2026])
    count, tracts, nodes = 2 * spec.each, len(TRACTS), spec.nodes
    group = np.arange(count) % 2
    age = rng.uniform(20, 60, count)
    place = np.linspace(0, 1, nodes)
    height = np.random.default_rng(7).uniform(0.38, 0.58, (tracts, 1))
    mean = height + 0.06 * np.sin(np.pi * place) * np.linspace(-1, 1, tracts)[:, None]
    true = mean - 0.0008 * (age - 40)[:, None, None]
    true = true + spec.between * _smooth(rng, (count, tracts, nodes), spec.between_length)
    true = true + 0.01 * rng.normal(size=(count, 1, 1))  # a subject's own level
    less = affected(nodes).reshape(tracts, nodes) * spec.effect * mean
    true = true - group[:, None, None] * less
    # Quality of the scan, place in the head, ends of tracts (partial volume), and chance.
    quality = spec.noise * np.exp(spec.noise_spread * rng.normal(size=(count, 1, 1)))
    quality = quality * np.where(group == 1, spec.noise_ratio, 1)[:, None, None]
    where = np.exp(0.3 * _smooth(rng, (count, tracts, nodes), 0.1))
    std = quality * where * (1 + (2 * place - 1) ** 4)
    values = true + std * _smooth(rng, std.shape, 0.02)
    told = std * np.exp(spec.known * rng.normal(size=std.shape))
    names = tuple(f"{i + 1:03d}" for i in range(count))
    made = Measurements(
        names, tuple(np.repeat(TRACTS, nodes).tolist()), np.tile(np.arange(nodes), tracts),
        values.reshape(count, -1), told.reshape(count, -1), "fa",
    )  # fmt: skip
    return made, pd.DataFrame({"participant_id": names, "group": group, "age": age})


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> NDArray[np.float64]:
    """Noise of variance 1, smooth along the last axis by a kernel of this share of it."""
    more = int(np.ceil(4 * width * shape[-1]))
    white = rng.normal(size=(*shape[:-1], shape[-1] + 2 * more))
    sigma = width * shape[-1]
    kernel = gaussian_filter1d(np.eye(1, 8 * more + 1, 4 * more).ravel(), sigma)
    out = gaussian_filter1d(white, sigma, axis=-1)[..., more:-more] / np.linalg.norm(kernel)
    return out
