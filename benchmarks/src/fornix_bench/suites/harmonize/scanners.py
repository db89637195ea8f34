"""Eight scanners that measure the same head differently, and the scan that each makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics import noise as noises
from fornix.physics.anatomy.model import VOLUMES, Anatomy
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.noise import Noise
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts, apply, plan
from fornix.physics.tissue import signal
from fornix.preprocess import estimate_noise

Mask = NDArray[np.bool_]

#: Slices of the anatomy that are scanned, and the tracts that are measured in them.
SLAB = slice(31, 42)
TRACTS = (
    "AF_left", "AF_right", "CST_left", "CST_right", "CC_2", "CC_4", "CC_6", "CG_left", "CG_right",
    "IFO_left", "IFO_right", "SLF_II_left", "SLF_II_right", "ATR_left", "ATR_right", "OR_left",
)  # fmt: skip
#: Least share of white matter of a voxel that is measured.
_WHITE = 0.5
#: mm from the isocentre at which the gradient's error is the one named.
_REACH = 80.0


@dataclass(frozen=True)
class Scanner:
    """One site.

    Attributes:
        name: Of the site.
        protocol: b0s, and (b, directions) of each shell.
        b_scale: True b over the one in the table, at the isocentre.
        nonlinearity: By how much of itself b grows 80 mm from the isocentre.
        snr: White matter at b = 0.
        coils: Of sum of squares.
        gibbs: Share of k-space that is acquired in plane.
        partial_fourier: Share of phase-encoded lines.
        filter: Full width at half maximum of the reconstruction's filter, voxels.
        tilt: Degrees by which heads lie turned.
    """

    name: str
    protocol: tuple[int, tuple[tuple[float, int], ...]]
    b_scale: float = 1.0
    nonlinearity: float = 0.0
    snr: float = 25.0
    coils: int = 1
    gibbs: float = 1.0
    partial_fourier: float = 1.0
    filter: float = 0.0
    tilt: float = 0.0

    def gradients(self) -> Gradients:
        """The table as it is written."""
        b0, levels = self.protocol
        return shells(b0, *levels)


#: S1 and S8 share a protocol, and nothing else.
SCANNERS = (
    Scanner("S1", (4, ((1000, 32), (2000, 32))), snr=30),
    Scanner("S2", (6, ((700, 16), (1200, 30), (2800, 40))), 1.03, 0.03, 25, 4, 1.0, 0.75, 0.0, 5),
    Scanner("S3", (3, ((1000, 20), (2500, 30))), 0.97, 0.0, 18, 1, 0.85, 0.875, 0.0, 10),
    Scanner("S4", (4, ((750, 25), (1500, 25))), 1.0, -0.04, 22, 8, 1.0, 1.0, 1.2, 0),
    Scanner("S5", (4, ((1000, 30), (3000, 30))), 1.02, 0.06, 28, 4, 0.9, 0.75, 0.0, 15),
    Scanner("S6", (5, ((500, 6), (1000, 15), (2000, 15), (3000, 30))), 0.98, 0.02, 20, 8, 0.8, 0.875, 0.8),
    Scanner("S7", (3, ((800, 24), (2200, 24))), 1.05, 0.0, 15, 1, 1.0, 0.875, 1.0, 5),
    Scanner("S8", (4, ((1000, 32), (2000, 32))), 0.95, 0.05, 22, 4, 0.85, 0.75, 1.2, 20),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Head:
    """A slab of one head, and where its tracts are.

    Attributes:
        anatomy: Of the slab.
        tracts: (X, Y, Z) masks by name, white matter only.
        measured: (X, Y, Z) their union.
    """

    anatomy: Anatomy
    tracts: dict[str, Mask]
    measured: Mask


def head(data: Path, number: int) -> Head:
    """A head deformed and perturbed at random, without lesions.

    Args:
        data: Folder of the real data.
        number: Of the head.
    """
    whole = vary(from_subject(data / "anatomy"), number, lesions=0)
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [0, 0, SLAB.start]
    parts = {n: getattr(whole, n)[:, :, SLAB] for n in (*VOLUMES, "lesions", "mask")}
    slab = whole.with_(affine=affine, bundles={}, **parts)
    white = (slab.wm > _WHITE) & slab.mask
    tracts = {n: whole.bundles[n].mask[:, :, SLAB] & white for n in TRACTS}
    tracts = {n: m for n, m in tracts.items() if m.sum() >= 30}
    return Head(slab, tracts, np.logical_or.reduce(list(tracts.values())))


def scan(subject: Head, scanner: Scanner, seed: Sequence[int]) -> DWI:
    """What a scanner makes of a head, its noise level estimated, its mask the tracts.

    The head lies turned and shifted at random: directions and the place in the gradient field differ, the
    grid stays the head's, as after registration without error.

    Args:
        subject: The head.
        scanner: The site.
        seed: Of position and noise.
    """
    rng = np.random.default_rng([*seed, 91])
    told = scanner.gradients()
    turn = Rotation.from_euler(
        "xyz", rng.normal([scanner.tilt, 0, 0], 4.0), degrees=True
    ).as_matrix()
    seen = told.rotated(np.broadcast_to(turn.T, (len(told), 3, 3)))
    clean = _signal(subject, seen, scanner, rng.normal(0, 8.0, 3))
    wanted = Artefacts(gibbs=scanner.gibbs, partial_fourier=scanner.partial_fourier)
    anatomy = subject.anatomy
    made, _ = apply(clean, plan(wanted, seen, anatomy.mask, anatomy.affine, seed=int(seed[0])))
    if scanner.filter:
        sigma = scanner.filter / 2.3548
        blurred = ndimage.gaussian_filter(made.numpy(), (sigma, sigma, 0, 0))
        made = torch.from_numpy(blurred)
    noise = Noise(scanner.snr, scanner.coils, smoothing=scanner.filter)
    level = noises.sigma_map(noise, anatomy.grid, anatomy.reference)
    number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    data = noises.add(made, level, noise, number).numpy()
    whole = DWI(data, seen, anatomy.affine, mask=anatomy.mask, stem="sub-bench")
    return estimate_noise(whole).with_(mask=subject.measured)


def _signal(
    subject: Head, seen: Gradients, scanner: Scanner, away: NDArray[np.float64]
) -> torch.Tensor:
    """(X, Y, Z, N) with the b-values that each place truly has: quadratic between three scales."""
    anatomy = subject.anatomy
    inside = np.argwhere(anatomy.mask)
    world = inside @ anatomy.affine[:3, :3].T + anatomy.affine[:3, 3]
    # The isocentre lies in the middle of the slab, but for how the head lies.
    r2 = ((world - world.mean(0) - away) ** 2).sum(1) / _REACH**2
    scale = scanner.b_scale * (1 + scanner.nonlinearity * r2)
    nodes = np.linspace(scale.min(), scale.max() + 1e-6, 3)
    tissue = anatomy.tissue()
    if not scanner.nonlinearity:
        found = signal(tissue, _scaled(seen, scanner.b_scale))
    else:
        x = (scale - nodes[0]) / (nodes[2] - nodes[0])
        weights = ((2 * x - 1) * (x - 1), 4 * x * (1 - x), x * (2 * x - 1))
        parts = [
            torch.as_tensor(w, dtype=torch.float32)[:, None] * signal(tissue, _scaled(seen, n))
            for w, n in zip(weights, nodes)
        ]
        found = parts[0] + parts[1] + parts[2]
    out = found.new_zeros((*anatomy.mask.shape, found.shape[1]))
    out[torch.as_tensor(anatomy.mask)] = found
    return out


def _scaled(gradients: Gradients, factor: float) -> Gradients:
    return Gradients(gradients.bvals * factor, gradients.directions)
