"""What the methods of the orientation benchmark are scored against, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.models.peak_matching import match
from fornix.physics.tissue import Tissue
from fornix_bench.table import Row

#: Peaks kept of each method, and the least angle between two, degrees.
PEAKS, SEPARATION = 4, 20.0
#: Thresholds tried: as a share of the largest peak,
RELATIVE = np.array([0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7])
#: of the median largest peak of voxels with one fibre.
_ABSOLUTE = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
#: and the probability that the network gives.
_PROBABILITY = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
#: A close crossing is resolved where both of its axes are found this near, degrees.
_RESOLVED = 20.0


@dataclass(frozen=True, eq=False)
class Truth:
    """The fibres of n voxels. axes: (n, P, 3), those that exist first. fibres: (n,) how many, 0 in grey
    matter and water. water: (n,). angle: (n,) least angle between two fibres, degrees, NaN where there
    are fewer."""

    axes: NDArray[np.floating]
    fibres: NDArray[np.int64]
    water: NDArray[np.bool_]
    angle: NDArray[np.float64]

    @property
    def real(self) -> NDArray[np.bool_]:
        """(n, P) which axes exist."""
        return np.asarray(np.arange(self.axes.shape[1]) < self.fibres[:, None])


@dataclass(frozen=True, eq=False)
class Found:
    """Peaks of one method: directions (n, K, 3), amplitude (n, K); for the network probability and
    cone (n, K), None for others. seconds: for all voxels."""

    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    seconds: float
    probability: NDArray[np.float32] | None = None
    cone: NDArray[np.float32] | None = None


def random_truth(count: int, seed: int) -> tuple[Tissue, Truth]:
    """Loose voxels: white matter of one to three coherent fibres, grey matter and water."""
    rng = np.random.default_rng([seed, 11])
    kind = rng.choice(5, size=count, p=[0.25, 0.42, 0.08, 0.15, 0.10])
    fibres = np.array([1, 2, 3, 0, 0])[kind]
    mu = _unit(rng.standard_normal((count, 3, 3)))
    angle = np.radians(rng.uniform(20, 90, count))
    side = _unit(np.cross(mu[:, 0], mu[:, 1]))
    across = np.cross(side, mu[:, 0])
    two = fibres >= 2
    mu[two, 1] = (np.cos(angle)[:, None] * mu[:, 0] + np.sin(angle)[:, None] * across)[two]
    three = fibres == 3
    mu[three, 2] = side[three]  # the third stands across the plane of the first two
    share = rng.uniform(0.3, 0.7, (count, 3)) * (np.arange(3) < np.maximum(fibres, 1)[:, None])
    share /= share.sum(1, keepdims=True)
    grey, water = kind == 3, kind == 4
    odi = rng.uniform(0.01, 0.09, (count, 3))
    odi[grey | water] = rng.uniform(0.85, 1.0, (int((grey | water).sum()), 3))
    ndi = np.where(grey, rng.uniform(0.25, 0.45, count), 0.45 + 0.35 * rng.beta(3, 2, count))
    d_par = np.where(grey, 1.2, rng.normal(1.9, 0.1, count))
    d_perp = np.where(grey, 0.9, rng.normal(0.55, 0.08, count)).clip(0.2)
    fwf = np.where(water, rng.uniform(0.9, 1, count), rng.uniform(0, 0.15, count))
    tissue = Tissue(
        *(torch.as_tensor(v).float() for v in (mu, share, odi, ndi, fwf, d_par, d_perp))
    )
    least = np.where(two, np.degrees(angle), np.nan)
    return tissue.check(), Truth(mu, fibres, water, least)


def scored(found: Found, truth: Truth) -> list[Row]:
    """The scores at the best threshold, and the curve of those worth choosing."""
    rows: list[Row] = []
    if found.probability is not None:
        for least in _PROBABILITY:
            kept = found.probability >= least
            rows.append({"threshold": f"p {least:g}", **scores(found, kept, truth)})
    else:
        # What one fibre's peak is like sets the scale of amplitudes.
        scale = float(np.median(found.amplitude[truth.fibres == 1, 0]))
        for absolute in _ABSOLUTE:
            for relative in RELATIVE:
                floor = np.maximum(relative * found.amplitude[:, :1], absolute * scale)
                kept = (found.amplitude >= floor) & (found.amplitude > 0)
                words = f"{relative:g} of the largest, {absolute:g} of one fibre's"
                rows.append({"threshold": words, **scores(found, kept, truth)})
    best = min(rows, key=lambda r: float(r["sum"]))
    per_second = len(truth.fibres) / found.seconds
    return [
        {"section": "best", **best, "voxels_per_s": per_second},
        *({"section": "curve", **r} for r in _front(rows)),
    ]


def _front(rows: list[Row]) -> list[Row]:
    """The thresholds worth choosing, from the strictest: no other misses less for as few spurious."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda r: (float(r["spurious"]), float(r["missed"]))):
        if not kept or row["missed"] < kept[-1]["missed"]:
            kept.append(row)
    return kept


def scores(found: Found, kept: NDArray[np.bool_], truth: Truth) -> Row:
    """Scores of the peaks `kept` (n, K). Rates are per voxel of white matter; spurious ones of grey
    matter and water per voxel of these."""
    white, water = truth.fibres > 0, truth.water
    axes, real = truth.axes, truth.real
    shown = found.directions * kept[..., None]
    angle, partner = match(shown[white], axes[white], real[white])
    missed = float((real[white] & (partner < 0)).sum() / white.sum())
    extra = kept[white].sum(1) - (partner >= 0).sum(1)
    spurious = float(extra.sum() / white.sum())
    counts = np.asarray(kept[white].sum(1) == truth.fibres[white])
    between, fibres = truth.angle[white], truth.fibres[white]
    made: Row = {
        "missed": missed,
        "spurious": spurious,
        "sum": missed + spurious,
        "right_count": float(counts.mean()),
        "spurious_gm": _per_voxel(kept[(truth.fibres == 0) & ~water]),
        "spurious_csf": _per_voxel(kept[water]),
        "error": _mean(angle),
        "error_1": _mean(angle[fibres == 1]),
    }
    for low, high in ((30, 45), (45, 60), (60, 90)):
        here = (between >= low) & (between < high) & (fibres == 2)
        made[f"error_{low}_{high}"] = _mean(angle[here])
        both = (np.nan_to_num(angle[here][:, :2], nan=180) <= _RESOLVED).all(1)
        made[f"resolved_{low}_{high}"] = float(both.mean()) if len(both) else float("nan")
    made["error_45_90"] = _mean(angle[between >= 45])
    if found.cone is not None:
        cones = np.take_along_axis(found.cone[white], np.maximum(partner, 0), 1)
        near = (partner >= 0) & (angle <= 25)
        made["in_cone"] = float((angle <= cones)[near].mean())
    return made


def _mean(values: NDArray[np.float32]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _per_voxel(kept: NDArray[np.bool_]) -> float:
    return float(kept.sum(1).mean()) if len(kept) else float("nan")


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
