"""Heads in small voxels, measured in larger ones: what is scored, and what is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.enhance.grids import fine_mask
from fornix.physics.anatomy import Anatomy
from fornix.physics.anatomy.model import VOLUMES
from fornix.physics.point_spread import Grid, Measurement
from fornix.physics.tissue import signal

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Measured:
    """A scan in large voxels and its truth in small ones.

    Attributes:
        dwi: With mask and true noise level.
        truth: (x, y, z, N) signals of the small voxels without noise.
        mask: (x, y, z) where they are scored.
        fine: Their grid.
        operator: From small voxels to measured ones.
    """

    dwi: DWI
    truth: Array
    mask: NDArray[np.bool_]
    fine: Grid
    operator: Measurement


def measured(
    head: Anatomy,
    gradients: Gradients,
    voxel_size: tuple[float, float, float],
    snr: float,
    seed: int = 0,
    partial_fourier: float = 1.0,
) -> Measured:
    """Scan a head of small voxels in larger ones: slices along z, k-space in the plane, phase along y."""
    clean = np.zeros((*head.grid, len(gradients)), np.float32)
    made = signal(head.tissue(), gradients)
    clean[head.mask] = made.numpy()
    return measured_signals(
        clean,
        head.mask,
        head.affine,
        gradients,
        voxel_size,
        head.reference,
        snr,
        seed,
        partial_fourier,
    )


def measured_signals(
    clean: Array,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    gradients: Gradients,
    voxel_size: tuple[float, float, float],
    reference: float,
    snr: float,
    seed: int = 0,
    partial_fourier: float = 1.0,
) -> Measured:
    """As `measured`, of signals (x, y, z, N) that are known already."""
    x, y, z = mask.shape
    given = Grid((x, y, z), affine)
    coarse = given.finer(np.array(voxel_size))
    operator = Measurement.of(coarse, given, ("sinc", "sinc", "slice"), (1.0, partial_fourier, 1.0))
    rng = np.random.default_rng([seed, 81])
    image = operator.measured(clean)
    level = np.float32(reference / snr) if np.isfinite(snr) else np.float32(0)
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * level
    image = np.hypot(image + noise[0], noise[1])
    seen = operator.measured(mask.astype(np.float32)) > 0.5
    meta = {"PhaseEncodingDirection": "j", "PartialFourier": partial_fourier}
    dwi = DWI(
        image, gradients, coarse.affine, mask=seen, sigma=np.full(seen.shape, max(level, 1e-3), np.float32),
        stem="sub-phantom", meta=meta,
    )  # fmt: skip
    return Measured(dwi, clean, mask & fine_mask(seen, coarse, given), given, operator)


def block_of(head: Anatomy, size: int, centre: NDArray[np.float64] | None = None) -> Anatomy:
    """A cube of a head about a place, in voxels, or about its middle; bundles are left out."""
    middle = np.array(head.grid) / 2 if centre is None else centre
    start = np.clip(
        np.round(middle - size / 2).astype(int), 0, np.maximum(np.array(head.grid) - size, 0)
    )
    box = tuple(slice(a, min(a + size, n)) for a, n in zip(start, head.grid))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    values = {n: getattr(head, n)[box] for n in VOLUMES}
    return head.with_(
        affine=affine, mask=head.mask[box], lesions=head.lesions[box], bundles={}, **values
    )
