"""Invariants and covariants of a voxel: what rotates with the head, and what does not.

Harmonic features z_lk (order l, factor k) turn by Wigner matrices. Their inner products within an
order, determinants of order 2, and their values along the three axes of the signal's order-2 part
do not change; the z_lk themselves, and the harmonics of those axes, turn with the head. Any function
of the first times the second is equivariant, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from fornix.core.design import quadratic_form
from fornix.nets.encoding import PROTOCOL_SIZE, EncodedVoxels, ProtocolEncoder
from fornix.numerics import harmonics
from fornix.numerics.eigen3 import eigen3
from fornix.qspace.prior import SignalPrior, default_prior

#: b-value whose signal gives the axes, ms/µm².
_B_AXES = 1.0
#: Scales of FA, MD, AD, RD of a tensor fit.
FIT_SCALE = (1.0, 2.0, 2.0, 2.0)


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Features:
    """n voxels ready for a network.

    Attributes:
        invariants: (n, `size()`) of order 1.
        blocks: Per order l = 0, 2, … (n, K_l, 2l + 1) features.
        axes: Per order from 2 up, (n, 3, 2l + 1) harmonics of the three axes, faded out where two of
            them cannot be told apart.
        anchor: (n, S, 4) tensor fits, of the voxel and of each average of its neighbourhood.
        anchor_std: See `anchor`.
        tensor: (n, 6) of the last of them. Blocks and axes too are those of the last.
    """

    invariants: torch.Tensor
    blocks: tuple[torch.Tensor, ...]
    axes: tuple[torch.Tensor, ...]
    anchor: torch.Tensor
    anchor_std: torch.Tensor
    tensor: torch.Tensor


@dataclass(eq=False)
class MicrostructureFeatures(Features):
    """What the microstructure network reads: of `invariants` there are `more_size()` more, which say how far
    the averages may have blurred and how the tensor's signal differs from the encoder's.

    Attributes:
        tensor_blocks: Like `blocks`, of the signal that the last view's tensor gives.
        own_tensor: (n, 6) fitted to the voxel itself.
    """

    tensor_blocks: tuple[torch.Tensor, ...]
    own_tensor: torch.Tensor


def more_size(sources: int = 1, prior: SignalPrior | None = None) -> int:
    """How many invariants `MicrostructureFeatures` have more."""
    return sum(len(f) for f in (prior or default_prior()).factors) + 2 * (sources - 1)


def microstructure_features(
    encoder: ProtocolEncoder, seen: EncodedVoxels, context: tuple[EncodedVoxels, ...] = ()
) -> MicrostructureFeatures:
    """As `extract`, with what the microstructure network reads beside."""
    base = extract(encoder, seen, context)
    last = context[-1] if context else seen
    tensor_blocks = split(encoder.tensor_features(last), encoder.qspace.prior)
    apart = [
        (t - b).square().mean(2).add(1e-4).sqrt()
        for t, b in zip(tensor_blocks, base.blocks, strict=True)
    ]
    more = torch.cat([base.invariants, *apart, *(view.unlike for view in context)], 1)
    return MicrostructureFeatures(
        **{**base.__dict__, "invariants": more},
        tensor_blocks=tensor_blocks,
        own_tensor=seen.tensor,
    )


def view_size(prior: SignalPrior | None = None) -> int:
    """Number of invariants of one view, its tensor fit aside."""
    counts = [len(f) for f in (prior or default_prior()).factors]
    grams = sum(k * (k + 1) // 2 + 3 * k for k in counts[1:])
    return counts[0] + grams + 3 + sum(counts) + 2


def size(sources: int = 1, prior: SignalPrior | None = None) -> int:
    """Number of invariants of voxels seen in `sources` views: these, their fits, what they share."""
    return sources * (view_size(prior) + 2 * len(FIT_SCALE)) + 3 + PROTOCOL_SIZE


def extract(
    encoder: ProtocolEncoder, seen: EncodedVoxels, context: tuple[EncodedVoxels, ...] = ()
) -> Features:
    """Features of observed voxels.

    Args:
        encoder: Of the protocol.
        seen: The voxels.
        context: The same voxels averaged over ever more neighbours (`ProtocolEncoder.averaged`).
    """
    parts = []
    blocks: tuple[torch.Tensor, ...] = ()
    axes: tuple[torch.Tensor, ...] = ()
    for view in (seen, *context):
        posterior = encoder.qspace.shrink(view.projected, view.sigma)
        blocks = split(posterior.z, encoder.qspace.prior)
        axes, values = _axes(blocks, encoder.qspace.prior)
        information = encoder.qspace.information(posterior.weight)
        noise = torch.log(view.sigma[:, None] / 0.05)
        parts += [_invariants(blocks, axes, values), 2 * information - 1, noise]
        parts += [torch.log(view.sigma[:, None] / seen.sigma[:, None])]
    scale = torch.tensor(FIT_SCALE).to(seen.fit)
    for view in (seen, *context):
        parts += [view.fit / scale - 0.4, torch.log(view.fit_std / scale / 0.05).clamp(-4, 4) / 2]
    parts += [
        torch.log(seen.s0_std[:, None].clamp(min=1e-3) / 0.03),
        seen.nonphysical[:, None],
        torch.log(seen.misfit[:, None].clamp(0.05, 20.0)),
        encoder.protocol.expand(len(seen.fit), -1),
    ]
    return Features(
        torch.cat(parts, 1),
        blocks,
        axes,
        torch.stack([view.fit for view in (seen, *context)], 1),
        torch.stack([view.fit_std for view in (seen, *context)], 1),
        (context[-1] if context else seen).tensor,
    )


def split(z: torch.Tensor, prior: SignalPrior) -> tuple[torch.Tensor, ...]:
    """Features (n, F) as one (n, K_l, 2l + 1) per order."""
    made, start = [], 0
    for i, factor in enumerate(prior.factors):
        stop = start + len(factor) * (4 * i + 1)
        made.append(z[:, start:stop].reshape(len(z), len(factor), 4 * i + 1))
        start = stop
    return tuple(made)


def joined(blocks: list[torch.Tensor]) -> torch.Tensor:
    """The inverse of `split`."""
    return torch.cat([b.flatten(1) for b in blocks], 1)


@lru_cache(maxsize=1)
def _from_order2() -> np.ndarray:
    """(6, 5): the traceless tensor Txx Tyy Tzz Txy Txz Tyz with uᵀ T u = sum_m c_m Y_2m(u)."""
    from fornix.numerics.directions import fibonacci

    points = fibonacci(200)
    basis = harmonics.evaluate(2, points)[:, 1:]
    return np.linalg.lstsq(quadratic_form(points), basis, rcond=None)[0]


def order2_to_six(c: torch.Tensor) -> torch.Tensor:
    """(…, 5) harmonics of order 2 to traceless tensors (…, 6)."""
    return c @ torch.as_tensor(_from_order2()).to(c).T


def matrix(six: torch.Tensor) -> torch.Tensor:
    """(…, 6) xx yy zz xy xz yz to (…, 3, 3)."""
    xx, yy, zz, xy, xz, yz = six.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).unflatten(-1, (3, 3))


@torch.no_grad()
def eigen(six: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (n, 3), ascending, and vectors (n, 3, 3) as columns, of tensors (n, 6)."""
    if six.device.type != "cpu":
        return eigen3(matrix(six))
    from fornix.numerics.algebra import eigen_rows

    values, vectors = six.new_empty(len(six), 3), six.new_empty(len(six), 3, 3)
    eigen_rows(six.numpy(), values.numpy(), vectors.numpy())
    return values, vectors


@lru_cache(maxsize=4)
def _order2_at(prior: SignalPrior, b: float) -> np.ndarray:
    """(K_2,) weights of the order-2 features in the signal at b."""
    return np.asarray(CubicSpline(prior.b, prior.factors[1], axis=1)(b)) * np.sqrt(prior.scale[1])


def _axes(
    blocks: tuple[torch.Tensor, ...], prior: SignalPrior
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Harmonics of the signal's axes per order, and its three eigenvalues (n, 3).

    The first axis is where the signal is lowest, along the fibres.
    """
    with torch.no_grad():
        weights = torch.as_tensor(_order2_at(prior, _B_AXES)).to(blocks[1])
        part = torch.einsum("nkm,k->nm", blocks[1], weights)
        values, vectors = eigen(order2_to_six(part))
        basis = harmonics.evaluate_torch(prior.lmax, vectors.transpose(1, 2))  # (n, 3, J)
        gaps = values[:, 1:] - values[:, :-1]
        apart = gaps / (gaps + 0.03)  # two axes that differ by nothing have no direction
        fade = torch.stack([apart[:, 0], apart[:, 0] * apart[:, 1], apart[:, 1]], 1)
        made = []
        for i in range(1, prior.lmax // 2 + 1):
            here = basis[..., harmonics.order_slice(2 * i)]
            norm = (4 * np.pi / (4 * i + 1)) ** 0.5
            made.append(here * fade[..., None] * norm)
    return tuple(made), values


def _invariants(
    blocks: tuple[torch.Tensor, ...], axes: tuple[torch.Tensor, ...], values: torch.Tensor
) -> torch.Tensor:
    parts = [blocks[0][..., 0], 5 * values]
    for i, block in enumerate(blocks[1:]):
        gram = block @ block.transpose(1, 2) / block.shape[2]
        rows, columns = np.triu_indices(block.shape[1])
        parts.append(gram[:, rows, columns])
        parts.append((block @ axes[i].transpose(1, 2)).flatten(1))
    flat = torch.cat(parts, 1)
    return flat / (1 + 0.1 * flat.square()).sqrt()  # long tails would dominate the first layer
