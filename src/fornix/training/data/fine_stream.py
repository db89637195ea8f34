"""Pieces of heads as measured in larger voxels, and what is true in small ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.enhance.deconvolution import edges_of, solve_volumes, strength_of
from fornix.enhance.noise import denoised_with_level
from fornix.nets.enhancement_net import GUIDES, around, enhancement_channels, scan_facts
from fornix.numerics.directions import spread
from fornix.physics.anatomy import Anatomy
from fornix.physics.point_spread import Measurement, along, axis_operator, centres, interpolator
from fornix.physics.tissue import signal
from fornix.training.data.fine_heads import read_head

#: Measured voxels along an edge of a piece; those at its border see less than a voxel's profile.
PIECE, _BORDER = 14, 2
#: Pieces that are kept to be shown again, and how often a new one is shown before the next.
_KEPT, _SHOWN = 250, 6
#: Small voxels of a piece that are asked for, and weighted volumes of a shell.
ASKED, _VOLUMES = 2500, 6
#: Directions of a shell that a head's signals are kept for.
_DIRECTIONS = 30
FACTOR = (1.25, 3.0)


@dataclass(frozen=True, eq=False)
class Piece:
    """What the network sees, what it mixes and what is true.

    Attributes:
        channels: (CHANNELS, X, Y, Z).
        facts: (FACTS,).
        step: (3,) a small voxel's edges over a measured one's.
        voxels: (n, 3) measured voxels that the small ones asked for lie in.
        place: (n, 3) where in it.
        shells: b of each shell asked for, 0 for b0s.
        base: Of each shell, (n, volumes) as deconvolution gives them.
        values: Of each shell, (n, 27, volumes) of the measured voxels.
        truth: Of each shell, (n, volumes) without noise.
        sigma: (n,) noise of the measured voxels.
    """

    channels: torch.Tensor
    facts: torch.Tensor
    step: torch.Tensor
    voxels: torch.Tensor
    place: torch.Tensor
    shells: tuple[float, ...]
    base: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    truth: tuple[torch.Tensor, ...]
    sigma: torch.Tensor

    @property
    def batch(self) -> Piece:
        """Itself: a batch is one piece."""
        return self


@dataclass(frozen=True, eq=False)
class HeadSignals:
    """A head's clean signals for one protocol.

    Attributes:
        mask: (X, Y, Z) the head, in small voxels.
        signals: (X, Y, Z, N) float16 over the reference.
        b: (N,) ms/µm²; directions: (N, 3) in voxel axes.
        size: A small voxel's edge, mm.
    """

    mask: NDArray[np.bool_]
    signals: NDArray[np.float16]
    b: NDArray[np.float64]
    directions: NDArray[np.float64]
    size: float

    @classmethod
    def of(cls, head: Anatomy, rng: np.random.Generator) -> HeadSignals:
        """Of a b0 and two shells of random b."""
        low = rng.uniform(0.7, 1.4)
        b = np.r_[0.0, np.full(_DIRECTIONS, low), np.full(_DIRECTIONS, low * rng.uniform(1.5, 2.4))]
        turns = [spread(_DIRECTIONS, seed=int(rng.integers(1000))) for _ in range(2)]
        axes = np.concatenate([np.zeros((1, 3)), *turns])
        # The head's voxel axes are flipped world axes at most: its fibres are turned into them.
        voxel = np.sign(np.diag(head.affine[:3, :3]))
        made = signal(head.tissue(), (torch.from_numpy(b), torch.from_numpy(axes * voxel)))
        signals = np.zeros((*head.grid, len(b)), np.float16)
        signals[head.mask] = (made / head.reference).numpy().astype(np.float16)
        size = float(np.linalg.norm(head.affine[:3, 0]))
        return cls(head.mask, signals, b, axes, size)


class FineStream:
    """Endless pieces of a bank of heads, each with a protocol of its own that is renewed with it."""

    def __init__(self, heads: Sequence[Path | Anatomy], bank: int, seed: int) -> None:
        self._heads, self._bank = list(heads), min(bank, len(heads))
        self._rng = np.random.default_rng([seed, 52])
        self._held: list[HeadSignals] = []
        self._order: list[int] = []
        self._pieces: list[Piece] = []
        self._made = 0

    def renew(self) -> None:
        """Another head in place of the oldest."""
        if not self._order:
            self._order = list(self._rng.permutation(len(self._heads)))
        chosen = self._heads[self._order.pop()]
        head = read_head(chosen)[0] if isinstance(chosen, Path) else chosen
        if len(self._held) >= self._bank:
            self._held.pop(0)
        self._held.append(HeadSignals.of(head, self._rng))

    def sample(self) -> Piece:
        """The next piece: a new one, or one of those kept, as measuring takes longer than learning."""
        while len(self._held) < self._bank:
            self.renew()
        self._made += 1
        if self._made % _SHOWN and len(self._pieces) >= 8:
            return self._pieces[int(self._rng.integers(len(self._pieces)))]
        made = self.new()
        self._pieces = [*self._pieces[-(_KEPT - 1) :], made]
        return made

    def new(self) -> Piece:
        """A piece that was not shown before."""
        while len(self._held) < self._bank:
            self.renew()
        return piece(self._held[int(self._rng.integers(len(self._held)))], self._rng)


def random_factors(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) measured over small voxels: all axes alike, one axis coarser, or all different."""
    kind = rng.random()
    if kind < 0.5:
        return np.full(3, rng.uniform(*FACTOR))
    if kind < 0.8:
        made = np.full(3, 1.0 if rng.random() < 0.5 else rng.uniform(1.0, 1.8))
        made[rng.integers(3)] = rng.uniform(1.4, FACTOR[1])
        return made
    return rng.uniform(1.0, FACTOR[1], 3).clip(FACTOR[0])


def random_profiles(rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Profile and partial Fourier of each axis: slices along one, k-space along the others."""
    across, phase = rng.permutation(3)[:2]
    plane = "sinc" if rng.random() < 0.8 else "box"
    kinds = [plane] * 3
    kinds[across] = "slice" if rng.random() < 0.85 else "sinc"  # three-dimensional k-space
    shares = [1.0] * 3
    if plane == "sinc" and rng.random() < 0.4:
        shares[phase] = float(rng.choice([0.75, 0.8, 0.875]))
    return tuple(kinds), tuple(shares)


def piece(head: HeadSignals, rng: np.random.Generator) -> Piece:
    """A random piece of a head, measured with a random profile, factor, protocol and noise."""
    factor = random_factors(rng)
    small = np.minimum(np.round(PIECE * factor).astype(int), head.mask.shape)
    large = np.minimum(PIECE, np.floor(small / factor + 1e-6).astype(int))
    inside = np.argwhere(head.mask)
    middle = inside[rng.integers(len(inside))]
    corner = np.clip(middle - small // 2, 0, np.array(head.mask.shape) - small)
    box = tuple(slice(c, c + n) for c, n in zip(corner, small))
    volumes = _protocol(head, rng)
    clean = head.signals[box][..., volumes].astype(np.float32) * rng.uniform(0.8, 1.25)
    mask, directions = head.mask[box], head.directions[volumes]
    clean, mask, directions, order = _turned(clean, mask, directions, rng)
    return _measured(
        clean, mask, directions, head.b[volumes], factor[order], large[order], head.size, rng
    )


def _protocol(head: HeadSignals, rng: np.random.Generator) -> NDArray[np.int64]:
    """Volumes that are measured: one or two shells of 6 to all directions, 1 to 4 b0s."""
    levels = np.unique(head.b)[1:]
    chosen = levels if rng.random() < 0.35 else levels[[rng.integers(2)]]
    made = [np.zeros(rng.integers(1, 5), np.int64)]
    for level in chosen:
        of = np.flatnonzero(head.b == level)
        count = int(np.exp(rng.uniform(np.log(6), np.log(len(of) + 0.5))))
        made.append(np.sort(rng.choice(of, count, replace=False)))
    return np.concatenate(made)


def _turned(
    clean: NDArray[np.float32],
    mask: NDArray[np.bool_],
    directions: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Axes exchanged and flipped at random, directions with them."""
    order = rng.permutation(3)
    flips = rng.random(3) < 0.5
    clean, mask = clean.transpose(*order, 3), mask.transpose(order)
    for axis in (int(a) for a in np.flatnonzero(flips)):
        clean, mask = np.flip(clean, axis), np.flip(mask, axis)
    turned = directions[:, order] * np.where(flips, -1.0, 1.0)
    return np.ascontiguousarray(clean), np.ascontiguousarray(mask), turned, order


def _measured(
    clean: NDArray[np.float32],
    mask: NDArray[np.bool_],
    directions: NDArray[np.float64],
    b: NDArray[np.float64],
    factor: NDArray[np.float64],
    large: NDArray[np.int64],
    size: float,
    rng: np.random.Generator,
) -> Piece:
    kinds, shares = random_profiles(rng)
    operators = [
        axis_operator(int(n), int(m), round(1 / float(f), 6), k, s)
        for n, m, f, k, s in zip(large, mask.shape, factor, kinds, shares)
    ]
    operator = Measurement((operators[0], operators[1], operators[2]))
    level = float(1 / np.exp(rng.uniform(np.log(8), np.log(80))))
    image = operator.measured(clean)
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * level
    image = np.hypot(image + noise[0], noise[1])
    seen = torch.from_numpy(operator.measured(mask.astype(np.float32)) > 0.4)
    told = float(level * np.exp(rng.normal(0, 0.12)))
    image, left = _denoised(image, b, directions, told)
    step = torch.from_numpy(1 / factor).float()
    b_, b0 = torch.from_numpy(b).float(), torch.from_numpy(b == 0)
    signals = torch.from_numpy(image)
    sigma = torch.full(seen.shape, left)
    channels = enhancement_channels(
        signals, b_, torch.from_numpy(directions).float(), b0, sigma, torch.full(seen.shape, told), seen
    )  # fmt: skip
    edge = torch.from_numpy(size * factor * np.exp(rng.normal(0, 0.1))).float()
    facts = scan_facts(b_, b0, edge, step, (kinds[0], kinds[1], kinds[2]))
    linear = tuple(
        interpolator(centres(int(n), int(m), 1 / float(f)), int(n))
        for n, m, f in zip(large, mask.shape, factor)
    )
    guides = np.moveaxis(channels[list(GUIDES)].numpy(), 0, -1)
    edges = edges_of(guides, operator, along(linear, guides))
    at = [centres(int(n), m, 1 / float(f)) for n, m, f in zip(large, mask.shape, factor)]
    asked = _asked(mask, at, large, rng)
    where = np.stack([a[i] for a, i in zip(at, asked)], 1)
    voxels = np.rint(where).astype(np.int64)
    shells, base, values, truth = [], [], [], []
    index = torch.from_numpy(voxels)
    for level_ in np.unique(b):
        of = np.flatnonzero(b == level_)
        of = rng.choice(of, min(len(of), 1 if level_ == 0 else _VOLUMES), replace=False)
        shells.append(float(level_))
        solved = solve_volumes(
            image[..., of], operator, along(linear, image[..., of]), edges, strength_of(left)
        )  # fmt: skip
        base.append(torch.from_numpy(solved[asked[0], asked[1], asked[2]].clip(0)))
        values.append(around(signals[..., of], index))
        truth.append(torch.from_numpy(clean[asked[0], asked[1], asked[2]][:, of]))
    return Piece(
        channels, facts, step, index, torch.from_numpy(where - voxels).float(), tuple(shells),
        tuple(base), tuple(values), tuple(truth), sigma[tuple(index.T)],
    )  # fmt: skip


def _denoised(
    image: NDArray[np.float32],
    b: NDArray[np.float64],
    directions: NDArray[np.float64],
    sigma: float,
) -> tuple[NDArray[np.float32], float]:
    """The image as users will have denoised it, and the noise that is left."""
    table = Gradients(1000 * b, directions * (b > 0)[:, None])
    scan = DWI(image, table, np.diag([2.0, 2.0, 2.0, 1.0]), sigma=sigma)
    return denoised_with_level(scan)


def _asked(
    mask: NDArray[np.bool_], at: list[NDArray[np.float64]], large: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], ...]:  # fmt: skip
    """Small voxels of the head away from the piece's border."""
    good = mask.copy()
    for axis, (a, n) in enumerate(zip(at, large)):
        inner = (np.rint(a) >= _BORDER) & (np.rint(a) < n - _BORDER)
        good &= inner.reshape([-1 if k == axis else 1 for k in range(3)])
    found = np.flatnonzero(good if good.any() else mask if mask.any() else np.ones_like(mask))
    some = rng.choice(found, min(ASKED, len(found)), replace=False)
    return tuple(np.unravel_index(some, mask.shape))
