"""`fornix bench unseen`: estimate from some directions of a real scan, predict the others.

No truth is needed, and nothing is scored against a fit of the same data: the others were measured
but not used. The floor is the noise of the unseen measurements themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.estimators.predict import predict
from fornix.io import load
from fornix.models.tensor import fit_tensor
from fornix.nets.adaptation import hidden_volumes
from fornix.numerics.directions import best_subset
from fornix.preprocess import estimate_noise
from fornix.qspace.encoder import Encoder
from fornix.testing.properties import six_to_matrix
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

COUNTS = (6, 12, 20)


def run_unseen(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Score every whole-brain real scan and write unseen.csv, unseen.md and unseen.png into `out`.

    Scans are read from FORNIX_TEST_DATA or ../shared/data. quick: two scans.
    """
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"
    found = sorted(
        p for p in data.glob("*/dwi.nii.gz") if "crop" not in str(p) and "slab" not in str(p)
    )
    if not found:
        raise FornixError(f"no real scans under {data}; set FORNIX_TEST_DATA to their folder")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with use_threads(threads):
        for path in found[:2] if quick else found:
            rows += score_scan(path.parent.name, load(path), seed)
    write_csv(folder / "unseen.csv", rows)
    _plot(folder / "unseen.png", rows)
    text = (
        "RMSE of the signals of the directions that were not used, over S0, inside the brain eroded by "
        "8 mm; signals divided by the b0 and clipped to [0, 2], differences to [-1, 1]; the best "
        "conditioned subset of directions. `floor`: the noise of the unseen measurements, from the "
        "residuals of a tensor fit to all. Ratios are of the excess, sqrt(RMSE² − floor²), to that of "
        "the weighted tensor fit. `encoder`: the q-space Gaussian process, told the noise level; "
        "`adapted`: its prior's scales fitted to the scan first; `voxelwise`, `learned`: `fornix predict`, "
        "the networks' signal mixed with the process and the tensor fit; `fitted`: `learned` with `--adapt`, "
        "where the volumes are enough; `tensor`: of the default network's mean tensor alone. From 6 "
        "directions none can be hidden: the mixture's weights are usual ones there, which were chosen on "
        "these scans."
    )
    columns = ["scan", "used", "unseen", "floor", "wls", "learned"]
    columns += [
        f"ratio_{k}" for k in ("learned", "fitted", "voxelwise", "tensor", "encoder", "adapted")
    ]
    page = [text, environment(threads, seed) + ".", "Made by `fornix bench unseen`."]
    write_page(
        folder / "unseen.md",
        "Unseen measurements of real scans",
        [*page, markdown(rows, columns), "![excess over the floor](unseen.png)"],
    )
    return rows


def score_scan(name: str, scan: DWI, seed: int = 0) -> list[Row]:
    """One row per number of directions used; none where too few are left to predict."""
    dwi = estimate_noise(brain_mask(scan))
    depth = ndimage.distance_transform_edt(dwi.brain(), sampling=dwi.voxel_size)
    b0 = dwi.mean_b0()
    inside = (depth > 8) & (b0 > 0)
    signals = np.clip(dwi.data[inside] / b0[inside][:, None], 0, 2)
    sigma = np.clip(np.asarray(dwi.sigma)[inside] / b0[inside], 1e-3, 1).astype(np.float32)
    table, weighted = dwi.gradients, np.flatnonzero(~dwi.gradients.b0_mask)
    floor = _floor(signals, table)
    rows: list[Row] = []
    for count in COUNTS:
        if count > len(weighted) - 4:
            continue
        chosen = weighted[best_subset(table.directions[weighted], count, seed)]
        used = np.sort(np.concatenate([np.flatnonzero(table.b0_mask), chosen]))
        rest = np.setdiff1d(weighted, chosen)
        here, there = table.subset(used), table.subset(rest)
        unseen = signals[:, rest]
        errors = {"wls": _rmse(_tensor(signals[:, used], here, there), unseen)}
        measured, level = torch.from_numpy(signals[:, used]), torch.from_numpy(sigma)
        for label, value in _learned(dwi.subset(used), here, there, inside, b0).items():
            errors[label] = _rmse(value, unseen)
        plain = Encoder(here)
        some = torch.linspace(0, len(measured) - 1, 20_000).long().unique()
        adapted = plain.adapted(measured[some], level[some])
        for label, encoder in (("encoder", plain), ("adapted", adapted)):
            posterior = encoder.encode(measured, level)
            signal = encoder.predict(posterior, there, std=False)[0]
            errors[label] = _rmse(signal.numpy(), unseen)
        excess = {k: float(np.sqrt(max(v**2 - floor**2, 0))) for k, v in errors.items()}
        rows.append(
            {
                "scan": name, "used": count, "unseen": len(rest), "floor": floor, **errors,
                **{f"excess_{k}": v for k, v in excess.items()},
                **{f"ratio_{k}": v / excess["wls"] for k, v in excess.items() if k != "wls"},
            }
        )  # fmt: skip
    return rows


def excess_of(dwi: DWI, count: int, seed: int = 0) -> dict[str, float]:
    """Excess over the floor from `count` directions: the weighted tensor fit's and `fornix predict`'s.

    Args:
        dwi: With mask and noise level.
        count: Directions that are used.
        seed: Of their choice.
    """
    depth = ndimage.distance_transform_edt(dwi.brain(), sampling=dwi.voxel_size)
    b0 = dwi.mean_b0()
    inside = (depth > 8) & (b0 > 0)
    signals = np.clip(dwi.data[inside] / b0[inside][:, None], 0, 2)
    table, weighted = dwi.gradients, np.flatnonzero(~dwi.gradients.b0_mask)
    floor = _floor(signals, table)
    chosen = weighted[best_subset(table.directions[weighted], count, seed)]
    used = np.sort(np.concatenate([np.flatnonzero(table.b0_mask), chosen]))
    rest = np.setdiff1d(weighted, chosen)
    here, there = table.subset(used), table.subset(rest)
    predicted = predict(dwi.subset(used), there, method="learned")[0].data[inside]
    found = {
        "wls": _tensor(signals[:, used], here, there),
        "learned": np.clip(predicted / b0[inside][:, None], 0, 2),
    }
    errors = {k: _rmse(v, signals[:, rest]) for k, v in found.items()}
    return {k: float(np.sqrt(max(v**2 - floor**2, 0))) for k, v in errors.items()}


def _learned(
    dwi: DWI, here: Gradients, there: Gradients, inside: NDArray[np.bool_], b0: NDArray
) -> dict[str, NDArray]:
    """Signals over S0 by the networks, and through the tensor of the default one alone."""
    made = {}
    for label, method, adapt in (
        ("voxelwise", "voxelwise", False), ("learned", "learned", False), ("fitted", "learned", True),
    ):  # fmt: skip
        if adapt and not hidden_volumes(here):
            continue
        predicted = predict(dwi, there, method=method, adapt=adapt)[0].data[inside]
        made[label] = np.clip(predicted / b0[inside][:, None], 0, 2)
    maps = microstructure(dwi, models=("dti",), method="learned")
    tensor = six_to_matrix(1e3 * maps["dti_tensor"].data[inside])
    exponent = np.einsum("ni,vij,nj->vn", there.directions, tensor, there.directions) * there.b
    s0 = maps["dti_s0"].data[inside] / b0[inside]
    made["tensor"] = s0[:, None] * np.exp(-exponent)
    return made


def _tensor(signals: NDArray, here: Gradients, there: Gradients) -> NDArray:
    fit = fit_tensor(signals, here, "wls", std=False)
    tensor = six_to_matrix(fit["tensor"])
    exponent = np.einsum("ni,vij,nj->vn", there.directions, tensor, there.directions) * there.b
    return np.asarray(fit["s0"].reshape(-1, 1) * np.exp(-exponent))


def _floor(signals: NDArray, table: Gradients) -> float:
    """RMS residual of the tensor fitted to everything, for the degrees of freedom it took."""
    weighted = ~table.b0_mask
    left = np.clip(signals - _tensor(signals, table, table), -1, 1)[:, weighted]
    count = int(weighted.sum())
    return float(np.sqrt((left**2).mean() * count / max(count - 6, 1)))


def _rmse(found: NDArray, truth: NDArray) -> float:
    return float(np.sqrt((np.clip(found - truth, -1, 1) ** 2).mean()))


def _plot(path: Path, rows: list[Row]) -> None:
    scans = list(dict.fromkeys(r["scan"] for r in rows))
    made = Figure(figsize=(9, 1.2 + 0.28 * len(scans)), layout="constrained")
    axes = np.atleast_1d(made.subplots(1, len(COUNTS), sharey=True))
    for ax, count in zip(axes, COUNTS):
        here = [r for r in rows if r["used"] == count]
        place = [scans.index(r["scan"]) for r in here]
        ax.barh(place, [r["ratio_learned"] for r in here], color="#2f6f9f")
        ax.axvline(1, color="black", lw=0.8)
        ax.set_title(f"{count} directions", fontsize=9)
        ax.set_xlabel("excess error against WLS", fontsize=8)
    axes[0].set_yticks(range(len(scans)), scans, fontsize=7)
    axes[0].invert_yaxis()
    made.savefig(path, dpi=130)
