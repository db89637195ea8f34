"""Does the uncertainty hold: coverage, sharpness, sparsification, out-of-distribution scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.estimators.microstructure_learned import OOD_SIGNALS
from fornix.io import load
from fornix.physics.protocol import random_protocol, scheme
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.accuracy import two_shells
from fornix_bench.suites.microstructure.estimates import INTERVALS, Estimate, estimate, learned
from fornix_bench.suites.microstructure.populations import Scan, TestPopulation
from fornix_bench.table import Row

#: Factors on the noise level that the method is given.
SIGMA_FACTORS = (0.5, 0.8, 1.0, 1.2, 2.0)
SNRS = (8.0, 15.0, 30.0, 60.0)
#: An AUROC of fewer marked voxels than this has no goal.
FEWEST = 20
#: Voxels of each scan whose errors are ranked together with those of all others.
SAMPLE = 1000
#: What the goals ask: coverage within this, rank correlation and AUROC at least these.
COVERAGE_GOAL, SPEARMAN_GOAL, AUROC_GOAL = 0.02, 0.5, 0.9


def protocols(count: int) -> dict[str, Gradients]:
    """Protocols never trained on: one with few directions, two shells, and random ones from 6000."""
    made = {"dti12": scheme("dti12"), "6+12": two_shells(6, 12), "bench96": scheme("bench96")}
    for k in range(count):
        made[f"random {6000 + k}"] = random_protocol(6000 + k, volumes=(7, 97))
    return made


def coverage_rows(
    populations: Sequence[TestPopulation],
    count: int,
    seed: int,
    snrs: Sequence[float] = SNRS,
    sigma_factors: Sequence[float] = SIGMA_FACTORS,
) -> list[Row]:
    """Per scan, method and parameter: coverage of each interval, rank correlation, AUSE.

    Every voxel of the brain counts (`TestPopulation.scored`): lesions, water and grey matter too. The
    classical methods are given the right noise level only. One row per method, parameter and factor
    (`section` is `rank`) holds rank correlation and AUSE over the voxels of all scans together.
    """
    rows: list[Row] = []
    pairs: dict[tuple[str, str, float], list[NDArray[np.float64]]] = {}
    rng = np.random.default_rng([seed, 62])
    for population in populations:
        models = ("dti", "dki", "noddi") if "noddi_ndi" in population.truth else ("dti", "dki")
        for label, gradients in protocols(count).items():
            for snr in snrs:
                scan = population.scan(gradients, snr, seed + round(10 * snr))
                for method in ("classical", *learned()):
                    for factor in sigma_factors if method in learned() else (1.0,):
                        found = estimate(scan, method, models, factor)
                        about: Row = {
                            "section": "coverage", "population": population.name, "protocol": label,
                            "volumes": len(gradients), "snr": snr, "sigma_factor": factor, "method": method,
                        }  # fmt: skip
                        rows += _calibration(about, population, found)
                        for name in sorted(found.std.keys() & population.truth.keys()):
                            some = np.flatnonzero(population.scored(name))
                            some = rng.choice(some, min(len(some), SAMPLE), replace=False)
                            error = found.values[name] - population.truth[name]
                            key = (method, name.split("_")[1], factor)
                            pair = np.stack([error[some], found.std[name][some]])
                            pairs.setdefault(key, []).append(pair)
    return rows + [_ranked(*key, *np.hstack(found)) for key, found in pairs.items()]


def pooled(rows: Sequence[Row]) -> list[Row]:
    """Coverage of all scans by method, parameter and factor on the noise level, from `coverage_rows`.

    Coverage: means over scans; miss: their largest distance from what was promised; worst: that of
    the worst scan. spearman, ause: over all scans together; `_within`: means over scans.
    """
    made: list[Row] = []
    keys = dict.fromkeys((r["method"], r["param"], r["sigma_factor"]) for r in rows)
    for method, param, factor in keys:
        same = [
            r
            for r in rows
            if (r["method"], r["param"], r["sigma_factor"]) == (method, param, factor)
        ]
        here = [r for r in same if r["section"] == "coverage"]
        ranked = next(r for r in same if r["section"] == "rank")
        row: Row = {"method": method, "param": param, "sigma_factor": factor, "scans": len(here)}
        for share in INTERVALS:
            row[f"{share:.0%}"] = float(np.mean([r[f"{share:.0%}"] for r in here]))
        row["miss"] = max(abs(row[f"{s:.0%}"] - s) for s in INTERVALS)
        row["worst"] = max(abs(r[f"{s:.0%}"] - s) for r in here for s in INTERVALS)
        row["spearman"], row["ause"] = ranked["spearman"], ranked["ause"]
        row["spearman_within"] = float(np.nanmean([r["spearman"] for r in here]))
        row["ause_within"] = float(np.nanmean([r["ause"] for r in here]))
        made.append(row)
    return made


def ood_rows(population: TestPopulation, seed: int, snr: float = 20.0) -> list[Row]:
    """AUROC of the `ood` score of methods that give one, for errors, artefacts and unusual tissue.

    One scan holds all three kinds; each kind is compared with the voxels that were left alone. `error`:
    FA or MD outside its own 99% interval, among the untouched and among all voxels.
    """
    rows: list[Row] = []
    for label, gradients in (("dti30", scheme("dti30")), ("6+12", two_shells(6, 12))):
        scan, kinds, true = with_artefacts(population, gradients, snr, seed)
        touched = np.logical_or.reduce(list(kinds.values()))
        for method in learned():
            found = estimate(scan, method)
            if found.ood is None:
                continue
            about = {"section": "ood", "population": population.name, "protocol": label, "snr": snr}
            about["method"] = method
            for kind, marked in kinds.items():
                use = marked | ~touched
                rows.append({**about, "kind": kind, **_auroc(found.ood[use], marked[use])})
            wrong = np.zeros(len(population), bool)
            for name in ("dti_fa", "dti_md"):
                low, high = found.interval(name, 0.99)
                wrong |= (true[name] < low) | (true[name] > high)
            for kind, use in (("error, untouched", ~touched), ("error, all", wrong | True)):
                rows.append({**about, "kind": kind, **_auroc(found.ood[use], wrong[use])})
    return rows


def flagged_rows(data: Path, most: int | None = None) -> list[Row]:
    """Share of the brain out of distribution in every whole-brain real scan as it comes, and why."""
    found = sorted(p for p in (data / "dwi").glob("*/dwi.nii.gz") if "slab" not in str(p))
    rows: list[Row] = []
    for path in found[:most]:
        maps = microstructure(brain_mask(load(path)), models=("dti",), method="learned")
        brain = maps["source"].data > 0
        assert maps.trust is not None
        out = (maps["ood"].data > OOD_SIGNALS) & ~maps.trust
        why = next((n for n in maps.notes if "out of the network" in n), "")
        rows.append(
            {
                "section": "ood", "kind": "flagged", "method": "learned", "scan": path.parent.name,
                "flagged": float(out[brain].mean()), "why": why.partition("cause: ")[2],
            }
        )  # fmt: skip
    return rows


def with_artefacts(
    population: TestPopulation, gradients: Gradients, snr: float, seed: int
) -> tuple[Scan, dict[str, NDArray[np.bool_]], dict[str, NDArray[np.float64]]]:
    """A scan with artefacts and unusual tissue in some voxels: (scan, which (n,) by kind, truth).

    Artefacts: slices that lost signal in some volumes, spikes, a ghost of half the signal. Foreign
    tissue, clumps of a twentieth of the voxels each: a dot of 30 to 60%, oblate tensors (diffusion across,
    not along), signals that rise with b. Foreign voxels have no true tensor here: their truth is nan,
    which lies in every interval.
    """
    rng = np.random.default_rng([seed, 61])
    scan = population.scan(gradients, snr, seed)
    mask, data = population.mask, np.array(scan.dwi.data)
    weighted = np.flatnonzero(~gradients.b0_mask)
    kinds: dict[str, NDArray[np.bool_]] = {}

    def volumes(share: float) -> NDArray[np.int64]:
        return rng.choice(weighted, max(2, round(share * len(weighted))), replace=False)

    dropped = np.zeros_like(mask)
    for level in rng.choice(mask.shape[2], max(1, mask.shape[2] // 8), replace=False):
        for volume in volumes(0.15):
            data[:, :, level, volume] *= rng.uniform(0.1, 0.4)
        dropped[:, :, level] = True
    kinds["dropped slices"] = dropped[mask]
    spikes = (rng.random(mask.shape) < 0.03) & mask & ~dropped
    for place in np.argwhere(spikes):
        x, y, z = place
        data[x, y, z, volumes(0.1)] *= rng.uniform(2.0, 4.0)
    kinds["spikes"] = spikes[mask]
    ghost = np.zeros_like(mask)
    ghost[:, : mask.shape[1] // 6] = True
    half = mask.shape[1] // 2
    ghost &= np.roll(mask, half, axis=1) & ~dropped & ~spikes & mask
    shifted = np.roll(data, half, axis=1)
    for volume in volumes(0.3):
        data[..., volume] += np.where(ghost, 0.5 * shifted[..., volume], 0)
    kinds["ghost"] = ghost[mask]
    left = mask & ~dropped & ~spikes & ~ghost
    unusual = _ood_signals(gradients, rng, int(mask.sum()))
    reference = population.clean(gradients)[:, int(np.argmin(gradients.bvals))].numpy()
    for name, signals in unusual.items():
        field = ndimage.gaussian_filter(rng.standard_normal(mask.shape), 1.0)
        here = left & (field > np.quantile(field[mask], 0.95))
        left &= ~here
        inside = here[mask]
        clean = signals[inside] * reference[inside, None]
        noise = scan.sigma[here][:, None] * rng.standard_normal((2, *clean.shape))
        data[here] = np.hypot(clean + noise[0], noise[1])
        kinds[name] = inside
    truth = {name: population.truth[name].copy() for name in ("dti_fa", "dti_md")}
    for name in unusual:
        for values in truth.values():
            values[kinds[name]] = np.nan
    return Scan(scan.dwi.with_(data=data), scan.sigma), kinds, truth


def _ood_signals(
    gradients: Gradients, rng: np.random.Generator, count: int
) -> dict[str, NDArray[np.float64]]:
    """Attenuations (n, N) of tissue that no brain has."""
    axis = rng.standard_normal((count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    square = (axis @ gradients.directions.T) ** 2
    b = gradients.b
    dot = rng.uniform(0.3, 0.6, (count, 1))
    fibre = np.exp(-b * (0.3 + 1.6 * square))
    across = rng.uniform(1.8, 2.6, (count, 1))
    rise = rng.uniform(0.2, 0.5, (count, 1))
    return {
        "dot 30–60%": dot + (1 - dot) * fibre,
        "oblate tensor": np.exp(-b * (across - (across - 0.1) * square)),
        "rising with b": 1 + rise * b * square,
    }


def _calibration(about: Row, population: TestPopulation, found: Estimate) -> list[Row]:
    rows: list[Row] = []
    for name, value in found.values.items():
        if name not in population.truth or name not in found.std:
            continue
        here = population.scored(name)
        true, std = population.truth[name][here], found.std[name][here]
        row: Row = {**about, "param": name.split("_")[1]}
        for share in INTERVALS:
            low, high = found.interval(name, share)
            row[f"{share:.0%}"] = scores.coverage(true, low[here], high[here])
        apart = value[here] - true
        row["spearman"] = scores.spearman(std, np.abs(apart))
        row["ause"] = scores.ause(apart, std)
        low, high = (limit[here] for limit in found.interval(name, 0.9))
        row["width90"] = float(np.nanmedian(high - low))
        rows.append(row)
    return rows


def _ranked(
    method: str, param: str, factor: float, error: NDArray[np.float64], std: NDArray[np.float64]
) -> Row:
    row: Row = {"section": "rank", "method": method, "param": param, "sigma_factor": factor}
    row["n"] = len(error)
    row["spearman"] = scores.spearman(std, np.abs(error))
    row["ause"] = scores.ause(error, std)
    return row


def _auroc(score: NDArray[np.float64], marked: NDArray[np.bool_]) -> Row:
    """The goal is asked where enough voxels are marked for an AUROC to mean something."""
    row: Row = {"marked": int(marked.sum()), "auroc": scores.auroc(score, marked)}
    return row | ({"goal": AUROC_GOAL} if marked.sum() >= FEWEST else {})
