"""The mathematical properties every Fornix estimator must have, as tools for tests.

from fornix.testing import assert_invariant, assert_rotates, assert_gradient_order_free

assert_invariant(lambda dwi: fornix.microstructure(dwi, models=("dti",))["fa"].data, dwi)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.core.dwi import DWI
from fornix.numerics import harmonics


def turned(dwi: DWI, seed: int = 0) -> tuple[DWI, NDArray[np.float64]]:
    """The same scan with header and gradients turned together, and the (3, 3) rotation."""
    rotation = Rotation.random(random_state=seed).as_matrix()
    affine = dwi.affine.copy()
    affine[:3] = rotation @ affine[:3]
    return dwi.with_(affine=affine, gradients=dwi.gradients.rotated(rotation)), rotation


def assert_invariant(
    estimate: Callable[[DWI], NDArray], dwi: DWI, atol: float = 1e-4, seed: int = 0
) -> None:
    """A scalar map must not change where scan and gradients are turned together."""
    other, _ = turned(dwi, seed)
    np.testing.assert_allclose(estimate(other), estimate(dwi), atol=atol, rtol=0)


def assert_rotates(
    estimate: Callable[[DWI], NDArray],
    dwi: DWI,
    kind: str = "axis",
    atol: float = 1e-4,
    seed: int = 0,
) -> None:
    """An orientation-dependent map must turn with the scan.

    Args:
        estimate: Function of a scan.
        dwi: The scan.
        kind: `axis` (…, 3) unit vectors without sign; `tensor` (…, 6) as xx yy zz xy xz yz; `harmonics`
            (…, coefficients).
        atol: Largest difference that is allowed.
        seed: Of all chance.
    """
    other, rotation = turned(dwi, seed)
    before, after = np.asarray(estimate(dwi)), np.asarray(estimate(other))
    if kind == "axis":
        expected = before @ rotation.T
        after = after * np.where((after * expected).sum(-1, keepdims=True) < 0, -1, 1)
    elif kind == "tensor":
        expected = matrix_to_six(rotation @ six_to_matrix(before) @ rotation.T)
    elif kind == "harmonics":
        lmax = harmonics.lmax_of(before.shape[-1])
        expected = before @ harmonics.rotation_matrix(lmax, rotation).T
    else:
        raise ValueError(f"kind is axis, tensor or harmonics, not {kind!r}")
    np.testing.assert_allclose(after, expected, atol=atol, rtol=0)


def assert_gradient_order_free(
    estimate: Callable[[DWI], NDArray], dwi: DWI, atol: float = 1e-4, seed: int = 0
) -> None:
    """The order of the volumes must not matter."""
    order = np.random.default_rng(seed).permutation(len(dwi.gradients))
    np.testing.assert_allclose(estimate(dwi.subset(order)), estimate(dwi), atol=atol, rtol=0)


def six_to_matrix(six: NDArray) -> NDArray:
    """(…, 6) xx yy zz xy xz yz to (…, 3, 3)."""
    xx, yy, zz, xy, xz, yz = np.moveaxis(np.asarray(six), -1, 0)
    return np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(*np.shape(six)[:-1], 3, 3)


def matrix_to_six(matrix: NDArray) -> NDArray:
    """The inverse of `six_to_matrix`."""
    m = np.asarray(matrix)
    return np.stack(
        [m[..., 0, 0], m[..., 1, 1], m[..., 2, 2], m[..., 0, 1], m[..., 0, 2], m[..., 1, 2]], -1
    )
