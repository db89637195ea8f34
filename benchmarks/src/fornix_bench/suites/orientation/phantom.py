"""The orientation benchmark's scans with neighbours: a head of bundles, and the isbi2012 phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics import from_bundles
from fornix.physics.anatomy import Anatomy
from fornix.physics.fod_truth import true_axes
from fornix.physics.tissue import Tissue, signal
from fornix_bench.suites.orientation.truth import Truth

#: Deformation and thinning of the head's bundles: a seed that no training used.
HEAD = 900
#: Slices that are scanned, and those among them whose voxels are scored.
_SCANNED, _SCORED = 10, 6
#: Directions and noise of the isbi2012 files.
_ISBI = ("15_10dB", "15_15dB", "15_20dB", "15_30dB", "6_10dB")


@dataclass(frozen=True, eq=False)
class TestScan:
    """A scan and the truth of some of its voxels. dwi: its mask is what a method may read. scored:
    (X, Y, Z) the voxels that are scored; truth: of these, in C order."""

    dwi: DWI
    scored: NDArray[np.bool_]
    truth: Truth


def head(folder: Path, seed: int = HEAD) -> Anatomy:
    """The head of bundles; folder: an anatomy with bundles72."""
    return from_bundles(folder / "bundles72", seed=seed)


def bundles_scan(
    made: Anatomy, gradients: Gradients, count: int, snr: float, seed: int
) -> TestScan:
    """A slab of the head with Rician noise, white matter at b = 0 being 1000.

    count: voxels that are scored: three quarters white matter (70% or more of it) with a fibre that
    can be asked for, an eighth each of grey matter and water without.
    """
    rng = np.random.default_rng([seed, 13])
    middle = made.grid[2] // 2
    slab, inner = (np.zeros(made.grid, bool) for _ in range(2))
    slab[:, :, middle - _SCANNED // 2 : middle + _SCANNED // 2] = True
    inner[:, :, middle - _SCORED // 2 : middle + _SCORED // 2] = True
    mask = slab & made.mask
    tissue = made.tissue()[torch.as_tensor(mask[made.mask])].with_(s0=None)
    clean = 1000 * signal(tissue, gradients).numpy()
    level = 1000 / snr
    real, imaginary = (level * rng.standard_normal(clean.shape) for _ in range(2))
    data = np.zeros((*made.grid, len(gradients)), np.float32)
    data[mask] = np.hypot(clean + real, imaginary)
    dwi = DWI(data, gradients, made.affine, mask=mask, sigma=level)

    fibres = true_axes(tissue)[1].numpy().sum(1)
    here = inner[mask]
    white = here & (made.wm[mask] > 0.7) & (fibres > 0)
    grey = here & (made.gm[mask] > 0.7) & (fibres == 0)
    water = here & (tissue.fwf.numpy() > 0.8) & (fibres == 0)
    chosen = np.concatenate([
        rng.permutation(np.flatnonzero(kind))[: round(count * part)]
        for kind, part in ((white, 0.75), (grey, 0.125), (water, 0.125))
    ])  # fmt: skip
    chosen.sort()
    scored = np.zeros(made.grid, bool)
    scored.reshape(-1)[np.flatnonzero(mask)[chosen]] = True
    return TestScan(dwi, scored, _truth(tissue[torch.as_tensor(chosen)], water[chosen]))


def _truth(tissue: Tissue, water: NDArray[np.bool_]) -> Truth:
    """Truth with the fibres that can be asked for first."""
    _, real = true_axes(tissue)
    order = torch.argsort(real.int(), dim=1, descending=True, stable=True)
    mu = torch.gather(tissue.mu, 1, order[..., None].expand(-1, -1, 3)).numpy()
    fibres = real.sum(1).numpy()
    return Truth(mu, fibres, water, _least_angle(mu, fibres))


def _least_angle(axes: NDArray, fibres: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) degrees between the two nearest of the first `fibres` axes (n, P, 3), NaN for fewer."""
    cosine = np.abs(np.einsum("npc,nqc->npq", axes, axes))
    there = np.arange(axes.shape[1]) < fibres[:, None]
    cosine[~(there[:, :, None] & there[:, None])] = 0
    places = np.arange(axes.shape[1])
    cosine[:, places, places] = 0
    most = np.clip(cosine.max((1, 2)), 0, 1)
    return np.where(fibres > 1, np.degrees(np.arccos(most)), np.nan)


def isbi_scans(folder: Path) -> dict[str, TestScan]:
    """Every direction count and noise of phantom/isbi2012 under the data folder, by name.

    The files' b0 is one without noise. Their world is that of their gradients.
    """
    home = folder / "phantom" / "isbi2012"
    fibres = np.asarray(nib.load(home / "ISBI12__nfibers.nii").dataobj).astype(np.int64).reshape(-1)
    # Vectors as long as their fibre's share.
    axes = np.asarray(nib.load(home / "ISBI12__dir.nii").dataobj).reshape(len(fibres), 5, 3)[:, :4]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=2, keepdims=True), 1e-6)
    truth = Truth(axes, fibres, np.zeros(len(fibres), bool), _least_angle(axes, fibres))
    made = {}
    for name in _ISBI:
        count = name.split("_")[0]
        values = loadmat(home / f"ISBI12_{name}.mat")["SIGNAL"]
        bvals = np.loadtxt(home / f"bvals_{count}.txt")
        vectors = np.loadtxt(home / f"bvecs_{count}.txt").T
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        gradients = Gradients(bvals, vectors / np.where(length > 0, length, 1))
        mask = np.ones(values.shape[:3], bool)
        # Files differ by about this: their names' numbers are signal over noise, not decibels.
        level = 1000 / float(name.split("_")[1][:-2])
        dwi = DWI((1000 * values).astype(np.float32), gradients, np.eye(4), mask=mask, sigma=level)
        made[f"isbi2012 {count} directions, {name.split('_')[1]}"] = TestScan(dwi, mask, truth)
    return made
