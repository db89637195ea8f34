"""Every method under test as one call: from a simulated scan to values with their uncertainty."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import UNITS, Maps
from fornix.estimators.classical import CLASSICAL as REFERENCE_FITS
from fornix.estimators.microstructure import microstructure
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.physics.protocol import scheme
from fornix_bench.peers import microstructure as peers
from fornix_bench.suites.microstructure.populations import Scan

Array = NDArray[np.float64]

#: Scalar parameters that are scored, by model.
PARAMS = {"dti": ("fa", "md"), "dki": ("mk", "ak", "rk"), "noddi": ("ndi", "odi", "fwf")}
#: What only the networks give.
MORE = {"noddi": ("odiw",)}
#: Shares of the truth that the intervals should hold.
INTERVALS = (0.5, 0.8, 0.9, 0.95)
#: The quantiles that these intervals and the 99% one need.
LEVELS = tuple(sorted(round(q, 6) for i in (*INTERVALS, 0.99) for q in ((1 - i) / 2, (1 + i) / 2)))
#: The methods under test, as the tables call them.
LEARNED = tuple(reversed(MICROSTRUCTURE_METHODS["dti"].having("network")))
#: The reference that others are divided by, and each model's classical method.
REFERENCE = "wls"
CLASSICAL = {model: entry.name for model, entry in REFERENCE_FITS.items()}


@dataclass(frozen=True, eq=False)
class Estimate:
    """What one method found, by map name (`dti_fa`): values and std (n,), µm²/ms; v1 (n, 3).

    quantiles: by map name, level -> (n,); empty where the method gives none. ood: (n,) or None. shared: by
    map name, the share of std that a region's voxels have in common.
    """

    values: dict[str, Array]
    std: dict[str, Array] = field(default_factory=dict)
    quantiles: dict[str, dict[float, Array]] = field(default_factory=dict)
    ood: Array | None = None
    shared: dict[str, float] = field(default_factory=dict)

    def interval(self, name: str, share: float) -> tuple[Array, Array]:
        """The interval that should hold the truth in `share` of the voxels: its quantiles where
        there are any, else value ± z std."""
        low, high = (1 - share) / 2, (1 + share) / 2
        known = self.quantiles.get(name, {})
        found = [_nearest(known, level) for level in (low, high)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
        reach = norm.ppf(high) * self.std[name]
        return self.values[name] - reach, self.values[name] + reach


def learned() -> list[str]:
    """The learned methods that run: `voxelwise`, `learned`."""
    return [name for name in LEARNED if not why_not(name)]


def left_out() -> list[str]:
    """What to tell of the learned methods that do not run."""
    return [f"{name}: {why_not(name)}" for name in LEARNED if why_not(name)]


@lru_cache(maxsize=len(LEARNED))
def why_not(name: str) -> str:
    """Empty where this learned method runs; else what it says (no weights, not in the tables)."""
    if name not in MICROSTRUCTURE_METHODS["dti"]:
        return f"there is no method {name}"
    gradients = scheme("dti12")
    rng = np.random.default_rng(0)
    signals = 1000 * np.exp(-0.8 * gradients.b) + 20 * rng.standard_normal((5, 5, 5, 13))
    try:
        microstructure(
            DWI(signals.astype(np.float32), gradients, np.eye(4)),
            models=("dti",),
            method=name,
            sigma=20.0,
        )
    except FornixError as error:
        return str(error)
    return ""


def estimate(
    scan: Scan,
    method: str,
    models: Sequence[str] = ("dti",),
    sigma_factor: float = 1.0,
    threads: int | None = None,
) -> Estimate:
    """Run a method of Fornix; sigma_factor: factor on the noise level that it is given.

    method: of `MICROSTRUCTURE_METHODS`; `classical` takes each model's (`CLASSICAL`). Models that the
    protocol cannot give are left out.
    """
    values: dict[str, Array] = {}
    std: dict[str, Array] = {}
    quantiles: dict[str, dict[float, Array]] = {}
    shared: dict[str, float] = {}
    ood = None
    trained = method in learned()
    groups = [tuple(models)] if trained else [(m,) for m in models]
    for group in groups:
        more: dict[str, Any] = {"quantiles": LEVELS} if trained else {}
        name = CLASSICAL[group[0]] if method == "classical" else method
        try:
            maps = microstructure(
                scan.dwi, models=group, method=name, sigma=sigma_factor * scan.sigma, threads=threads, **more
            )  # fmt: skip
        except FornixError:
            if len(group) > 1:  # one by one, to keep those that can be had
                parts = [estimate(scan, method, (m,), sigma_factor, threads) for m in group]
                return _joined(parts)
            continue
        ood = _read(maps, group, scan, values, std, quantiles)
        shared |= {
            made.name: float(made.details["SharedShare"])
            for made in maps.maps.values() if "SharedShare" in made.details
        }  # fmt: skip
    return Estimate(values, std, quantiles, ood, shared)


def peer(
    run: peers.Peer, signals: NDArray, gradients: Gradients, sigma: float, model: str
) -> Estimate:
    """Run a peer on signals (n, N); raises PeerMissing where it is not installed."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(signals, gradients, sigma, 1)
    return Estimate({f"{model}_{k}": np.asarray(v, np.float64) for k, v in found.values.items()})


def _read(
    maps: Maps,
    models: Sequence[str],
    scan: Scan,
    values: dict[str, Array],
    std: dict[str, Array],
    quantiles: dict[str, dict[float, Array]],
) -> Array | None:
    mask = scan.dwi.brain()
    for model in models:
        more = [p for p in MORE.get(model, ()) if f"{model}_{p}" in maps]
        for param in (*PARAMS[model], *more):
            made = maps[f"{model}_{param}"]
            scale = 1e3 if UNITS[param] == "mm^2/s" else 1.0
            values[made.name] = scale * made.data[mask].astype(np.float64)
            if made.std is not None:
                std[made.name] = scale * made.std[mask].astype(np.float64)
            levels = getattr(made, "quantiles", None)
            if levels:
                quantiles[made.name] = {
                    float(q): scale * np.asarray(v)[mask].astype(np.float64)
                    for q, v in levels.items()
                }
        if model == "dti":
            values["dti_v1"] = maps["dti_v1"].data[mask].astype(np.float64)
    return maps["ood"].data[mask].astype(np.float64) if "ood" in maps else None


def _joined(parts: Sequence[Estimate]) -> Estimate:
    values = {k: v for p in parts for k, v in p.values.items()}
    std = {k: v for p in parts for k, v in p.std.items()}
    quantiles = {k: v for p in parts for k, v in p.quantiles.items()}
    ood = next((p.ood for p in parts if p.ood is not None), None)
    return Estimate(values, std, quantiles, ood, {k: v for p in parts for k, v in p.shared.items()})


def _nearest(known: dict[float, Array], level: float) -> Array | None:
    return next((v for q, v in known.items() if abs(q - level) < 1e-6), None)
