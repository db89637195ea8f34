"""What an estimator should find: every quantity that Fornix estimates, from the tissue itself.

Tensor and kurtosis quantities are defined by a fit, so their truth is that fit to a dense
noise-free protocol. NODDI's quantities, the fibre orientation density and the peaks are properties
of the tissue.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.design import QUARTIC, quadratic_form, quartic_form
from fornix.core.gradients import Gradients
from fornix.core.maps import UNITS, Map, Maps
from fornix.numerics import harmonics
from fornix.numerics.directions import spread
from fornix.physics import watson
from fornix.physics.tissue import D_FREE, Tissue, signal

FOD_LMAX = 8
#: Apparent diffusivities below this (µm²/ms) count as this where kurtosis divides by them.
SMALLEST_D = 1e-2

# Powers of x, y, z of a fully symmetric 4th-order tensor's 15 elements, and how often each occurs.
_EXPONENTS = np.array([row[:3] for row in QUARTIC])
_MULTIPLICITY = np.array([row[3] for row in QUARTIC])


@lru_cache(maxsize=1)
def dense_protocol() -> Gradients:
    """The protocol that defines tensor and kurtosis truth: 1 b0, 64 directions at 1000 and at 2000."""
    directions = np.vstack([np.zeros((1, 3)), spread(64), spread(64, seed=1)])
    return Gradients(np.r_[0.0, np.full(64, 1000.0), np.full(64, 2000.0)], directions)


def log_fit(signals: torch.Tensor, design: NDArray[np.float64]) -> torch.Tensor:
    """Least squares of log signals weighted by the squared signals: (n, N), (N, k) -> (n, k).

    The weights are those of Salvador et al., HBM 2005; without noise one pass is enough.
    """
    x = torch.as_tensor(design).to(signals)
    k = x.shape[1]
    weights = signals.square()
    normal = weights @ (x[:, :, None] * x[:, None, :]).reshape(len(x), k * k)
    right = (weights * signals.log()) @ x
    return torch.linalg.solve(normal.reshape(-1, k, k), right[..., None])[..., 0]


def tensor_metrics(six: torch.Tensor) -> dict[str, torch.Tensor]:
    """fa, md, ad, rd (n,) and v1 (n, 3) of tensors (n, 6) (Basser & Pierpaoli, JMR 1996)."""
    xx, yy, zz, xy, xz, yz = six.unbind(-1)
    matrix = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(-1, 3, 3)
    values, vectors = torch.linalg.eigh(matrix)
    md = values.mean(-1)
    apart = (values - md[:, None]).square().sum(-1)
    fa = (1.5 * apart / values.square().sum(-1).clamp_min(1e-12)).sqrt().clamp_max(1.0)
    return {
        "fa": fa, "md": md, "ad": values[:, 2], "rd": values[:, :2].mean(-1), "v1": vectors[:, :, 2],
    }  # fmt: skip


@lru_cache(maxsize=1)
def _sphere() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """288 points on the half sphere and weights summing to 1: Gauss–Legendre times equal angles."""
    z, w = np.polynomial.legendre.leggauss(24)
    z, w = z[12:], w[12:]
    phi = 2 * np.pi * np.arange(24) / 24
    ring = np.sqrt(1 - z**2)
    points = np.stack(
        [
            np.outer(ring, np.cos(phi)),
            np.outer(ring, np.sin(phi)),
            np.outer(z, np.ones(24)),
        ],
        -1,
    )
    return points.reshape(-1, 3), np.repeat(w / 24, 24)


def kurtosis_metrics(
    six: torch.Tensor, fifteen: torch.Tensor, v1: torch.Tensor
) -> dict[str, torch.Tensor]:
    """mk, ak, rk, kfa (n,) from D (n, 6) and V = MD² W (n, 15), both in µm²/ms.

    K(n) = V(n) / D(n)². MK is its mean over the sphere, AK along v1, RK over the circle around v1
    (Jensen et al., MRM 2005; Tabesh et al., MRM 2011); KFA is Glenn et al., NMR Biomed 2015.
    """
    points, weights = _sphere()

    d = six @ torch.as_tensor(quadratic_form(points)).to(six).T
    v = fifteen @ torch.as_tensor(quartic_form(points)).to(six).T
    mk = _ratio(v, d) @ torch.as_tensor(weights).to(six)
    ak = _along(six, fifteen, v1[:, None, :])[:, 0]
    helper = torch.eye(3).to(v1)[v1.abs().argmin(1)]
    first = torch.nn.functional.normalize(torch.linalg.cross(v1, helper), dim=1)
    second = torch.linalg.cross(v1, first)
    angle = torch.arange(24).to(six) * (np.pi / 24)
    ring = first[:, None] * angle.cos()[:, None] + second[:, None] * angle.sin()[:, None]
    rk = _along(six, fifteen, ring).mean(1)
    return {"mk": mk, "ak": ak, "rk": rk, "kfa": _kfa(fifteen)}


def _ratio(v: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return v / d.clamp_min(SMALLEST_D).square()


def _along(six: torch.Tensor, fifteen: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """K along directions of each voxel's own, (n, R, 3) -> (n, R)."""
    x, y, z = ring.unbind(-1)
    d = torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], -1)
    powers = [[torch.ones_like(c), c, c**2, c**3, c**4] for c in (x, y, z)]
    v = torch.stack(
        [powers[0][i] * powers[1][j] * powers[2][k] for i, j, k in _EXPONENTS.tolist()], -1
    )
    v = v * torch.as_tensor(_MULTIPLICITY).to(v)
    return _ratio((v @ fifteen[:, :, None])[..., 0], (d @ six[:, :, None])[..., 0])


def _kfa(v: torch.Tensor) -> torch.Tensor:
    """Frobenius-norm anisotropy of a 4th-order tensor (n, 15); its scale cancels."""
    isotropic = torch.zeros(15).to(v)
    isotropic[:3], isotropic[9:12] = 1.0, 1.0 / 3
    mean = (v[:, :3].sum(1) + 2 * v[:, 9:12].sum(1)) / 5
    count = torch.as_tensor(_MULTIPLICITY).to(v)
    apart = (count * (v - mean[:, None] * isotropic).square()).sum(1)
    whole = (count * v.square()).sum(1)
    return torch.where(whole > 1e-12, (apart / whole.clamp_min(1e-12)).sqrt(), 0.0)


def fitted(tissue: Tissue, block: int = 4096) -> dict[str, torch.Tensor]:
    """Tensor and kurtosis truth: dti_* and dki_* tensors (n,), (n, 6), (n, 3), in µm²/ms.

    Computed in float64 whatever the tissue's dtype, returned in the tissue's dtype.
    """
    gradients = dense_protocol()
    b, table = gradients.b, gradients.directions
    linear = -b[:, None] * quadratic_form(table)
    quadratic = (b**2 / 6)[:, None] * quartic_form(table)
    constant = np.ones((len(b), 1))
    tensor_rows = b <= 1.0
    made: list[dict[str, torch.Tensor]] = []
    for part in blocks(len(tissue), block):
        one = tissue[part].with_(s0=None).to(dtype=torch.float64)
        signals = signal(one, gradients, block=block)
        six = log_fit(
            signals[:, : int(tensor_rows.sum())], np.hstack([constant, linear])[tensor_rows]
        )[:, 1:]
        metrics = tensor_metrics(six)
        found = {f"dti_{k}": v for k, v in metrics.items()} | {"dti_tensor": six}
        whole = log_fit(signals, np.hstack([constant, linear, quadratic]))
        dki_v1 = tensor_metrics(whole[:, 1:7])["v1"]
        kurtosis = kurtosis_metrics(whole[:, 1:7], whole[:, 7:], dki_v1)
        found |= {f"dki_{k}": v for k, v in kurtosis.items()}
        made.append({k: v.to(tissue.mu.dtype) for k, v in found.items()})
    return {k: torch.cat([m[k] for m in made]) for k in made[0]}


def cumulants(tissue: Tissue, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact initial slope D(g) and curvature V(g) of the signal, each (n, N).

    log S = -b D + b² V / 6 + O(b³), with D = sum f <d> and V = 3 (sum f <d²> - D²) over compartments
    and orientations (Jensen et al., MRM 2005). What the fits tend to as b goes to 0.
    """
    w = watson.moments(tissue.odi, 4)
    p = harmonics.legendre(4, tissue.mu @ directions.to(tissue.mu).T)
    square = 1 / 3 + 2 / 3 * w[..., None, 1] * p[..., 1]
    fourth = 1 / 5 + 4 / 7 * w[..., None, 1] * p[..., 1] + 8 / 35 * w[..., None, 2] * p[..., 2]
    weight = (tissue.fraction * tissue.neural[:, None])[..., None]
    ndi, d_par, wide = (
        tissue.ndi[..., None],
        tissue.d_par[..., None],
        tissue.d_perp_extra[..., None],
    )
    gap = d_par - wide
    first = ndi * d_par * square + (1 - ndi) * (wide + gap * square)
    second = ndi * d_par**2 * fourth + (1 - ndi) * (
        wide**2 + 2 * wide * gap * square + gap**2 * fourth
    )
    slope = (weight * first).sum(1) + (tissue.fwf * D_FREE)[:, None]
    spread_of = (weight * second).sum(1) + (tissue.fwf * D_FREE**2)[:, None]
    if tissue.restricted is not None and tissue.d_restricted is not None:
        slope = slope + (tissue.restricted * tissue.d_restricted)[:, None]
        spread_of = spread_of + (tissue.restricted * tissue.d_restricted**2)[:, None]
    return slope, 3 * (spread_of - slope**2)


def noddi(tissue: Tissue) -> dict[str, torch.Tensor]:
    """noddi_ndi, noddi_odi, noddi_fwf, noddi_odiw, (n,) each.

    ndi is the mean over populations. odi is that of the one Watson distribution whose largest
    eigenvalue of <u uᵀ> equals that of all populations together: exact for one population, and
    what a single-population fit sees of a crossing. odiw is the dispersion within the populations,
    each about its own axis: their mean, weighted by their shares; equal to odi for one population.
    """
    w = watson.moments(tissue.odi, 2)[..., 1]
    outer = tissue.mu[..., :, None] * tissue.mu[..., None, :]
    scatter = tissue.fraction[..., None, None] * (
        w[..., None, None] * outer + ((1 - w) / 3)[..., None, None] * torch.eye(3).to(w)
    )
    top = torch.linalg.eigvalsh(scatter.sum(1).double())[:, -1]
    grid, values = _odi_of_w2()
    odi = np.interp((1.5 * top - 0.5).cpu().numpy(), values, grid)
    ndi = (tissue.fraction * tissue.ndi).sum(1)
    return {
        "noddi_ndi": ndi, "noddi_odi": torch.as_tensor(odi).to(w), "noddi_fwf": tissue.fwf,
        "noddi_odiw": (tissue.fraction * tissue.odi).sum(1),
    }  # fmt: skip


@lru_cache(maxsize=1)
def _odi_of_w2() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    odi = np.linspace(1, 0, 8001)
    return odi, watson.moments(torch.as_tensor(odi.copy()), 2)[:, 1].numpy()


def fod(tissue: Tissue, lmax: int = FOD_LMAX) -> torch.Tensor:
    """Fibre orientation density as harmonics, (n, n_coefficients), Fornix's (MRtrix3's) basis.

    Each population is its Watson density times its volume fraction: the density integrates over
    the sphere to the neural fraction of the voxel.
    """
    ells, _ = harmonics.orders(lmax)
    basis = harmonics.evaluate(lmax, tissue.mu.detach().cpu().numpy())
    weight = (
        watson.moments(tissue.odi, lmax) * (tissue.fraction * tissue.neural[:, None])[..., None]
    )
    return (torch.as_tensor(basis).to(weight) * weight[..., torch.as_tensor(ells // 2)]).sum(1)


def peaks(tissue: Tissue) -> torch.Tensor:
    """Three vectors per voxel, (n, 9): population axes scaled by volume fraction, largest first."""
    amount = tissue.fraction * tissue.neural[:, None]
    order = amount.argsort(dim=1, descending=True, stable=True)
    vectors = (tissue.mu * amount[..., None]).gather(1, order[..., None].expand_as(tissue.mu))
    padded = torch.zeros(len(tissue), 3, 3).to(vectors)
    padded[:, : vectors.shape[1]] = vectors[:, :3]
    return padded.reshape(len(tissue), 9)


def maps(tissue: Tissue, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Maps:
    """Every truth as maps on the grid of `mask` (its True voxels are the tissue's, in C order).

    Names: dti_{fa,md,ad,rd,tensor,v1,s0}, dki_{mk,ak,rk,kfa}, noddi_{ndi,odi,fwf}, fod (45
    coefficients), peaks (9). Diffusivities in mm²/s.
    """
    found = fitted(tissue) | noddi(tissue) | {"fod": fod(tissue), "peaks": peaks(tissue)}
    found["dti_s0"] = torch.ones(len(tissue)) if tissue.s0 is None else tissue.s0
    made = {}
    for name, values in found.items():
        model, _, param = name.rpartition("_")
        units = UNITS.get(param, "1")
        scale = 1e-3 if units == "mm^2/s" else 1.0
        array = (values * scale).float().cpu().numpy()
        volume = np.zeros((*mask.shape, *array.shape[1:]), np.float32)
        volume[mask] = array
        made[name] = Map(model, param, volume, affine, units=units, method="truth",
                         description=_DESCRIPTIONS[model or param])  # fmt: skip
    return Maps(made, trust=mask)


_DESCRIPTIONS = {
    "dti": "true value: tensor fit of a dense protocol without noise",
    "dki": "true value: kurtosis fit of a dense protocol without noise",
    "noddi": "true value: of the simulated tissue",
    "fod": "true fibre orientation density, real even harmonics in MRtrix3's convention",
    "peaks": "true fibre axes in world space scaled by volume fraction, largest first",
}
