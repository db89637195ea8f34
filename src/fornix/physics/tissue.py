"""Tissue: what is in a voxel, and the signal it gives at any b-value and direction.

A voxel holds free water, an optional restricted isotropic part, and neural tissue of up to three
fibre populations. Each population is a bundle of sticks (inside neurites) and zeppelins (around
them), both dispersed by a Watson distribution about the population's axis:

S(b, g) / S0 = f_w exp(-3 b) + f_r exp(-b d_r)
             + (1 - f_w - f_r) sum_p f_p A_p(b, g)
  A_p(b, g) = sum_l (2l+1) w_l(odi_p) [ndi k_l^stick(b) + (1-ndi) k_l^zeppelin(b)] P_l(g·mu_p)

(Jespersen et al., NeuroImage 2007; Zhang et al., NeuroImage 2012; Assaf & Basser, NeuroImage 2005).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch

from fornix.core.compute import blocks
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.physics import watson
from fornix.physics.kernels import lmax_for, sum_series, zonal

#: Diffusivity of free water at body temperature, µm²/ms.
D_FREE = 3.0
#: Parallel diffusivity that NODDI assumes in white matter, µm²/ms.
D_PAR = 1.7

Extra = Literal["dispersed", "mean"]
Measurement = Gradients | tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Tissue:
    """n voxels of P fibre populations each, as tensors of one dtype on one device.

    Attributes:
        mu: (n, P, 3) unit axes, world RAS+.
        fraction: (n, P) each population's share of the neural tissue; rows sum to 1.
        odi: (n, P) orientation dispersion index, 0 parallel to 1 isotropic.
        ndi: (n,), (n, 1) or (n, P) intra-neurite share of the neural tissue.
        fwf: (n,) free-water fraction.
        d_par: Like ndi; µm²/ms, inside and around the neurites.
        d_perp: Like ndi; around the neurites; None links it by tortuosity, d_par (1 - ndi).
        restricted: (n,) share of a restricted isotropic part; None is none.
        d_restricted: (n,) its apparent diffusivity, µm²/ms; None is 0, a dot.
        s0: (n,) signal at b = 0; None is 1.

    Raises:
        FornixError: Where shapes disagree. Values are not checked here (training draws millions):
            `check` does that.
    """

    mu: torch.Tensor
    fraction: torch.Tensor
    odi: torch.Tensor
    ndi: torch.Tensor
    fwf: torch.Tensor
    d_par: torch.Tensor
    d_perp: torch.Tensor | None = None
    restricted: torch.Tensor | None = None
    d_restricted: torch.Tensor | None = None
    s0: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.mu.ndim != 3 or self.mu.shape[2] != 3:
            raise FornixError(f"mu must be (voxels, populations, 3), got {tuple(self.mu.shape)}")
        n, p = self.mu.shape[:2]
        for name in ("fraction", "odi"):
            if getattr(self, name).shape != (n, p):
                raise FornixError(
                    f"{name} must be ({n}, {p}) like mu, got {tuple(getattr(self, name).shape)}"
                )
        for name in ("ndi", "d_par", "d_perp"):
            value = getattr(self, name)
            if value is None:
                continue
            if value.ndim == 1:
                value = value[:, None]
                object.__setattr__(self, name, value)
            if value.shape not in ((n, 1), (n, p)):
                raise FornixError(f"{name} must be ({n},) or ({n}, {p}), got {tuple(value.shape)}")
        for name in ("fwf", "restricted", "d_restricted", "s0"):
            value = getattr(self, name)
            if value is not None and value.shape != (n,):
                raise FornixError(f"{name} must be ({n},), got {tuple(value.shape)}")

    def __len__(self) -> int:
        return self.mu.shape[0]

    def __getitem__(self, voxels: slice | torch.Tensor) -> Tissue:
        """Some of the voxels: a slice, indices or a mask."""
        return self._each(lambda values: values[voxels])

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tissue:
        """The same tissue on another device or in another precision."""
        return self._each(lambda values: values.to(device=device, dtype=dtype))

    def with_(self, **changes: Any) -> Tissue:
        """A copy with some tensors replaced."""
        return replace(self, **changes)

    def rotated(self, rotation: torch.Tensor) -> Tissue:
        """Fibres turned by one (3, 3) rotation or one per voxel (n, 3, 3)."""
        matrix = rotation.to(self.mu).expand(len(self), 3, 3)
        return replace(self, mu=self.mu @ matrix.transpose(1, 2))

    @property
    def kappa(self) -> torch.Tensor:
        """(n, P) Watson concentration."""
        return watson.kappa_from_odi(self.odi)

    @property
    def neural(self) -> torch.Tensor:
        """(n,) share of the voxel that is neither free water nor restricted isotropic."""
        return 1 - self.fwf if self.restricted is None else 1 - self.fwf - self.restricted

    @property
    def d_perp_extra(self) -> torch.Tensor:
        """(n, 1 or P) perpendicular diffusivity around the neurites, by tortuosity where unset."""
        return self.d_par * (1 - self.ndi) if self.d_perp is None else self.d_perp

    def check(self) -> Tissue:
        """The tissue itself, or FornixError at the first impossible value."""
        tolerance = 1e-4
        for name, value in self._tensors().items():
            if value is None:
                continue
            if not bool(torch.isfinite(value).all()):
                raise FornixError(f"tissue: {name} has values that are not finite")
            top = 1.0 if name in ("fraction", "odi", "ndi", "fwf", "restricted") else float("inf")
            if name != "mu" and bool(((value < -tolerance) | (value > top + tolerance)).any()):
                raise FornixError(f"tissue: {name} must lie in [0, {top:g}]")
        if bool(((self.mu.norm(dim=-1) - 1).abs() > 1e-3).any()):
            raise FornixError("tissue: mu must be unit vectors; divide by their length")
        if bool(((self.fraction.sum(1) - 1).abs() > 1e-3).any()):
            raise FornixError("tissue: the populations' fractions must sum to 1 in every voxel")
        if bool((self.neural < -tolerance).any()):
            raise FornixError("tissue: free water and restricted part together exceed 1")
        return self

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Tissue:
        made: dict[str, Any] = {
            k: None if v is None else change(v) for k, v in self._tensors().items()
        }
        return Tissue(**made)

    def _tensors(self) -> dict[str, torch.Tensor | None]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def signal(
    tissue: Tissue,
    gradients: Measurement,
    *,
    lmax: int | None = None,
    extra: Extra = "dispersed",
    block: int = 4096,
) -> torch.Tensor:
    """The noise-free signal of every voxel at every gradient: (n, N), in the tissue's dtype.

    Differentiable in every tensor of the tissue.

    Args:
        tissue: Simulated tissue of n voxels.
        gradients: `Gradients`, or (b (N,) in ms/µm², directions (N, 3) in world axes) as tensors.
        lmax: Order of the harmonic series; None takes, for each b, the order whose truncation error is
            below 1e-4 for an undispersed stick (`kernels.lmax_for`) and below 1e-6 for odi >= 0.05.
        extra: `dispersed` turns the zeppelins with the neurites, exactly; `mean` gives the Gaussian of
            the averaged diffusion tensor, as the NODDI toolbox and AMICO define the extra-neurite part.
        block: Voxels per block, which bounds memory and does not change the result.
    """
    if extra not in ("dispersed", "mean"):
        raise FornixError(f"extra must be 'dispersed' or 'mean', not {extra!r}")
    b, directions = _measurement(gradients, tissue)
    made = [_block(tissue[part], b, directions, lmax, extra) for part in blocks(len(tissue), block)]
    return made[0] if len(made) == 1 else torch.cat(made)


def zonal_series(
    tissue: Tissue, b: float, lmax: int, extra: Extra = "dispersed"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The signal at one b (ms/µm²) as series about each population's axis, without S0.

    Returns:
        C (n, P, lmax/2 + 1) and iso (n,): S(g) / S0 = iso + sum_p sum_l c_pl P_l(g·mu_p).
    """
    spread = watson.moments(tissue.odi, lmax)
    return _coefficients(tissue, b, lmax, spread, extra), _isotropic(tissue, b)


def _measurement(gradients: Measurement, tissue: Tissue) -> tuple[np.ndarray, torch.Tensor]:
    if isinstance(gradients, Gradients):
        return gradients.b, torch.as_tensor(gradients.directions.copy()).to(tissue.mu)
    b, directions = gradients
    if directions.shape != (len(b), 3):
        raise FornixError(f"{len(b)} b-values need directions ({len(b)}, 3)")
    return b.detach().cpu().double().numpy(), directions.to(tissue.mu)


def _block(
    tissue: Tissue, b: np.ndarray, directions: torch.Tensor, lmax: int | None, extra: Extra
) -> torch.Tensor:
    levels, level_of = np.unique(b, return_inverse=True)
    orders = [lmax if lmax is not None else lmax_for(round(float(v), 6)) for v in levels]
    spread = watson.moments(tissue.odi, max(orders))
    columns: list[torch.Tensor] = []
    order_of_columns: list[int] = []
    for i, (value, order) in enumerate(zip(levels, orders)):
        volumes = np.flatnonzero(level_of == i)
        coefficients = _coefficients(tissue, float(value), order, spread, extra)
        cosine = tissue.mu @ directions[torch.as_tensor(volumes, device=directions.device)].T
        neural = sum_series(coefficients, cosine * cosine).sum(1)
        columns.append(neural + _isotropic(tissue, float(value))[:, None])
        order_of_columns.extend(volumes.tolist())
    back = torch.as_tensor(np.argsort(order_of_columns, kind="stable"), device=directions.device)
    made = torch.cat(columns, 1)[:, back]
    return made if tissue.s0 is None else made * tissue.s0[:, None]


def _coefficients(
    tissue: Tissue, b: float, lmax: int, spread: torch.Tensor, extra: Extra
) -> torch.Tensor:
    """(n, P, lmax/2 + 1) coefficients of P_l(g·mu), each population weighted by its volume."""
    ndi, d_par, d_perp = tissue.ndi, tissue.d_par, tissue.d_perp_extra
    spread = spread[..., : lmax // 2 + 1]
    stick = ndi[..., None] * zonal(b * d_par, lmax)
    if extra == "mean":
        along = (1 + 2 * spread[..., 1]) / 3
        wide = d_perp + (d_par - d_perp) * (1 - along) / 2
        zeppelin = ((1 - ndi) * torch.exp(-b * wide))[..., None] * zonal(
            b * (d_par - d_perp) * (3 * along - 1) / 2, lmax
        )
        made = stick * spread + zeppelin
    else:
        zeppelin = ((1 - ndi) * torch.exp(-b * d_perp))[..., None] * zonal(
            b * (d_par - d_perp), lmax
        )
        made = (stick + zeppelin) * spread
    weight = tissue.fraction * tissue.neural[:, None]
    degrees = torch.arange(0, lmax + 1, 2, device=made.device, dtype=made.dtype)
    return made * weight[..., None] * (2 * degrees + 1)


def _isotropic(tissue: Tissue, b: float) -> torch.Tensor:
    """(n,) free water and restricted part at this b."""
    made = tissue.fwf * float(np.exp(-b * D_FREE))
    if tissue.restricted is None:
        return made
    if tissue.d_restricted is None:
        return made + tissue.restricted
    return made + tissue.restricted * torch.exp(-b * tissue.d_restricted)
