"""Other gradients: measurements of real scans that were not used, by several models of q-space."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.enhance.scan import enhance_scan
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.models.deconvolution.csd import csd
from fornix.models.deconvolution.response import estimate_responses
from fornix.models.tensor import fit_tensor
from fornix.numerics import harmonics
from fornix.numerics.directions import best_subset
from fornix.preprocess import estimate_noise
from fornix.testing.properties import six_to_matrix
from fornix_bench.suites.enhance.space import data
from fornix_bench.table import Row

#: A scan of each vendor and one of several shells, and directions used.
SCANS = (
    "philips-achieva_b1000x32", "siemens-prisma_b2000x20_run-1", "canon-galan_b1500x12_dir-PA",
    "uih-umr770_b930x16_dir-PA", "multishell_crop",
)  # fmt: skip
COUNTS = (6, 12, 20)
#: Voxels along an edge of the part of a scan that is looked at, and how many of it are scored.
_EDGE, _SCORED = (32, 32, 12), 300
_LAPLACE = 0.006
Signals = NDArray[np.floating]


def angle(quick: bool, seed: int) -> list[Row]:
    """RMSE over S0 of unseen measurements by scan, directions used and model; and orientations."""
    rows: list[Row] = []
    for name in SCANS[:1] if quick else SCANS:
        dwi = _middle(estimate_noise(brain_mask(load(data() / "dwi" / name / "dwi.nii.gz"))))
        for count in COUNTS[:1] if quick else COUNTS:
            rows += _unseen(name, dwi, count, seed)
        if name == SCANS[0]:
            rows.append(_orientations(name, dwi, seed))
    return rows


def _middle(dwi: DWI) -> DWI:
    """The middle of the brain, which is enough to compare."""
    centre = np.argwhere(dwi.brain()).mean(0)
    box = tuple(
        slice(max(0, int(c) - e // 2), min(n, int(c) - e // 2 + e))
        for c, e, n in zip(centre, _EDGE, dwi.grid)
    )
    affine = dwi.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in box]
    return dwi.with_(
        data=np.ascontiguousarray(dwi.data[box]), mask=dwi.brain()[box], sigma=np.asarray(dwi.sigma)[box],
        affine=affine,
    )  # fmt: skip


def _unseen(name: str, dwi: DWI, count: int, seed: int) -> list[Row]:
    table = dwi.gradients
    weighted = np.flatnonzero(~table.b0_mask)
    if count > len(weighted) - 4:
        return []
    used = np.sort(
        np.r_[np.flatnonzero(table.b0_mask), weighted[_subset(table, weighted, count, seed)]]
    )
    rest = np.setdiff1d(weighted, used)
    here, there = table.subset(used), table.subset(rest)
    b0 = dwi.subset(used).mean_b0()
    deep = ndimage.binary_erosion(dwi.brain(), iterations=1) & (b0 > 0)
    chosen = np.random.default_rng([seed, 83]).permutation(np.flatnonzero(deep))[:_SCORED]
    signals = np.clip(
        np.asarray(dwi.data).reshape(-1, len(table))[chosen] / b0.ravel()[chosen][:, None], 0, 2
    )
    seen, unseen = signals[:, used], signals[:, rest]
    sigma = float(np.median(np.asarray(dwi.sigma).ravel()[chosen] / b0.ravel()[chosen]))
    freedom = len(weighted) / max(len(weighted) - 6, 1)
    floor = float(_rmse(_tensor(signals, table, there), unseen) * np.sqrt(freedom))
    rows: list[Row] = []
    for method, model in _MODELS.items():
        start = time.perf_counter()
        try:
            error = _rmse(model(seen, here, there, sigma), unseen)
        except Exception as failed:  # a peer that cannot do this protocol
            rows.append(
                {"scan": name, "used": count, "method": method, "note": type(failed).__name__}
            )
            continue
        rows.append(_row(name, count, method, error, floor, time.perf_counter() - start))
    for method in ("encoder", "learned"):
        start = time.perf_counter()
        made = enhance_scan(dwi.subset(used), to=there, method=method)
        found = (
            np.asarray(made.dwi.data).reshape(-1, len(rest))[chosen] / b0.ravel()[chosen][:, None]
        )
        label = "Fornix" if method == "learned" else "Fornix encoder"
        row = _row(name, count, label, _rmse(found, unseen), floor, time.perf_counter() - start)
        rows.append(row)
    return rows


def _row(name: str, count: int, method: str, error: float, floor: float, seconds: float) -> Row:
    return {
        "scan": name, "used": count, "method": method, "error": error, "floor": floor, "seconds": seconds,
    }  # fmt: skip


def _subset(
    table: Gradients, weighted: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Evenly spread directions; of several shells each in its share."""
    if len(table.shells) == 1:
        return np.asarray(best_subset(table.directions[weighted], count, seed))
    every = [np.flatnonzero(np.isin(weighted, s.volumes)) for s in table.shells]
    part = [max(2, round(count * len(e) / len(weighted))) for e in every]
    # Too few of a shell for a best set: tables follow an order that spreads.
    chosen = [
        e[best_subset(table.directions[weighted[e]], n, seed)]
        if n >= 6
        else e[np.linspace(0, len(e) - 1, n).astype(int)]
        for e, n in zip(every, part)
    ]
    return np.sort(np.concatenate(chosen))


def _rmse(found: Signals, truth: Signals) -> float:
    return float(np.sqrt((np.clip(np.clip(found, 0, 2) - truth, -1, 1) ** 2).mean()))


def _tensor(seen: Signals, here: Gradients, there: Gradients, sigma: float = 0.0) -> Signals:
    fit = fit_tensor(seen, here, "wls", std=False)
    tensor = six_to_matrix(np.asarray(fit["tensor"]))
    exponent = np.einsum("ni,vij,nj->vn", there.directions, tensor, there.directions) * there.b
    return np.asarray(np.asarray(fit["s0"]).reshape(-1, 1) * np.exp(-exponent))


def _harmonics(seen: Signals, here: Gradients, there: Gradients, sigma: float) -> Signals:
    """Of each shell, with the Laplace-Beltrami penalty (Descoteaux et al., MRM 2007)."""
    out = np.empty((len(seen), len(there)))
    for shell in there.shells:
        near = ~here.b0_mask & (np.abs(here.bvals - shell.b) < 0.15 * shell.b)
        lmax = 6 if near.sum() >= 28 else 4 if near.sum() >= 15 else 2
        basis = harmonics.evaluate(lmax, here.directions[near])
        order = harmonics.orders(lmax)[0]
        normal = basis.T @ basis + _LAPLACE * np.diag((order * (order + 1.0)) ** 2)
        fit = np.linalg.solve(normal, basis.T @ seen[:, near].T)
        out[:, list(shell.volumes)] = (
            harmonics.evaluate(lmax, there.directions[list(shell.volumes)]) @ fit
        ).T
    return out


def _gaussian_process(seen: Signals, here: Gradients, there: Gradients, sigma: float) -> Signals:
    """Of each shell, spherical covariance as in eddy and nifreeze (Andersson and Sotiropoulos, NeuroImage
    2015); its reach is the one that leaves the least error of leaving one out."""
    out = np.empty((len(seen), len(there)))
    for shell in there.shells:
        near = ~here.b0_mask & (np.abs(here.bvals - shell.b) < 0.15 * shell.b)
        mine, axes = seen[:, near], here.directions[near]
        asked = there.directions[list(shell.volumes)]
        mean = mine.mean(1, keepdims=True)
        power = max(float(mine.var(1).mean()) - sigma**2, 1e-5)
        best, least = None, np.inf
        for reach in (0.6, 0.9, 1.2, 1.6, 2.2):
            inverse = np.linalg.inv(
                power * _spherical(axes, axes, reach) + sigma**2 * np.eye(len(axes))
            )
            left = (mine - mean) @ inverse / np.diag(inverse)
            if (wrong := float((left**2).mean())) < least:
                best, least = (reach, inverse), wrong
        assert best is not None
        weights = best[1] @ (power * _spherical(axes, asked, best[0]))
        out[:, list(shell.volumes)] = mean + (mine - mean) @ weights
    return out


def _spherical(a: Signals, b: Signals, reach: float) -> Signals:
    angle_ = np.arccos(np.clip(np.abs(a @ b.T), 0, 1)) / reach
    return np.where(angle_ < 1, 1 - 1.5 * angle_ + 0.5 * angle_**3, 0)


def _shore(seen: Signals, here: Gradients, there: Gradients, sigma: float) -> Signals:
    from dipy.reconst.shore import ShoreModel

    order = 6 if len(here) >= 40 else 4
    return _dipy(
        ShoreModel(_table(here), radial_order=order, lambdaN=1e-8, lambdaL=1e-8), seen, there
    )


def _mapmri(seen: Signals, here: Gradients, there: Gradients, sigma: float) -> Signals:
    from dipy.reconst.mapmri import MapmriModel

    order = 6 if len(here) >= 40 else 4
    return _dipy(MapmriModel(_table(here), radial_order=order), seen, there)


def _dipy(model: object, seen: Signals, there: Gradients) -> Signals:
    fits = [model.fit(np.asarray(s, dtype=np.float64)) for s in seen]  # type: ignore[attr-defined]
    table = _table(there)
    if hasattr(fits[0], "predict"):
        return np.asarray([np.asarray(f.predict(table, S0=1.0)).ravel() for f in fits])
    from dipy.reconst.shore import shore_matrix

    one = fits[0].model
    matrix = shore_matrix(one.radial_order, one.zeta, table, tau=one.tau)
    return np.asarray([f._shore_coef for f in fits]) @ matrix.T


def _table(gradients: Gradients) -> object:
    from dipy.core.gradients import gradient_table

    tau = 1 / (4 * np.pi**2)
    return gradient_table(
        gradients.bvals,
        bvecs=gradients.directions,
        b0_threshold=50,
        big_delta=tau + 1e-9,
        small_delta=1e-9,
    )


_MODELS = {
    "tensor": _tensor, "spherical harmonics": _harmonics, "Gaussian process, one shell": _gaussian_process,
    "SHORE": _shore, "MAP-MRI": _mapmri,
}  # fmt: skip


def _orientations(name: str, dwi: DWI, seed: int) -> Row:
    """How near orientations from 12 directions, enhanced to all, and from 24 are to those of all."""
    table = dwi.gradients
    weighted = np.flatnonzero(~table.b0_mask)
    b0 = np.flatnonzero(table.b0_mask)
    fit = fit_tensor(dwi.signals(), table, "wls", std=False)
    fa, md = (dwi.unmask(np.asarray(fit[k]).ravel() * s) for k, s in (("fa", 1.0), ("md", 1e-3)))
    responses = estimate_responses(dwi, fa, md, 6)
    white = (fa > 0.3) & dwi.brain()
    whole = csd(dwi, responses, 6)["fod"][white]
    row: Row = {"scan": name, "used": 12, "method": "FOD from 12 enhanced, against 24 measured"}
    for label, count in (("FOD 12 enhanced", 12), ("FOD 12 measured", 12), ("FOD 24 measured", 24)):
        used = np.sort(np.r_[b0, weighted[best_subset(table.directions[weighted], count, seed)]])
        part = dwi.subset(used)
        order = 6 if count == 24 else 4
        if label == "FOD 12 enhanced":
            made = enhance_scan(part, to=table).dwi
            part, order = made.with_(mask=dwi.mask, sigma=dwi.sigma), 6
        shares = estimate_responses(part, fa, md, order)
        found = csd(part, shares, order)["fod"][white]
        row[label] = float(np.mean(_correlated(found, whole)))
    return row


def _correlated(a: Signals, b: Signals) -> Signals:
    count = min(a.shape[1], b.shape[1])
    x, y = np.zeros_like(b), b
    x[:, :count] = a[:, :count]
    x, y = x[:, 1:], y[:, 1:]
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(1) / np.maximum(size, 1e-12))
