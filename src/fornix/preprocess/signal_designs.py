"""What signals may do within a group of volumes: linear designs whose residuals are noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.numerics import harmonics

Group = tuple[NDArray[np.float64], NDArray[np.int64]]

#: Diffusivities whose decays are to be described along b, µm²/ms.
_DIFFUSIVITIES = np.geomspace(0.05, 3.2, 24)
#: Radial functions of orders 0, 2 and 4, and how many weighted volumes they ask for at least.
_RADIAL = (((4, 3, 2), 60), ((3, 2, 1), 36), ((3, 1, 0), 14), ((2, 0, 0), 4))


def signal_designs(gradients: Gradients, lmax: int = 4) -> list[Group]:
    """For each group of volumes that belong together: (its design (n, columns), its volumes (n,)).

    The b0s are one group, each shell another, with as many harmonics as it supports. Where b-values
    follow each other without gaps there are no shells: all weighted volumes are one group then, whose
    columns are harmonics times the decays that tissue has along b.

    Args:
        gradients: The table.
        lmax: Highest order of the harmonics, 2 or 4.
    """
    groups: list[Group] = []
    b0 = np.flatnonzero(gradients.b0_mask)
    if len(b0):
        groups.append((np.ones((len(b0), 1)), b0))
    if gradients.continuous_b:
        weighted = np.flatnonzero(~gradients.b0_mask)
        groups.append((_along_b(gradients.subset(weighted), lmax), weighted))
        return groups
    for shell in gradients.shells:
        index = np.array(shell.volumes)
        order = 4 if len(index) >= 24 else 2 if len(index) >= 6 else 0
        design = harmonics.evaluate(min(order, lmax), gradients.directions[index])
        groups.append((design, index))
    return groups


def _along_b(gradients: Gradients, lmax: int) -> NDArray[np.float64]:
    """Columns for volumes of any b, orthonormal: (n, columns)."""
    counts = next((c for c, least in _RADIAL if len(gradients) >= least), (1, 0, 0))
    decays = np.exp(-np.outer(gradients.b, _DIFFUSIVITIES))
    parts = []
    for order, count in zip((0, 2, 4), counts):
        if order > lmax or not count:
            continue
        # What a fibre adds to order l grows with b to the power of l / 2 first.
        radial = gradients.b[:, None] ** (order // 2) * decays
        basis = np.linalg.svd(radial, full_matrices=False)[0][:, :count]
        every = harmonics.evaluate(order, gradients.directions)
        angular = every[:, harmonics.n_coefficients(order - 2) if order else 0 :]
        parts.append((basis[:, :, None] * angular[:, None, :]).reshape(len(gradients), -1))
    left, size, _ = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
    return left[:, size > 1e-6 * size[0]]


def residual_bases(gradients: Gradients) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """What each design cannot hold: orthonormal (volumes, freedom) and the volumes, where any is left.

    Signals times the basis are what a least-squares fit leaves over, with the noise's own deviation.
    """
    return [
        (np.linalg.qr(design, mode="complete")[0][:, design.shape[1] :].astype(np.float32), index)
        for design, index in signal_designs(gradients)
        if len(index) > design.shape[1]
    ]
