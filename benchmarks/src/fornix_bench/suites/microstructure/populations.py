"""Test populations: tissue with known truth, unlike what the learned estimators were trained on.

`anatomy` and `exchange` differ from training in anatomy, in noise and in the model itself; `subject`
and `random` are held-out members of the training population, which flatter (docs: "in-distribution").
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.design import quadratic_form, quartic_form
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics import Anatomy, Noise, Tissue, random_tissue, signal, truth
from fornix.physics import noise as noises
from fornix.physics.anatomy import embedded, from_subject
from fornix.physics.anatomy.model import VOLUMES
from fornix.physics.anatomy.variation import aged, smooth_field, vary, with_lesions
from fornix_bench.suites.microstructure.exchange import Exchanging

Array = NDArray[np.float64]
Block = tuple[int, int, int]

#: Noise unlike training's: four correlated coils, uneven in space, correlated by interpolation.
UNSEEN_NOISE = Noise(coils=4, coil_correlation=0.3, variation=0.3, smoothing=0.8)
#: White matter: more than this share of the voxel.
WHITE = 0.7
#: Loose voxels lie this far apart on their grid, so that no estimator takes them for neighbours.
APART = 4


@dataclass(frozen=True, eq=False)
class Scan:
    """A simulated scan: `dwi` with its mask, S0 = 1000 in white matter; sigma: (X, Y, Z).

    sigma: standard deviation that the noise has where the signal is high.
    """

    dwi: DWI
    sigma: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TestPopulation:
    """Voxels with truth, which any protocol can scan.

    mask: (X, Y, Z) bool, n voxels. clean: gradients -> noise-free signals (n, N).
    truth: by map name (`dti_fa`, …), (n, …), diffusivities in µm²/ms.
    regions: masks over the voxels, (n,) bool: `brain`, and where there are any `white` (healthy white
        matter) and `lesion`.
    noise: what the scanner adds; its snr is set by `scan`.
    """

    name: str
    mask: NDArray[np.bool_]
    affine: Array
    clean: Callable[[Gradients], torch.Tensor]
    truth: dict[str, Array]
    regions: dict[str, NDArray[np.bool_]]
    noise: Noise
    reference: float = 1000.0

    def __len__(self) -> int:
        return int(self.mask.sum())

    @property
    def region(self) -> str:
        """The region whose scores count: white matter, or the brain where there is too little."""
        return "white" if "white" in self.regions else "brain"

    def scan(self, gradients: Gradients, snr: float, seed: int = 0) -> Scan:
        """Scan it: white matter's signal at b = 0 over the noise's standard deviation is `snr`.

        Correlated coils add up to more noise than one has; the level of each is lowered for that.
        """
        model = replace(self.noise, snr=snr)
        raised = np.sqrt(1 + (model.coils - 1) * model.coil_correlation)
        level = noises.sigma_map(model, self.grid, self.reference, seed)
        signals = self.clean(gradients).float()
        volume = torch.zeros(*self.grid, len(gradients))
        volume[torch.as_tensor(self.mask)] = signals
        noisy = noises.add(volume, level / raised, model, seed)
        dwi = DWI(noisy.numpy(), gradients, self.affine, mask=self.mask, stem=f"sub-{self.name}")
        return Scan(dwi, level.numpy())

    def scored(self, name: str) -> NDArray[np.bool_]:
        """(n,) voxels in which intervals of this map are scored: all of them here."""
        return np.ones(len(self), dtype=bool)

    @property
    def grid(self) -> Block:
        """(X, Y, Z)."""
        x, y, z = self.mask.shape
        return x, y, z


def anatomical(
    block: Block, seed: int = 900, voxel_size: float = 2.5, lesions: int = 8
) -> TestPopulation:
    """A block of an aged head with lesions, of another atlas than training's, partly off the model.

    d_perp is free of the tortuosity, half of the voxels hold a still, restricted part (a dot) of up
    to 6%; noise is `UNSEEN_NOISE`.
    """
    head = aged(_middle(_head(voxel_size, seed), block), 0.4)
    if lesions:
        head = with_lesions(head, lesions, seed)
    rng = np.random.default_rng([seed, 51])
    free = head.d_perp * np.exp(0.2 * smooth_field(head, rng, 10.0))
    head = head.with_(d_perp=np.clip(free, 0.05, 0.9 * np.maximum(head.d_par, 0.1)).astype("f4"))
    dot = np.clip(0.03 * smooth_field(head, rng, 10.0), 0, 0.06)[head.mask]
    tissue = head.tissue()
    dot = np.minimum(dot, 1 - tissue.fwf.numpy())
    tissue = tissue.with_(restricted=torch.as_tensor(dot.astype(np.float32)))
    return _of_tissue("anatomy", head, tissue, UNSEEN_NOISE)


def exchanging(block: Block, seed: int = 901, voxel_size: float = 2.5) -> TestPopulation:
    """A block of a head whose axons have width and leak: see `exchange.py`. No NODDI truth."""
    head = with_lesions(_middle(_head(voxel_size, seed), block), 4, seed)
    rng = np.random.default_rng([seed, 52])

    def between(low: float, high: float) -> torch.Tensor:
        wave = smooth_field(head, rng, 15.0)[head.mask]
        share = (np.argsort(np.argsort(wave)) + 0.5) / len(wave)
        return torch.as_tensor(low + (high - low) * share)

    wet = Exchanging(head.tissue(), between(0.05, 0.3), between(0.0, 1.0))
    known = _fitted(replace(wet, tissue=wet.tissue.with_(s0=None)).signal)
    noise = Noise(variation=0.2, smoothing=0.5)
    return TestPopulation(
        "exchange", head.mask, head.affine, wet.signal, known, _regions(head), noise, head.reference
    )


def subject(block: Block, seed: int = 902) -> TestPopulation | None:
    """A held-out variation of the training anatomy; None where that is not on this machine."""
    folder = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "anatomy"
    if not (folder / "bedpostx").is_dir():
        return None
    head = _middle(vary(from_subject(folder), seed, lesions=0), block)
    head = with_lesions(head, 4, seed)
    return _of_tissue("subject", head, head.tissue(), Noise())


def single_voxels(count: int, seed: int = 903) -> TestPopulation:
    """Held-out voxels of `random_tissue`, far apart on their grid."""
    tissue = random_tissue(count, seed).with_(s0=torch.full((count,), 1000.0))
    mask = np.zeros((APART * count, 1, 1), bool)
    mask[::APART] = True
    known = _known(tissue)
    regions = {"brain": np.ones(count, bool)}
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    return TestPopulation(
        "random", mask, affine, lambda g: signal(tissue, g), known, regions, Noise()
    )  # fmt: skip


@lru_cache(maxsize=4)
def _head(voxel_size: float, seed: int) -> Anatomy:
    return embedded(voxel_size, seed)


def _middle(head: Anatomy, block: Block) -> Anatomy:
    """The part of the head of at most `block` voxels around the middle of its white matter."""
    centre = np.argwhere(head.wm > WHITE).mean(0)
    start = [
        int(np.clip(round(c) - size // 2, 0, max(whole - size, 0)))
        for c, size, whole in zip(centre, block, head.grid)
    ]
    part = tuple(slice(s, s + size) for s, size in zip(start, block))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(start)
    volumes = {name: getattr(head, name)[part] for name in (*VOLUMES, "lesions", "mask")}
    return head.with_(affine=affine, bundles={}, **volumes)


def _of_tissue(name: str, head: Anatomy, tissue: Tissue, noise: Noise) -> TestPopulation:
    return TestPopulation(
        name, head.mask, head.affine, lambda g: signal(tissue, g), _known(tissue), _regions(head),
        noise, head.reference,
    )  # fmt: skip


def _regions(head: Anatomy) -> dict[str, NDArray[np.bool_]]:
    white, lesion = head.wm[head.mask] > WHITE, head.lesions[head.mask] > 0
    found = {"white": white & ~lesion, "lesion": white & lesion, "brain": np.ones_like(white)}
    return {k: v for k, v in found.items() if v.sum() >= 20 or k == "brain"}


def _known(tissue: Tissue) -> dict[str, Array]:
    found = truth.fitted(tissue) | truth.noddi(tissue)
    return {k: v.double().numpy() for k, v in found.items()}


def _fitted(clean: Callable[[Gradients], torch.Tensor]) -> dict[str, Array]:
    """Tensor and kurtosis truth of any model: as `truth.fitted`, from its own noise-free signals."""
    gradients = truth.dense_protocol()
    b, table = gradients.b, gradients.directions
    signals = clean(gradients).double()
    rows = np.hstack(
        [
            np.ones((len(b), 1)),
            -b[:, None] * quadratic_form(table),
            (b**2 / 6)[:, None] * quartic_form(table),
        ]
    )
    low = b <= 1.0
    six = truth.log_fit(signals[:, torch.as_tensor(low)], rows[low, :7])[:, 1:]
    made = {f"dti_{k}": v for k, v in truth.tensor_metrics(six).items()}
    whole = truth.log_fit(signals, rows)
    v1 = truth.tensor_metrics(whole[:, 1:7])["v1"]
    kurtosis = truth.kurtosis_metrics(whole[:, 1:7], whole[:, 7:], v1)
    made |= {f"dki_{k}": v for k, v in kurtosis.items()}
    return {k: v.numpy() for k, v in made.items()}
