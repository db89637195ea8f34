"""The endless stream of voxels for fibre orientations: crossings, tissue of no place, heads.

The truth of an orientation costs nothing, so loose tissue is drawn anew for every batch; only heads,
which take seconds to vary, are kept and seen more than once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.learn.bank import join_tissue, shifted, source_anatomy, tempered, uneven
from fornix.learn.fod_truth import true_fod
from fornix.learn.observe import Observed, Observer
from fornix.learn.stream import Conditions, NoiseRange, noisy, training_protocol
from fornix.physics import anatomy, random_tissue
from fornix.physics.tissue import Tissue, signal

#: Order of the signal's series in training: dispersion damps what is above.
_SERIES = 14
#: Heads kept at a time, and the voxels of each.
HEADS, _HEAD_SIZE = 4, 40_000


@dataclass(frozen=True, eq=False)
class FodVoxels:
    """n voxels with their truth.

    fod: (n, 45) as in `fod_truth`. share: (n, 3) fractions of white matter, grey matter and free
    water. divided: (n,) whether the first two are defined, which they are in heads.
    """

    tissue: Tissue
    fod: torch.Tensor
    share: torch.Tensor
    divided: torch.Tensor

    def __len__(self) -> int:
        return len(self.fod)


@dataclass(frozen=True, eq=False)
class FodBatch:
    """Voxels as one protocol sees them. signals: (n, N) noisy; sigma: (n,) noise as it is told."""

    observer: Observer
    seen: Observed
    voxels: FodVoxels
    signals: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class _Head:
    tissue: Tissue
    white: torch.Tensor


def crossings(count: int, rng: np.random.Generator) -> Tissue:
    """White matter of one to three coherent populations that meet at any angle.

    The second axis stands at 15 to 90° from the first, evenly (axes at random are mostly far
    apart); the third anywhere at 15° or more from both. Microstructure is that of white matter and
    beyond, shared by the populations or each its own.
    """
    mu = np.zeros((count, 3, 3))
    mu[:, 0] = _unit(rng.standard_normal((count, 3)))
    mu[:, 1] = _turned_from(mu[:, 0], np.radians(rng.uniform(15, 90, count)), rng)
    mu[:, 2] = _unit(rng.standard_normal((count, 3)))
    close = np.abs((mu[:, :2] * mu[:, 2:]).sum(2)).max(1) > np.cos(np.radians(15))
    mu[close, 2] = _unit(np.cross(mu[close, 0], mu[close, 1]))
    number = rng.choice([1, 2, 3], size=(count, 1), p=[0.3, 0.45, 0.25])
    share = rng.uniform(0.25, 1.0, (count, 3)) * (np.arange(3) < number)
    share /= share.sum(1, keepdims=True)
    odi = np.exp(rng.uniform(np.log(0.015), np.log(0.25), (count, 3)))
    ndi = np.clip(rng.normal(0.6, 0.15, (count, 1)) + rng.normal(0, 0.08, (count, 3)), 0.15, 0.95)
    d_par = np.broadcast_to(rng.uniform(1.2, 2.4, (count, 1)), (count, 3))
    linked = rng.random((count, 1)) < 0.5
    d_perp = np.where(linked, d_par * (1 - ndi), d_par * rng.uniform(0.15, 0.7, (count, 1)))
    water = rng.uniform(0, 1, count) ** 3 * 0.6
    dot = np.where(rng.random(count) < 0.2, rng.uniform(0, 0.1, count), 0.0) * (1 - water)
    given = {"mu": mu, "fraction": share, "odi": odi, "ndi": ndi, "fwf": water}
    given |= {"d_par": d_par, "d_perp": d_perp, "restricted": dot, "d_restricted": np.zeros(count)}
    made = Tissue(**{k: torch.as_tensor(np.array(v)) for k, v in given.items()})
    return made.to(dtype=torch.float32)


class FodStream:
    """Batches of voxels of every kind.

    folder: of a subject's anatomy for the heads; None takes the embedded one. seed: of everything.
    """

    def __init__(
        self,
        folder: str | Path | None,
        heads: int = HEADS,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
    ) -> None:
        self.noise, self.device = noise, device
        self._rng = np.random.default_rng([seed, 606])
        self._source = source_anatomy(folder, seed)
        self._seed, self._made = seed, 0
        self._heads = [self._new_head() for _ in range(heads)]

    def _new_head(self) -> _Head:
        seed = 1000 * (self._seed + 1) + self._made
        self._made += 1
        rng = np.random.default_rng([seed, 607])
        varied = uneven(anatomy.vary(self._source, seed, lesions=10), rng)
        some = rng.permutation(int(varied.mask.sum()))[:_HEAD_SIZE]
        tissue = varied.tissue()[torch.as_tensor(some)]
        white, grey = (v[varied.mask][some] for v in (varied.wm, varied.gm))
        share = torch.as_tensor(white / np.maximum(white + grey, 1e-6), dtype=torch.float32)
        return _Head(tempered(shifted(tissue, rng).with_(s0=None), seed), share)

    def renew(self) -> None:
        """Replace the oldest head."""
        self._heads = [*self._heads[1:], self._new_head()]

    def batch(self, count: int, gradients: Gradients | None = None) -> FodBatch:
        """The next voxels, at a random protocol unless one is given: a scan with its own mix."""
        rng = self._rng
        numbers = rng.multinomial(count, rng.dirichlet([1.2, 1.0, 1.0]))
        parts: list[Tissue] = []
        white = torch.full((count,), torch.nan)
        if numbers[0]:
            parts.append(crossings(int(numbers[0]), rng))
        if numbers[1]:
            parts.append(random_tissue(int(numbers[1]), seed=int(rng.integers(2**31))))
        start = int(numbers[0] + numbers[1])
        if numbers[2]:
            head = self._heads[int(rng.integers(len(self._heads)))]
            some = torch.as_tensor(rng.integers(len(head.tissue), size=int(numbers[2])))
            parts.append(head.tissue[some])
            white[start:] = head.white[some]
        order = torch.as_tensor(rng.permutation(count))
        return seen_through(
            _with_truth(join_tissue(parts)[order], white[order]),
            gradients or training_protocol(rng), self.noise, rng, self.device,
        )  # fmt: skip


def _with_truth(tissue: Tissue, white: torch.Tensor) -> FodVoxels:
    divided = torch.isfinite(white)
    solid = 1 - tissue.fwf
    part = torch.nan_to_num(white)
    share = torch.stack([solid * part, solid * (1 - part), tissue.fwf], 1)
    return FodVoxels(tissue, true_fod(tissue), share, divided)


def seen_through(
    voxels: FodVoxels,
    gradients: Gradients,
    noise: NoiseRange,
    rng: np.random.Generator,
    device: str | torch.device = "auto",
) -> FodBatch:
    """Voxels seen through a protocol, turned at random, with the noise of one scan."""
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    turned = gradients.rotated(turn)
    clean = signal(voxels.tissue, turned, lmax=_SERIES)
    signals, told = noisy(clean, noise, Conditions.draw(noise, rng), rng)
    observer = Observer(turned, device)
    return FodBatch(observer, observer.observe(signals, told), voxels, signals, told)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _turned_from(axis: np.ndarray, angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Axes (n, 3) at the angles (n,) from `axis` (n, 3), on a random side."""
    side = _unit(np.cross(axis, rng.standard_normal(axis.shape)))
    return np.asarray(np.cos(angle)[:, None] * axis + np.sin(angle)[:, None] * side)
