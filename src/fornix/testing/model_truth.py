"""Voxels whose parameters are known, for tests and benchmarks of single estimators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.design import quadratic_form, quartic_form
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics.tissue import Tissue, signal

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """signals: (voxels, N) without noise, S0 = 1. values: the true parameters, each (voxels, …).

    Diffusivities in µm²/ms; axes in world space.
    """

    signals: Array
    values: dict[str, Array]


def add_noise(signals: Array, sigma: float, seed: int) -> Array:
    """Rician magnitudes: noise of standard deviation sigma on both channels."""
    rng = np.random.default_rng(seed)
    real = signals + sigma * rng.standard_normal(signals.shape)
    return np.asarray(np.hypot(real, sigma * rng.standard_normal(signals.shape)))


def tensors(gradients: Gradients, count: int, seed: int = 0) -> Truth:
    """Tensors of FA 0 to 0.95 and MD 0.4 to 1.6 µm²/ms, in any orientation and shape."""
    rng = np.random.default_rng(seed)
    anisotropy = rng.uniform(0, 1, count)[:, None]
    lam = np.sort(rng.dirichlet([1.0, 1.0, 1.0], count), axis=1)[:, ::-1]
    lam = (1 - anisotropy) / 3 + anisotropy * lam + 0.015
    lam = 3 * lam / lam.sum(1, keepdims=True) * rng.uniform(0.4, 1.6, (count, 1))
    axes = random_rotations(count, rng)
    d = np.einsum("vij,vj,vkj->vik", axes, lam, axes)
    six = np.stack([d[:, 0, 0], d[:, 1, 1], d[:, 2, 2], d[:, 0, 1], d[:, 0, 2], d[:, 1, 2]], axis=1)
    beta = np.column_stack([np.zeros(count), six])
    mean = lam.mean(1)
    fa = np.sqrt(1.5 * ((lam - mean[:, None]) ** 2).sum(1) / (lam**2).sum(1))
    values = {
        "fa": fa, "md": mean, "ad": lam[:, 0], "rd": lam[:, 1:].mean(1), "tensor": six,
        "v1": axes[:, :, 0], "s0": np.ones(count), "eigenvalues": lam,
    }  # fmt: skip
    return Truth(np.exp(beta @ gradients.facts.tensor_design), values)


def kurtoses(gradients: Gradients, count: int, seed: int = 0) -> Truth:
    """Signals of the kurtosis model itself, with the cumulants of three Gaussian compartments.

    Two cigar-shaped ones along different axes and one free pool give D = Σ f D_i and
    V(n) = 3 Var_f(D_i(n)). Voxels with K(n) above 3/(b_max D(n)) are outside the model's range and
    are drawn again.
    """
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    bmax = float(gradients.b.max())
    sphere = _sphere_points()
    quartic = quartic_form(sphere)
    while sum(len(f) for f in found) < count:
        n = 2 * count
        axes = random_rotations(n, rng)
        share = rng.dirichlet([3.0, 2.0, 1.0], n)
        along, across = rng.uniform(1.4, 2.2, (n, 2)), rng.uniform(0.15, 0.7, (n, 2))
        d = np.zeros((n, 3, 3, 3))
        for k in range(2):
            outer = np.einsum("vi,vj->vij", axes[:, :, k], axes[:, :, k])
            d[:, k] = (
                across[:, k, None, None] * np.eye(3) + (along - across)[:, k, None, None] * outer
            )
        d[:, 2] = rng.uniform(0.8, 2.0, n)[:, None, None] * np.eye(3)
        mean = np.einsum("vk,vkij->vij", share, d)
        profile = np.einsum("qi,vkij,qj->vkq", sphere, d, sphere)
        average = np.einsum("vk,vkq->vq", share, profile)
        v = 3 * (np.einsum("vk,vkq->vq", share, profile**2) - average**2)
        good = (v <= 3 * average / bmax).all(1)
        fifteen = v @ np.linalg.pinv(quartic).T
        six = np.stack(
            [mean[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], axis=1
        )
        found.append(np.column_stack([np.zeros(n), six, fifteen])[good])
    beta = np.concatenate(found)[:count]
    return Truth(np.exp(beta @ gradients.facts.kurtosis_design), kurtosis_values(beta))


def kurtosis_values(beta: Array) -> dict[str, Array]:
    """Mk ak rk kfa md from (voxels, 22) by brute force: a fine sphere turned into the eigenframe."""
    count = len(beta)
    out = {name: np.empty(count) for name in ("mk", "ak", "rk", "kfa", "md", "fa")}
    nodes, weights = np.polynomial.legendre.leggauss(64)
    phi = 2 * np.pi * np.arange(64) / 64
    radius = np.sqrt(1 - nodes**2)
    local = np.stack(
        [np.repeat(nodes, 64), np.outer(radius, np.cos(phi)).ravel(),
         np.outer(radius, np.sin(phi)).ravel()], axis=1,
    )  # fmt: skip
    weights = np.repeat(weights, 64) / 128
    circle = np.column_stack([np.zeros(64), np.cos(phi), np.sin(phi)])
    times = np.array([1.0] * 3 + [4.0] * 6 + [6.0] * 3 + [12.0] * 3)
    iso = np.array([1.0] * 3 + [0.0] * 6 + [1 / 3] * 3 + [0.0] * 3)
    for v, (six, fifteen) in enumerate(zip(beta[:, 1:7], beta[:, 7:])):
        xx, yy, zz, xy, xz, yz = six
        lam, vec = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        frame = vec[:, ::-1].T

        def k(
            points: Array, frame: Array = frame, six: Array = six, fifteen: Array = fifteen
        ) -> Array:
            n = points @ frame
            return np.asarray((quartic_form(n) @ fifteen) / (quadratic_form(n) @ six) ** 2)

        out["mk"][v] = weights @ k(local)
        out["ak"][v] = k(np.array([[1.0, 0.0, 0.0]]))[0]
        out["rk"][v] = k(circle).mean()
        mean = (times * iso) @ fifteen / 5
        out["kfa"][v] = np.sqrt((times @ (fifteen - mean * iso) ** 2) / (times @ fifteen**2))
        out["md"][v] = lam.mean()
        out["fa"][v] = np.sqrt(1.5 * ((lam - lam.mean()) ** 2).sum() / (lam**2).sum())
    return out


def noddis(gradients: Gradients, count: int, seed: int = 0, extra: str = "mean") -> Truth:
    """NODDI voxels over the whole range, a quarter of them without free water.

    Args:
        gradients: The protocol.
        count: How many voxels.
        seed: Of all chance.
        extra: `mean`, the published extra-neurite part, or `dispersed`, as in `fornix.physics.signal`.
    """
    rng = np.random.default_rng(seed)
    ndi, odi = rng.uniform(0.1, 0.9, count), rng.uniform(0.04, 0.8, count)
    fwf = np.where(rng.random(count) < 0.25, 0.0, rng.uniform(0, 0.8, count))
    axes = random_rotations(count, rng)[:, :, 0]
    tissue = Tissue(
        mu=torch.tensor(axes)[:, None],
        fraction=torch.ones(count, 1, dtype=torch.float64),
        odi=torch.tensor(odi)[:, None],
        ndi=torch.tensor(ndi),
        fwf=torch.tensor(fwf),
        d_par=torch.full((count,), 1.7, dtype=torch.float64),
    )
    made = signal(tissue, gradients, extra="mean" if extra == "mean" else "dispersed")
    values = {"ndi": ndi, "odi": odi, "fwf": fwf, "direction": axes, "s0": np.ones(count)}
    return Truth(made.numpy(), values)


#: The simulation of each model.
MODELS = {"dti": tensors, "dki": kurtoses, "noddi": noddis}


def as_dwi(signals: Array, gradients: Gradients, sigma: float | None = None) -> DWI:
    """Signals (voxels, N) as a scan on a (voxels, 1, 1) grid."""
    data = signals[:, None, None].astype(np.float32)
    return DWI(data, gradients, np.diag([2.0, 2.0, 2.5, 1.0]), sigma=sigma)


def random_rotations(count: int, rng: np.random.Generator) -> Array:
    """(count, 3, 3) orthogonal matrices, uniformly distributed."""
    q, r = np.linalg.qr(rng.standard_normal((count, 3, 3)))
    return np.asarray(q * np.sign(np.einsum("vii->vi", r))[:, None, :])


def _sphere_points() -> Array:
    from fornix.numerics.directions import fibonacci

    return fibonacci(200)
