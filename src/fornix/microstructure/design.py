"""Design matrices of the log-linear models, and what a protocol can and cannot give.

Every refusal is a reason in words: it is what `fornix info` prints and what the error says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients

#: Kurtosis biases the tensor above this b-value, s/mm²; volumes above are left out of a DTI fit.
DTI_BMAX = 1500.0
#: The kurtosis expansion needs diffusion weighting that makes it visible, s/mm².
DKI_BMAX_AT_LEAST = 1450.0

#: Powers of x, y, z of the 15 elements of a fully symmetric 4th-order tensor, and how often each
#: occurs. The order is DIPY's: xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz xxyz
#: xyyz xyzz.
QUARTIC = (
    (4, 0, 0, 1), (0, 4, 0, 1), (0, 0, 4, 1), (3, 1, 0, 4), (3, 0, 1, 4),
    (1, 3, 0, 4), (0, 3, 1, 4), (1, 0, 3, 4), (0, 1, 3, 4), (2, 2, 0, 6),
    (2, 0, 2, 6), (0, 2, 2, 6), (2, 1, 1, 12), (1, 2, 1, 12), (1, 1, 2, 12),
)  # fmt: skip


def quadratic_form(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 6) with D(n) = row @ (Dxx, Dyy, Dzz, Dxy, Dxz, Dyz).

    A zero direction (a b0 whose direction is unknown) gets the mean over the sphere.
    """
    x, y, z = np.asarray(directions, dtype=np.float64).T
    rows = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=-1)
    rows[(rows[:, :3].sum(1)) < 0.5] = [1 / 3, 1 / 3, 1 / 3, 0, 0, 0]
    return rows


def quartic_form(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 15) with V(n) = row @ the 15 elements of a symmetric 4th-order tensor, as `QUARTIC`."""
    x, y, z = np.asarray(directions, dtype=np.float64).T
    rows = np.stack([c * x**i * y**j * z**k for i, j, k, c in QUARTIC], axis=-1)
    zero = (x * x + y * y + z * z) < 0.5
    rows[zero] = [0.2] * 3 + [0.0] * 6 + [0.4] * 3 + [0.0] * 3
    return rows


def tensor_design(gradients: Gradients) -> NDArray[np.float64]:
    """(7, N): ln S = column · (ln S0, Dxx, Dyy, Dzz, Dxy, Dxz, Dyz), D in µm²/ms."""
    b = gradients.b
    rows = np.column_stack([np.ones(len(b)), -b[:, None] * quadratic_form(gradients.directions)])
    return np.ascontiguousarray(rows.T)


def kurtosis_design(gradients: Gradients) -> NDArray[np.float64]:
    """(22, N): as the tensor's, then 15 elements of V = MD² W with weight b²/6."""
    b = gradients.b
    quartic = b[:, None] ** 2 / 6 * quartic_form(gradients.directions)
    return np.ascontiguousarray(np.vstack([tensor_design(gradients), quartic.T]))


def condition(design: NDArray[np.float64]) -> float:
    """Condition number of a design (p, N) with its rows scaled to unit length; inf if rank-poor."""
    p, n = design.shape
    length = np.linalg.norm(design, axis=1)
    if n < p or (length == 0).any():
        return float("inf")
    values = np.linalg.svd(design / length[:, None], compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 1e-7 * values[0] else float("inf")


def axes_count(gradients: Gradients, smallest_angle: float = 1.0) -> int:
    """Number of different axes among the non-b0 directions (opposite ones are the same axis)."""
    directions = gradients.directions[~gradients.b0_mask]
    same = np.abs(directions @ directions.T) >= np.cos(np.radians(smallest_angle))
    left = np.ones(len(directions), dtype=bool)
    count = 0
    for k in range(len(directions)):
        if left[k]:
            left &= ~same[k]
            left[k] = False
            count += 1
    return count


def dti_volumes(
    gradients: Gradients, bmax: float | None = DTI_BMAX
) -> tuple[NDArray[np.bool_], str]:
    """Which volumes a tensor fit uses, and a note if not all.

    Volumes above `bmax` (s/mm²; None: use all) are left out where the others still give a well
    conditioned design.
    """
    every = np.ones(len(gradients), dtype=bool)
    if bmax is None:
        return every, ""
    low = gradients.bvals <= bmax * 1.03  # scanners write 1503 for 1500
    if low.all():
        return every, ""
    if not why_not_dti(gradients.subset(low)) and axes_count(gradients.subset(low)) >= 6:
        chosen, full = tensor_design(gradients.subset(low)), tensor_design(gradients)
        if condition(chosen) <= max(20.0, 3.0 * condition(full)):
            return low, (
                f"dti: fitted to the {int(low.sum())} of {len(low)} volumes with b <= {bmax:g} s/mm² "
                "(kurtosis biases the tensor above; dti_bmax changes this)"
            )
    return every, (
        f"dti: fitted to all volumes, up to b={gradients.bvals.max():.0f}: those with b <= {bmax:g} "
        "s/mm² alone do not give a well conditioned tensor"
    )


def why_not_dti(gradients: Gradients) -> str:
    """Empty where a tensor can be fitted, else the reason why not."""
    axes = axes_count(gradients)
    if axes == 0:
        return "there is no diffusion-weighted volume"
    if axes < 6:
        return f"a tensor needs 6 or more different directions, this scan has {axes}"
    if _levels(gradients) < 2:
        return (
            "a tensor needs a b0 or a second b-value, this scan has only "
            f"b={gradients.bvals.mean():.0f} s/mm²"
        )
    if not np.isfinite(condition(tensor_design(gradients))):
        return f"its {axes} directions lie so that a tensor is not determined (rank below 7)"
    return ""


def why_not_dki(gradients: Gradients, learned: bool = False) -> str:
    """Empty where the kurtosis tensor can be fitted, else the reason why not.

    learned: a trained estimator does, which knows what tissue looks like and needs fewer directions.
    """
    shells = gradients.shells
    if len(shells) < 2:
        return f"kurtosis needs two or more non-zero shells, this scan has {len(shells)}"
    if shells[-1].b < DKI_BMAX_AT_LEAST:
        return f"kurtosis needs b of about 1500 s/mm² or more, the largest shell is b={shells[-1].b:.0f}"
    axes = axes_count(gradients)
    if learned:
        return "" if axes >= 6 else f"kurtosis needs 6 or more directions, this scan has {axes}"
    if axes < 15:
        return f"kurtosis needs 15 or more different directions, this scan has {axes}"
    if not np.isfinite(condition(kurtosis_design(gradients))):
        return "its directions and b-values do not determine the 22 parameters (rank below 22)"
    return ""


def why_not_noddi(gradients: Gradients) -> str:
    """Empty where all three NODDI parameters can be fitted, else the reason why not."""
    shells = gradients.shells
    if len(shells) < 2:
        return (
            "NODDI needs two or more non-zero shells: with "
            f"{len(shells)} the free-water fraction cannot be separated from the neurite density"
        )
    axes = axes_count(gradients)
    if axes < 6:
        return f"NODDI needs 6 or more different directions, this scan has {axes}"
    if _levels(gradients) < 3:
        return "NODDI needs a b0 beside two shells, or a third shell; this scan has neither"
    return ""


def what_can_be_estimated(gradients: Gradients, learned: bool = False) -> dict[str, str]:
    """For each model (`dti`, `dki`, `noddi`): empty if this protocol gives it, else why not.

    learned: by a trained estimator; else by a fit.
    """
    return {
        "dti": why_not_dti(gradients),
        "dki": why_not_dki(gradients, learned),
        "noddi": why_not_noddi(gradients),
    }


def _levels(gradients: Gradients) -> int:
    """Number of different b-values, b0s counting as one."""
    return len(gradients.shells) + bool(gradients.b0_mask.any())
