"""The noise level: the standard deviation of the complex channels, as a map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import gammaincinv

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.methods import Method, MethodTable
from fornix.preprocess._median import cube_median
from fornix.preprocess._noise_components import smallest_component
from fornix.preprocess.signal_designs import residual_bases, signal_designs

#: Weighted volumes that `components` needs.
_FEWEST = 3
#: Volumes from which `signal_designs` holds anisotropy and leaves something over.
_ON_A_SHELL, _ALONG_B = 7, 14
#: Voxels by which a given level is judged, and the factor from which it is doubted.
_JUDGED, _FAR = 4000, 3.0


def estimate_noise(dwi: DWI, *, method: str = "auto") -> DWI:
    """The scan with its noise level `sigma` set, a map (X, Y, Z) in units of the data.

    Args:
        dwi: The scan.
        method: An entry of NOISE_METHODS, or `auto`: `residual` where the protocol leaves a volume more than
            the model has parameters, else `components`, and `spatial` for fewer than three weighted volumes.
    """
    if method == "auto":
        few = "components" if _weighted(dwi) >= _FEWEST else "spatial"
        method = "residual" if _degrees_of_freedom(dwi) >= 1 else few
    sigma = NOISE_METHODS[method].run(dwi)
    signal = np.abs(dwi.mean_b0()).max()
    if not np.isfinite(sigma).all() or np.median(sigma) <= 1e-6 * signal:
        if broken := _not_numbers(dwi):
            raise FornixError(
                f"volumes {broken} hold values that are not numbers; leave them out with --exclude {broken}"
            )
        raise FornixError(
            f"the noise level could not be estimated by {method!r} (too few voxels or volumes, or "
            "noise-free data); give it with --sigma"
        )
    return dwi.with_(sigma=sigma.astype(np.float32))


def snr(dwi: DWI) -> NDArray[np.floating]:
    """Mean b0 over the noise level, (X, Y, Z); the noise level must be known."""
    if dwi.sigma is None:
        raise FornixError("the noise level is not known; call estimate_noise first")
    sigma = np.broadcast_to(np.asarray(dwi.sigma, dtype=np.float32), dwi.grid)
    return dwi.mean_b0() / np.maximum(sigma, 1e-12)


def noise_of_voxels(dwi: DWI, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Noise level of some voxels: as the scan has it, else estimated.

    Args:
        dwi: The scan.
        voxels: (n,) flat indices of its grid.

    Returns:
        (n,) in units of the data.

    Raises:
        FornixError: The scan has none and it cannot be estimated.
    """
    level = estimate_noise(dwi).sigma if dwi.sigma is None else dwi.sigma
    return np.broadcast_to(np.asarray(level, np.float64), dwi.grid).reshape(-1)[voxels]


def noise_doubt(dwi: DWI, sigma: float | NDArray[np.floating], voxels: NDArray[np.int64]) -> str:
    """One line where a noise level that was given is far from what the scan itself shows; else empty.

    Args:
        dwi: The scan.
        sigma: The level, or (n,) of these voxels, in units of the data.
        voxels: (n,) flat indices of the brain.
    """
    if not len(voxels):
        return ""
    some = voxels[np.linspace(0, len(voxels) - 1, min(len(voxels), _JUDGED)).astype(np.int64)]
    shown, far = _scatter(dwi, some), _FAR
    if not np.isfinite(shown) and _weighted(dwi) >= _FEWEST:
        # Told twice too high or low itself, where no volume is left over.
        shown, far = float(np.nanmedian(components(dwi).reshape(-1)[some])), 2 * _FAR
    given = float(np.median(np.broadcast_to(sigma, voxels.shape)))
    # What is no level at all is refused where it is used.
    if not (shown > 0 and given > 0) or 1 / far < given / shown < far:
        return ""
    return (
        f"the noise level given ({given:.3g}) is {given / shown:.2g} times what the volumes' own scatter "
        f"shows ({shown:.3g}): estimates and intervals rest on it; leave --sigma out to have it estimated"
    )


def _scatter(dwi: DWI, voxels: NDArray[np.int64]) -> float:
    """Noise level that the volumes of some voxels leave over; nan where none is left."""
    parts = _leftovers(dwi.gradients)
    freedom = sum(left.shape[1] for left, _ in parts)
    if freedom < 1:
        return float("nan")
    chosen = np.zeros(dwi.grid, dtype=bool)
    chosen.reshape(-1)[voxels] = True
    signals = np.concatenate([part for _, part in dwi.inside(chosen)])
    squared = sum(((signals[:, index] @ left) ** 2).sum(-1) for left, index in parts)
    return float(np.sqrt(np.median(squared) / (2 * gammaincinv(freedom / 2, 0.5))))


def residual(dwi: DWI) -> NDArray[np.float64]:
    """From what a harmonic fit to each shell leaves over, pooled over a 5x5x5 neighbourhood.

    The scan's own repetition in angle is used, so interpolated (spatially correlated) noise is not
    underestimated. The neighbourhood is pooled by the median, which edges and motion move little.
    """
    inside = _foreground(dwi)
    squared, freedom = _residuals(dwi, inside)
    if freedom < 1:
        raise FornixError(
            "too few volumes for the residual noise estimate; give the level with --sigma"
        )
    local = _masked_median(squared, inside, 5)
    # The median of a chi-square variable, not its mean, is what the median of the voxels estimates.
    return np.sqrt(local / (2 * gammaincinv(freedom / 2, 0.5)))


def components(dwi: DWI) -> NDArray[np.float64]:
    """From the smallest principal component of the weighted volumes in each 5x5x5 neighbourhood.

    For protocols that leave no residuals, such as six directions and a b0: `fornix bench noise` says how near
    it comes.
    """
    if _weighted(dwi) < _FEWEST:
        raise FornixError(
            f"`components` needs {_FEWEST} weighted volumes, this scan has {_weighted(dwi)}; take `spatial`"
        )
    inside = _foreground(dwi)
    found = smallest_component(np.asarray(dwi.data[..., ~dwi.gradients.b0_mask]), inside)
    return found if np.isfinite(found).any() else spatial(dwi)


def spatial(dwi: DWI) -> NDArray[np.float64]:
    """From spatial differences of the residual volumes: works for one or two volumes.

    Structure is removed first by the tensor-like fit, then by second differences along each axis in
    the plane. Underestimates where the scanner interpolated the image, up to three times.
    """
    design, volumes = signal_designs(dwi.gradients)[-1]
    data = np.asarray(dwi.data[..., volumes])
    if len(volumes) > design.shape[1]:
        data = np.asarray(data - (data @ np.linalg.pinv(design).T) @ design.T, dtype=np.float32)
        spread = 1 - design.shape[1] / len(volumes)
    else:
        spread = 1.0
    kernel = np.array([1.0, -2.0, 1.0]) / np.sqrt(6)
    for axis in [a for a in range(2) if dwi.grid[a] >= 3]:
        data = ndimage.convolve1d(data, kernel, axis=axis)
    local = _masked_median(np.median(np.abs(data), axis=3), _foreground(dwi), 7)
    return local / 0.6745 / np.sqrt(spread)


def piesno(dwi: DWI) -> NDArray[np.float64]:
    """DIPY's PIESNO on the background, one level for the scan; needs an unmasked background."""
    from dipy.denoise.noise_estimate import piesno as dipy_piesno

    sigma, background = dipy_piesno(np.asarray(dwi.data), 1, return_mask=True)
    level = float(np.median(sigma))
    if not background.any() or level <= 0:
        raise FornixError(
            "PIESNO found no background of pure noise in this scan; use another method"
        )
    return np.full(dwi.grid, level)


def _not_numbers(dwi: DWI) -> str:
    inside = _foreground(dwi)
    broken: set[int] = set()
    for _, part in dwi.inside(inside):
        broken |= set(np.flatnonzero(~np.isfinite(part).all(0)))
    return ",".join(str(dwi.gradients.numbers[v]) for v in sorted(broken))


def _weighted(dwi: DWI) -> int:
    return int((~dwi.gradients.b0_mask).sum())


def _degrees_of_freedom(dwi: DWI) -> int:
    return sum(left.shape[1] for left, _ in _leftovers(dwi.gradients))


def _leftovers(gradients: Gradients) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Bases of what fits leave over, of groups of volumes in which that is noise.

    The design of few directions has no anisotropy, which would count as noise.
    """
    b0, least = gradients.b0_mask, _ALONG_B if gradients.continuous_b else _ON_A_SHELL
    return [
        (left, index) for left, index in residual_bases(gradients)
        if b0[index].all() or len(index) >= least
    ]  # fmt: skip


def _residuals(dwi: DWI, inside: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Sum of squared residuals over all shells of the inside voxels, and its degrees of freedom."""
    parts = _leftovers(dwi.gradients)
    total = np.zeros(dwi.grid)
    for voxels, signals in dwi.inside(inside):
        squared = [((signals[:, index] @ left) ** 2).sum(-1) for left, index in parts]
        total.reshape(-1)[voxels] = sum(squared, np.zeros(len(signals)))
    return total, sum(left.shape[1] for left, _ in parts)


def _foreground(dwi: DWI) -> NDArray[np.bool_]:
    if dwi.mask is not None:
        return dwi.mask
    b0 = dwi.mean_b0()
    return b0 > 0.3 * np.percentile(b0, 98)


def _masked_median(values: NDArray, inside: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Median of the inside voxels of each neighbourhood; the nearest one's for voxels far away."""
    inside = inside & np.isfinite(values) & (values > 0)
    if not inside.any():
        return np.full(values.shape, np.nan)
    # Outside voxels get their nearest inside value, so that no edge enters the median.
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    coarse = [max(1, size // 2) if n > size else 1 for n in values.shape]
    median = cube_median(values, inside, tuple(nearest), size)
    return ndimage.gaussian_filter(median, sigma=[c / 2 for c in coarse], mode="nearest")


NOISE_METHODS = MethodTable(
    "noise",
    [
        Method("residual", residual, "residuals of a harmonic fit to each shell"),
        Method(
            "components",
            components,
            "smallest principal component of each neighbourhood; 3 volumes suffice",
            "Veraart et al., NeuroImage 2016",
        ),
        Method("spatial", spatial, "spatial differences of volumes; one volume suffices"),
        Method(
            "piesno", piesno, "background statistics, DIPY", "Koay et al., JMR 2009", peer="DIPY"
        ),
    ],
)
