"""The endless stream of simulated voxels: random protocol, random noise, truth known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.compute import pick_device
from fornix.core.gradients import Gradients
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.nets.targets import ANCHORED
from fornix.physics.protocol import SCHEMES, random_protocol, scheme
from fornix.physics.tissue import signal
from fornix.preprocess.noise_correlation import UNKNOWN
from fornix.training.data.farm import Farm
from fornix.training.data.subjects import anatomical_voxels, source_anatomy
from fornix.training.data.tissue import TRAIN_SHIFT, SubjectShift, Voxels, join, prior_voxels

#: Fewer weighted volumes than this leave the noise's level and correlation to be guessed.
FEW_VOLUMES = 10


@dataclass(frozen=True, eq=False)
class Batch:
    """Voxels as one protocol sees them, with their truth.

    Attributes:
        signals: (n, N) noisy, white matter at b = 0 near 1, on the encoder's device as all else.
        sigma: (n,) noise level as the method is given it, which may be wrong.
        sample_weight: (n, M) weight of each metric in the loss. held_out_gradients,
        held_out_clean: Other gradients and the signal (n, M) there, over the scale that `seen` holds.
    """

    encoder: ProtocolEncoder
    seen: EncodedVoxels
    voxels: Voxels
    signals: torch.Tensor
    sigma: torch.Tensor
    sample_weight: torch.Tensor
    held_out_gradients: Gradients
    held_out_clean: torch.Tensor


@dataclass(frozen=True)
class NoiseRange:
    """Noise that training meets: SNR log-uniform, the level given to the method wrong by
    exp(N(0, sigma_error)), a share `several` of scans from more than one coil.
    """

    snr: tuple[float, float] = (6.0, 150.0)
    sigma_error: float = 0.2
    several: float = 0.3
    most_coils: int = 6
    artefacts: float = 0.05

    def calibration_noise(self) -> NoiseRange:
        """Noise of which more comes from several coils, its level known worse."""
        return replace(self, several=0.6, sigma_error=1.25 * self.sigma_error)


def training_protocol(rng: np.random.Generator, few: float = 0.0) -> Gradients:
    """A protocol as labs use them: random, often of few directions at one shell, some of the names.

    Args:
        rng: Source of chance.
        few: Share of those of 6 to 14 directions, beside the few that chance gives.
    """
    while True:
        kind = rng.random()
        if kind < 0.3 + few:
            count = int(rng.integers(7, 16 if kind >= 0.3 else 34))
            made = random_protocol(rng, volumes=(7, count + 1), bmax=(700.0, 1500.0), max_shells=1)
        elif kind < 0.36 + few:
            made = random_protocol(rng, volumes=(34, 270), bmax=(700.0, 1500.0), max_shells=1)
        elif kind < 0.9:
            made = random_protocol(rng, volumes=(7, 270), bmax=(700.0, 4000.0), max_shells=4)
        else:
            made = scheme(str(rng.choice([n for n in SCHEMES if n != "hcp"])))
            turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
            made = made.rotated(turn)
        if len(np.unique(made.bvals)) > 40:  # each b-value costs a series of its own
            made = Gradients(np.round(made.bvals, -2), made.directions)
        if not made.facts.why_not_dti:
            return made


class Protocols:
    """Random protocols, each given several times: to spread directions takes as long as to simulate."""

    def __init__(self, rng: np.random.Generator, times: int, few: float = 0.0) -> None:
        self._rng, self._times, self._few, self._given = rng, times, few, 0

    def next(self) -> Gradients:
        """The same as before, or a new one."""
        if self._given % self._times == 0:
            self._last = training_protocol(self._rng, self._few)
        self._given += 1
        return self._last


def with_artefacts(
    values: torch.Tensor, noise: NoiseRange, rng: np.random.Generator
) -> torch.Tensor:
    """Signals (n, N) of which, in some scans, a volume or two of a few voxels lost signal or spiked."""
    if rng.random() >= noise.artefacts * 4:
        return values
    hit = np.flatnonzero(rng.random(len(values)) < noise.artefacts)
    which = rng.integers(values.shape[1], size=(len(hit), 2))
    factor = torch.ones_like(values)
    rows = torch.from_numpy(hit).to(values.device)[:, None]
    columns = torch.from_numpy(which).to(values.device)
    factor[rows, columns] = torch.from_numpy(rng.uniform(0.3, 1.3, which.shape)).to(values)
    return values * factor


@dataclass(frozen=True)
class Conditions:
    """The noise of one scan.

    Attributes:
        snr: Of white matter at b = 0.
        coils: 1 is Rician.
        sigma_factor: By which the level given to the method is wrong.
        correlation: Of the noise of voxels beside each other, per axis of the grid.
        told_correlation: What the method takes it to be.
    """

    snr: float
    coils: int
    sigma_factor: float
    correlation: tuple[float, float, float]
    told_correlation: tuple[float, float, float]

    @staticmethod
    def draw(noise: NoiseRange, rng: np.random.Generator, weighted: int = 30) -> Conditions:
        """Those of a random scan of so many weighted volumes: few of them hardly show the noise."""
        several = noise.most_coils > 1 and rng.random() < noise.several
        unsure = weighted < FEW_VOLUMES and rng.random() < 0.5
        true = _correlation(rng)
        told = np.clip(true + rng.normal(0, 0.05, 3), 0, 0.9)
        if unsure:
            told = np.array(UNKNOWN)
        return Conditions(
            snr=float(np.exp(rng.uniform(*np.log(noise.snr)))),
            coils=int(rng.integers(2, noise.most_coils + 1)) if several else 1,
            sigma_factor=float(np.exp(rng.normal(0, noise.sigma_error * (2.2 if unsure else 0.8)))),
            correlation=_three(true),
            told_correlation=_three(told),
        )


def _correlation(rng: np.random.Generator) -> np.ndarray:
    """(3,) as scans have it: interpolated and filtered in the plane, hardly so across it."""
    if rng.random() < 0.3:
        return np.zeros(3)
    plane = rng.uniform(0.02, 0.8)
    found = np.array([plane, plane * rng.uniform(0.4, 1.1), rng.uniform(0, 0.45)]).clip(0, 0.85)
    return rng.permutation(found)


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def magnitudes(
    clean: torch.Tensor, level: torch.Tensor, coils: int, draw: torch.Generator,
    field: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Signals (n, N) with the noise of one real channel level (n, 1) in each of the coils' channels.

    Args:
        clean: Noise-free signals.
        level: Standard deviation of a channel.
        coils: How many; their sum of squares is taken.
        draw: Source of chance on the signals' device.
        field: Gives standard normal fields (n, N) of the first coil; white if absent.
    """

    def white() -> torch.Tensor:
        return torch.randn(clean.shape, generator=draw, device=clean.device)

    first = field or white
    total = (clean + level * first()).square() + (level * first()).square()
    for _ in range(2 * coils - 2):
        total += (level * white()).square()
    return total.sqrt()


def noisy(
    clean: torch.Tensor,
    noise: NoiseRange,
    scan: Conditions,
    rng: np.random.Generator,
    draw: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitudes (n, N) with the noise of one scan, and the level (n,) as the method is given it."""

    def normal(size: float) -> torch.Tensor:
        return size * torch.randn(len(clean), generator=draw, device=clean.device)

    level = torch.exp(normal(0.15)) / scan.snr
    values = magnitudes(with_artefacts(clean, noise, rng), level[:, None], scan.coils, draw)
    return values, level * scan.sigma_factor * torch.exp(normal(0.05))


def held_out_gradients(rng: np.random.Generator, measured: Gradients, count: int = 12) -> Gradients:
    """Gradients to predict: half of them at the protocol's own b-values."""
    weighted = measured.bvals[~measured.b0_mask]
    # Few different b-values: each costs a series of its own.
    own, other = rng.choice(weighted, 3), rng.uniform(200, 3500, 3)
    b = rng.permutation(np.resize(np.r_[own, other], count))
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Gradients(b, directions)


class PriorBalancer:
    """Weights that flatten the prior: what a voxel of some true value counts for each metric.

    A posterior mean leans to where the prior is dense: with a prior that is flat in a metric it does
    not lean, so that white matter is not pulled to grey matter's anisotropy nor a lesion to the
    healthy value. The tensor's metrics, which every protocol determines, are flattened wholly; the
    others, of which few measurements tell little, less.
    """

    def __init__(self, metrics: torch.Tensor, bins: int = 24) -> None:
        """metrics: (n, M) true values as the stream draws them."""
        share = torch.tensor([0.5, 99.5], device=metrics.device).double() / 100
        low, high = torch.quantile(metrics[:200_000].double(), share, dim=0).float()
        self._low, self._step = low, ((high - low) / bins).clamp(min=1e-6)
        place = self._place(metrics, bins)
        count = metrics.new_zeros(bins, metrics.shape[1])
        count = count.scatter_add_(0, place, torch.ones_like(metrics))
        power = metrics.new_full((metrics.shape[1],), 0.25)
        power[:ANCHORED] = 1.0
        sample_weight = (count.mean(0) / count.clamp(min=1)).clamp(0.1, 10) ** power
        self._weight = sample_weight / (sample_weight * count).sum(0) * count.sum(0)

    def __call__(self, metrics: torch.Tensor) -> torch.Tensor:
        """(n, M) weights of mean about 1."""
        return self._weight.gather(0, self._place(metrics, len(self._weight)))

    def _place(self, metrics: torch.Tensor, bins: int) -> torch.Tensor:
        return ((metrics - self._low) / self._step).long().clamp(0, bins - 1)


#: Voxels of no place, and voxels of one head.
Lot = tuple[Voxels, Voxels]


class VoxelStream:
    """Batches of voxels of every kind, for voxel-wise networks.

    Args:
        folder: Of a subject's anatomy to draw half of the voxels from (see `anatomy.from_subject`);
            None takes the embedded one.
        size: Voxels kept in the bank.
        seed: Of everything.
        noise: That is met.
        device: Where voxels, signals and features live.
        shift: How far heads differ.
        workers: Processes that make voxels ahead; 0 makes them when they are needed.
    """

    def __init__(
        self,
        folder: str | Path | None,
        size: int = 240_000,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
        shift: SubjectShift = TRAIN_SHIFT,
        workers: int = 0,
    ) -> None:
        self.noise, self.device = noise, pick_device(device)
        self._rng = np.random.default_rng([seed, 505])
        self._draw = torch.Generator(self.device).manual_seed(1000 * seed + 505)
        self._farm = Farm(self._maker(folder, size // 8, shift), 1000 * (seed + 1), workers)
        self._protocols = Farm(protocol_lot, 1000 * (seed + 1) + 500, min(workers, 2))
        self._waiting: list[Gradients] = []
        self._lots: list[Lot] = []
        for _ in range(8):
            self._lots.append(self._new_lot())
        self._balance = PriorBalancer(join([part for lot in self._lots for part in lot]).metrics)

    def _maker(
        self, folder: str | Path | None, size: int, shift: SubjectShift
    ) -> Callable[[int], Lot]:
        """What makes an eighth of the bank from a seed."""
        return partial(voxel_lot, folder, size, shift)

    def _new_lot(self) -> Lot:
        loose, head = self._farm.next()
        return loose.to(self.device), head.to(self.device)

    def renew(self) -> None:
        """Replace the oldest eighth of the bank, if another is ready."""
        if self._farm.ready():
            self._lots = [*self._lots[1:], self._new_lot()]

    def close(self) -> None:
        """End the processes."""
        self._farm.close()
        self._protocols.close()

    def batch(self, count: int, gradients: Gradients | None = None) -> Batch:
        """The next voxels, at a random protocol unless one is given: one population, with its own
        mix of a head's voxels and those of no place.
        """
        rng = self._rng
        share = float(rng.choice([rng.uniform(0, 0.5), rng.uniform(0.5, 1.0), 1.0]))
        some = round(share * count)
        voxels, head = self._lots[int(rng.integers(len(self._lots)))]
        parts = [
            part[torch.as_tensor(rng.integers(len(part), size=number), device=self.device)]
            for part, number in ((head, some), (voxels, count - some))
            if number
        ]
        order = torch.as_tensor(rng.permutation(count), device=self.device)
        if gradients is None:
            if not self._waiting:
                self._waiting = self._protocols.next()
            gradients = self._waiting.pop()
        return observed(join(parts)[order], gradients, self.noise, self._balance, rng, self._draw)


def voxel_lot(folder: str | Path | None, count: int, shift: SubjectShift, seed: int) -> Lot:
    """Half of the voxels of no place, half of one head; what a process makes ahead."""
    half = count // 2
    source = source_anatomy(folder, 0)
    return prior_voxels(half, seed), anatomical_voxels(source, half, seed, shift)


def protocol_lot(seed: int, count: int = 16, few: float = 0.0, times: int = 1) -> list[Gradients]:
    """Some training protocols, each so many times; what a process makes ahead."""
    rng = np.random.default_rng([seed, 508])
    made = [training_protocol(rng, few) for _ in range(count)]
    # Anew: what was found out about them does not travel.
    return [Gradients(m.bvals, m.directions) for m in made for _ in range(times)]


def observed(
    voxels: Voxels,
    gradients: Gradients,
    noise: NoiseRange,
    balance: PriorBalancer,
    rng: np.random.Generator,
    draw: torch.Generator,
) -> Batch:
    """Voxels seen through a protocol with noise; all of them turned by one random rotation."""
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    # Turning the protocol and not the tissue costs nothing: one rotation serves a whole batch.
    gradients = gradients.rotated(turn)
    clean, there, ahead = clean_signals(voxels, gradients, rng)
    scan = Conditions.draw(noise, rng, int((~gradients.b0_mask).sum()))
    signals, sigma = noisy(clean, noise, scan, rng, draw)
    encoder = ProtocolEncoder(gradients, voxels.metrics.device)
    seen = encoder.encode(signals, sigma)
    ahead = ahead / seen.scale[:, None]
    return Batch(encoder, seen, voxels, signals, sigma, balance(voxels.metrics), there, ahead)


def clean_signals(
    voxels: Voxels, gradients: Gradients, rng: np.random.Generator
) -> tuple[torch.Tensor, Gradients, torch.Tensor]:
    """Noise-free signals (n, N), other gradients to predict, and the signals there (n, M)."""
    there = held_out_gradients(rng, gradients)
    both = Gradients(
        np.concatenate([gradients.bvals, there.bvals]),
        np.concatenate([gradients.directions, there.directions]),
    )
    clean = signal(voxels.tissue, both, block=1 << 16 if voxels.metrics.is_cuda else 4096)
    return clean[:, : len(gradients)], there, clean[:, len(gradients) :]
