"""Real scans of several vendors: the score, and the error of measurements that were not used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.preprocess import estimate_noise
from fornix.testing.properties import six_to_matrix
from fornix_bench.experiments.ood_simulated import BINS, auroc_row, bin_name
from fornix_bench.metrics import scores
from fornix_bench.table import Row


@dataclass(frozen=True, eq=False)
class Picture:
    """One slice of a scan: mean b0, FA and score, (X, Y) each."""

    name: str
    b0: NDArray
    fa: NDArray
    score: NDArray


def scans() -> list[Path]:
    """The real scans on this machine, under FORNIX_TEST_DATA or ../shared/data."""
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"
    return sorted(data.glob("*/dwi.nii.gz"))


def score_scan(path: Path, method: str, slices: int) -> tuple[list[Row], Picture | None]:
    """Rows of one scan; none where the protocol gives no tensor. No picture of a mere slab or crop.

    The score is that of the whole protocol, in the `slices` fullest slices. Error: the tensor
    estimated from every second direction predicts the others; root-mean-square difference in units of
    the noise, beside WLS's from the same half.
    """
    name = path.parent.name
    dwi = _slab(estimate_noise(brain_mask(load(path))), slices)
    keep, _ = dwi.gradients.facts.tensor_volumes()
    if dwi.gradients.facts.why_not_dti:
        return [], None
    maps = microstructure(dwi, models=("dti",), method=method)
    inside = dwi.brain()
    score = maps["ood"].data[inside].astype(np.float64)
    vendor = name.split("-")[0] if "-" in name else "other"
    about: Row = {"scan": name, "vendor": vendor, "method": method}
    row: Row = {**about, "section": "real", "volumes": len(dwi.gradients), **auroc_row(score)}
    rows = [row]
    halves = _halves(dwi.subset(np.flatnonzero(keep)))
    if halves is not None:
        seen, rest = halves
        ours, classical = (
            _unseen(microstructure(seen, models=("dti",), method=m), rest, seen)
            for m in (method, "wls")
        )
        good = np.isfinite(ours) & np.isfinite(classical)
        row["unseen"], row["unseen_wls"] = _rms(ours[good]), _rms(classical[good])
        row["spearman"] = scores.spearman(score[good], ours[good])
        for low, high in pairwise(BINS):
            here = good & (score >= low) & (score < high)
            if here.sum() >= scores.FEWEST:
                rows.append({
                    **about, "section": "real bin", "score": bin_name(low, high),
                    "n": int(here.sum()), "unseen": _rms(ours[here]),
                    "unseen_wls": _rms(classical[here]),
                })  # fmt: skip
    if min(dwi.grid[:2]) < 40:
        return rows, None
    level = dwi.grid[2] // 2
    fa, found = (maps[k].data[:, :, level] for k in ("dti_fa", "ood"))
    return rows, Picture(name, dwi.mean_b0()[:, :, level], fa, found)


def _slab(dwi: DWI, slices: int) -> DWI:
    """The `slices` slices about the one with the most brain."""
    area = dwi.brain().sum((0, 1))
    start = int(np.clip(area.argmax() - slices // 2, 0, max(len(area) - slices, 0)))
    part = slice(start, start + slices)
    sigma = np.broadcast_to(np.asarray(dwi.sigma, np.float32), dwi.grid)[:, :, part]
    affine = dwi.affine.copy()
    affine[:3, 3] += affine[:3, 2] * start
    return dwi.with_(
        data=np.ascontiguousarray(dwi.data[:, :, part]), mask=dwi.brain()[:, :, part],
        sigma=np.ascontiguousarray(sigma), affine=affine,
    )  # fmt: skip


def _halves(dwi: DWI) -> tuple[DWI, DWI] | None:
    """Every second direction with all b0s, and the others; None where half gives no tensor."""
    gradients = dwi.gradients
    weighted = np.flatnonzero(~gradients.b0_mask)
    first = np.sort(np.r_[np.flatnonzero(gradients.b0_mask), weighted[::2]])
    if len(weighted) < 8 or gradients.subset(first).facts.why_not_dti:
        return None
    return dwi.subset(first), dwi.subset(weighted[1::2])


def _unseen(maps: Maps, rest: DWI, seen: DWI) -> NDArray[np.float64]:
    """(n,) root-mean-square error of the predicted volumes in units of the noise."""
    inside = seen.brain()
    tensor = six_to_matrix(1e3 * maps["dti_tensor"].data[inside].astype(np.float64))
    s0 = maps["dti_s0"].data[inside].astype(np.float64)
    predicted = s0[:, None] * np.exp(-_exponent(tensor, rest.gradients))
    sigma = np.broadcast_to(np.asarray(seen.sigma, np.float64), seen.grid)[inside]
    # A magnitude is never below the noise's floor.
    expected = np.sqrt(predicted**2 + sigma[:, None] ** 2)
    apart = (rest.data[inside] - expected) / np.maximum(sigma, 1e-9)[:, None]
    return np.asarray(np.sqrt((apart**2).mean(1)))


def _exponent(tensor: NDArray[np.float64], gradients: Gradients) -> NDArray[np.float64]:
    g = gradients.directions
    made = np.einsum("ni,vij,nj->vn", g, tensor, g, optimize=True) * gradients.b
    return np.clip(made, -1, 20)


def _rms(values: NDArray[np.float64]) -> float:
    """Root mean square, the largest hundredth cut to its edge: a few spikes must not decide."""
    if not len(values):
        raise FornixError("no voxel could be scored")
    top = np.quantile(values, 0.99)
    return float(np.sqrt((np.minimum(values, top) ** 2).mean()))
